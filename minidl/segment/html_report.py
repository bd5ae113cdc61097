"""The report of a run as one HTML file that can be sent to a colleague.

Everything is inside: pictures as data, curves as SVG, the few lines that sort tables. Nothing is loaded from
elsewhere, and without scripts all of it can still be read. Colours are those of `minidl.plot`.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from minidl import plot
from minidl.files import atomic_write
from minidl.segment.html_charts import Line, line_chart, strip_chart
from minidl.segment.metrics import Row, bootstrap_interval, mean
from minidl.segment.report import Scores, detail_rows, dice_rows, verdict

ENLARGED = 256  # pixels: smaller pictures are enlarged in whole steps, so that voxels stay squares

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1f23; --quiet: #5d6670; --rule: #d9dee3;
        --panel: #f4f6f8; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --ink: #e8eaed; --quiet: #9aa4ae; --rule: #343a41;
          --panel: #1d2125; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
.quiet, figcaption { color: var(--quiet); font-size: .875rem; }
.cards, .charts { display: grid; gap: 1rem; margin: 1.5rem 0; }
.cards { grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); }
.card { background: var(--panel); border-left: .35rem solid var(--color); border-radius: .25rem;
        padding: .9rem 1rem; }
.card b { display: block; font-size: 2rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.planes { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .5rem; align-items: end; }
figure { margin: 0; max-width: 40rem; }
.planes img { display: block; width: 100%; max-height: 18rem; object-fit: contain;
              object-position: left bottom; image-rendering: pixelated;
              background: #000; border-radius: .2rem; }
@media (max-width: 40rem) {
  .planes { grid-template-columns: repeat(2, minmax(0, 1fr)); } main { padding-top: 1.25rem; }
}
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .75rem 0;
          list-style: none; font-size: .875rem; }
.legend i { display: inline-block; width: .85rem; height: .85rem; margin-right: .4rem; border-radius: .15rem;
            vertical-align: -.1rem; border: 1px solid var(--quiet); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--rule); text-align: left;
         vertical-align: top; }
th { white-space: nowrap; font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
th button { all: unset; cursor: pointer; }
th button:hover, th button:focus-visible { color: var(--accent); text-decoration: underline; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .name { font-weight: 600; }
svg .tick { fill: var(--quiet); font-size: 12px; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--quiet); }
"""

# A click on a heading sorts its table; numbers that are missing stay last.
SCRIPT = """
for (const heading of document.querySelectorAll("th")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  heading.append(button);
  button.onclick = () => {
    const rising = heading.getAttribute("aria-sort") !== "ascending", column = heading.cellIndex;
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = heading.closest("table").tBodies[0];
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
      return rising ? order : -order;
    };
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  };
}
"""


def write_html_report(
    path: str | os.PathLike[str],
    title: str,
    facts: Mapping[str, Any],
    scores: Scores,
    history: Sequence[Mapping[str, Any]],
    examples: Sequence[plot.Case],
) -> None:
    """Write the report as one HTML file, whole or not at all.

    `facts` and `scores` are those of `write_report`, `history` the rows of `plot.curves`, and `examples` the
    cases to be shown, volumes in three planes each.
    """
    verdicts = "".join(f"<p>{_bold(verdict(scores, c))}</p>" for c in range(len(scores.classes)))
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{len(scores.cases)} test cases, which the network has never seen.</p>',
        f'<div class="cards">{_cards(scores)}</div>',
        verdicts,
        '<p class="quiet">± is the 95 % confidence interval of the mean difference. The choice of test '
        "cases is in it; another training run or another source of images is not.</p>",
        "<h2>What it sees</h2>",
        _legend(scores.classes, plot.class_colors(len(scores.classes) + 1)[1:]),
        _legend(plot.OUTCOMES, list(plot.OUTCOMES.values())),
        *(_example(case, scores.classes) for case in examples),
        "<h2>Every test case</h2>",
        _strips(scores),
        "<h2>Training</h2>",
        _curves(history),
        "<h2>Dice beside trivial methods</h2>",
        '<p class="quiet">Each class counts the cases that contain it. p10: one case in ten is worse.</p>',
        table(dice_rows(scores)),
        "<h2>Other measures</h2>",
        '<p class="quiet">hd95, the 95 % Hausdorff distance, and asd, the average surface distance, in mm. '
        "Missed: none of the class was predicted, though it is there. False positive: some of it was, in a "
        "case without it.</p>",
        table(detail_rows(scores)),
        "<h2>All numbers</h2>",
        table([{"case": name, **row} for name, rows in zip(scores.cases, scores.rows) for row in rows]),
        "<h2>What was trained on what</h2>",
        table([{"what": key, "value": str(value)} for key, value in facts.items()]),
    ]
    with atomic_write(path) as temporary:
        temporary.write_text(
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<main>\n"
            + "\n".join(parts)
            + f"\n</main>\n<script>{SCRIPT}</script>\n</html>\n",
            encoding="utf-8",
        )


# ---- numbers ----------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows as a table; numbers on the right, fractions with three decimals, "-" for what is missing."""
    columns = list(rows[0])
    numeric = {c for c in columns if not any(isinstance(row.get(c), str) for row in rows)}
    attribute = {c: ' class="number"' if c in numeric else "" for c in columns}
    head = "".join(f"<th{attribute[c]}>{escape(c.replace('_', ' '))}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(c), attribute[c]) for c in columns) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any, attribute: str) -> str:
    if isinstance(value, str):
        return f"<td{attribute}>{escape(value)}</td>"
    if value is None or math.isnan(value):
        return f'<td{attribute} data-value="">-</td>'
    text = f"{value:.3f}" if isinstance(value, float) and math.isfinite(value) else str(value)
    return f'<td{attribute} data-value="{str(value).replace("inf", "1e999")}">{text}</td>'


def _cards(scores: Scores) -> str:
    """The mean Dice of each class, in large figures."""
    colors = plot.class_colors(len(scores.classes) + 1)[1:]
    cards = []
    for c, name in enumerate(scores.classes):
        dice = scores.table("dice")[scores.table("true_voxels")[:, c] > 0, c]
        low, high = bootstrap_interval(dice)
        interval = f"95 % interval {low:.3f} to {high:.3f}" if len(dice) > 1 else f"{len(dice)} cases"
        number = f"{mean(dice):.3f}" if len(dice) else "-"
        cards.append(
            f'<div class="card" style="--color: {_css(colors[c])}">{escape(name)}: mean Dice<b>{number}</b>'
            f'<span class="quiet">{interval}</span></div>'
        )
    return "".join(cards)


def _bold(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))


# ---- pictures ---------------------------------------------------------------------------------------


def _example(case: plot.Case, classes: Sequence[str]) -> str:
    """A case: image, truth, prediction and errors, in one row per plane."""
    dice = ", ".join(
        f"{escape(c)} {'absent' if math.isnan(d) else f'{d:.3f}'}" for c, d in zip(classes, case.dice)
    )
    dims = case.truth.ndim
    rows = []
    for axis in range(dims) if dims == 3 else [0]:
        plane = case.plane(axis)
        where = f", slice {plane.place} of axis {axis}" if dims == 3 else ""
        n = len(classes) + 1
        pictures = {
            "image": plot.label_overlay(plane.image, np.zeros_like(plane.truth), n),
            "truth": plot.label_overlay(plane.image, plane.truth, n),
            "prediction": plot.label_overlay(plane.image, plane.prediction, n),
            "errors": plot.error_overlay(plane.image, plane.prediction, plane.truth),
        }
        rows += [
            f'<figure><img src="{_data_uri(picture, plane.spacing)}" '
            f'alt="{name} of {escape(case.name)}{where}">'
            f"<figcaption>{name}{where}</figcaption></figure>"
            for name, picture in pictures.items()
        ]
    return f'<h3>{escape(case.name)}: Dice {dice}</h3><div class="planes">{"".join(rows)}</div>'


def _data_uri(picture: np.ndarray, spacing: Sequence[float]) -> str:
    """RGB in [0, 1], (rows, columns, 3), as a PNG in the proportions of its voxels."""
    import PIL.Image

    scale = [s / min(spacing) for s in spacing]
    enlarged = max(1, ENLARGED // max(math.ceil(n * s) for n, s in zip(picture.shape, scale)))
    index = [
        ((np.arange(max(1, round(n * s * enlarged))) + 0.5) / (s * enlarged)).astype(int).clip(0, n - 1)
        for n, s in zip(picture.shape, scale)
    ]
    pixels = (picture[np.ix_(*index)] * 255).round().astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).quantize(128).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _legend(names: Any, colors: Iterable[Any]) -> str:
    items = (f'<li><i style="background: {_css(c)}"></i>{escape(n)}</li>' for n, c in zip(names, colors))
    return f'<ul class="legend">{"".join(items)}</ul>'


def _css(color: Any) -> str:
    if isinstance(color, str):
        return color
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)


# ---- charts -----------------------------------------------------------------------------------------


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss and validation Dice against the training step."""
    if not history:
        return "<p>There is no history.</p>"
    steps = [row["step"] for row in history]
    names = [key for key in history[0] if key.startswith("dice ")]
    colors = plot.class_colors(len(names) + 1)[1:]
    values = lambda key: [row.get(key, math.nan) for row in history]
    loss = [
        Line("training", plot.OKABE_ITO[0], values("train_loss")),
        Line("validation", plot.OKABE_ITO[1], values("validation_loss")),
    ]
    dice = [Line(key.removeprefix("dice "), _css(color), values(key)) for key, color in zip(names, colors)]
    return (
        f'<div class="charts"><figure>{line_chart("loss", steps, loss)}</figure>'
        f"<figure>{line_chart('validation Dice', steps, dice, limits=(0, 1))}</figure></div>"
    )


def _strips(scores: Scores) -> str:
    """The Dice of every test case that contains the class, a dot each; means of trivial methods as marks."""
    present = scores.table("true_voxels") > 0
    dice = scores.table("dice")
    colors = plot.class_colors(len(scores.classes) + 1)[1:]
    names = np.array(scores.cases)
    strips = [
        (
            name,
            _css(colors[c]),
            list(zip(names[present[:, c]], dice[present[:, c], c])),
            {method: mean(values[present[:, c], c]) for method, values in scores.baselines.items()},
        )
        for c, name in enumerate(scores.classes)
    ]
    return (
        f"<figure>{strip_chart('Dice', strips)}<figcaption>A dot for each test case, its name when you point "
        "at it; the thick line is the mean, the thin ones are the means of the trivial methods.</figcaption>"
        "</figure>"
    )
