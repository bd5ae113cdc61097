"""The executed lessons as web pages that need no server and no network: a page a lesson, and the contents."""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat

from lessons.build import SOURCES
from minidl.files import atomic_write

STYLE = """
body { max-width: 52rem; margin: 0 auto; padding: 1rem; font: 1.05rem/1.6 system-ui, sans-serif; }
math { font-size: 1.15em; }
img, svg { max-width: 100%; height: auto; }
pre { overflow-x: auto; }
nav { display: flex; justify-content: space-between; gap: 1rem; flex-wrap: wrap; margin: 1rem 0; }
.jp-CodeCell > details > summary { cursor: pointer; margin: 0.5rem 0; font-size: 0.9rem; }
.contents { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 2rem;
            list-style: none; padding: 0; }
.contents img { display: block; width: 100%; height: 9rem; object-fit: contain;
                object-position: left bottom; }
.contents p { margin: 0.3rem 0; font-size: 0.85rem; line-height: 1.4; }
.contents p::first-letter { text-transform: uppercase; }
@media (min-width: 761px) { .jp-CodeCell > details > summary { margin-left: 5rem; } }
"""
TEMPLATE = """
{%- extends "lab/index.html.j2" -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block input_group -%}
{%- if cell.metadata.get("jupyter", {}).get("source_hidden") -%}
<details><summary>The code of this picture</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{%- endblock -%}
"""  # no scripts from elsewhere; folded code as in JupyterLab
CODE_OR_FORMULA = re.compile(r"(```.*?```|`[^`]*`)|\$\$(.+?)\$\$|\$(.+?)\$", re.DOTALL)
SENTENCE = re.compile(r"\*\*At the end you own this sentence:\*\* (.+?)\n\n", re.DOTALL)


def title(notebook: nbformat.NotebookNode) -> str:
    """The first heading of a notebook."""
    for line in notebook.cells[0].source.splitlines():
        if line.startswith("# "):
            return line[2:]
    raise ValueError("a lesson begins with its title: # ...")


def write_site(out: Path) -> None:
    """Write `out`/index.html and a page for every lesson whose notebook is there."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(raw_template=TEMPLATE)
    notebooks = [(path.stem, nbformat.read(path.with_suffix(".ipynb"), 4)) for path in SOURCES]
    entries = "\n".join(_entry(stem, notebook) for stem, notebook in notebooks)
    out.mkdir(parents=True, exist_ok=True)
    for k, (stem, notebook) in enumerate(notebooks):
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _with_formulas(cell.source)
        page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title(notebook)}})
        before = _link(notebooks[k - 1], "← {}") if k else "<span></span>"
        after = _link(notebooks[k + 1], "{} →") if k + 1 < len(notebooks) else "<span></span>"
        links = f'<nav>{before}<a href="index.html">Contents</a>{after}</nav>'
        page = page.replace("</head>", f"<style>{STYLE}</style></head>", 1)
        page = page.replace("<main>", f"<main>{links}", 1).replace("</main>", f"{links}</main>", 1)
        _write(out / f"{stem}.html", page)
    _write(
        out / "index.html",
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>minidl: the lessons</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f'<body><h1>From one neuron to nnU-Net</h1><ol class="contents">{entries}</ol></body></html>',
    )


def _entry(stem: str, notebook: nbformat.NotebookNode) -> str:
    """A lesson in the contents: its first picture, its title, and the sentence that one owns at the end."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    picture = next(output.data["image/png"] for output in outputs if "image/png" in output.get("data", {}))
    sentence = SENTENCE.search(notebook.cells[0].source)[1].replace("*", "")
    return (
        f'<li><a href="{stem}.html"><img alt="" src="data:image/png;base64,{picture}">'
        f"{html.escape(title(notebook))}</a><p>{html.escape(sentence)}</p></li>"
    )


def _with_formulas(text: str) -> str:
    """Markdown with its TeX as MathML, which a browser draws by itself."""
    from latex2mathml.converter import convert

    def drawn(match: re.Match[str]) -> str:
        code, display, inline = match.groups()
        return code or convert(display or inline, display="block" if display else "inline")

    return CODE_OR_FORMULA.sub(drawn, text)


def _link(entry: tuple[str, nbformat.NotebookNode], text: str) -> str:
    stem, notebook = entry
    return f'<a href="{stem}.html">{text.format(html.escape(title(notebook)))}</a>'


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)
