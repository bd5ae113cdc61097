"""The job behind `minidl ablate`: train every arm with every seed on every data set, and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from minidl.data import open_dataset
from minidl.files import atomic_write, remove_unfinished
from minidl.kernels.threads import usable_cpus
from minidl.segment import metrics
from minidl.segment.ablate import figure, lecture, table
from minidl.segment.ablate.arms import Arm, choose_arms
from minidl.segment.ablate.cells import COLLAPSED, Cell, Result
from minidl.segment.ablate.pool import run_cells
from minidl.segment.ablate.statistics import Effect, effects
from minidl.segment.ablate.verdict import verdict
from minidl.segment.lock import only_run
from minidl.segment.run import RATIO, check_dims, load_splits, make_config
from minidl.segment.splits import Splits

SEEDS = 5


def ablate(
    data: Sequence[Path] = (),
    arms: Sequence[str] | None = None,
    seeds: int = SEEDS,
    dims: int | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    split: Sequence[int] = RATIO,
    processes: int | None = None,
    out: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Compare arms on folders of labelled images (none: generated phantoms); returns the folder of results.

    Each cell trains for so many minutes or steps. The same call in the same folder goes on after a kill:
    cells that are finished are kept, also when arms or seeds are added. Only budgets of steps can be repeated
    to the last bit; with minutes, arms that compute less per step take more of them.
    """
    chosen = choose_arms(arms)
    cores = usable_cpus()
    if processes is not None and processes > cores:
        raise ValueError(f"ablate: {processes} processes need as many cores, there are {cores}")
    folders: dict[str, Path | None] = {folder.absolute().name: folder for folder in data}
    if len(folders) < len(data):
        raise ValueError(f"ablate: folders must have different names, got {', '.join(map(str, data))}")
    if not folders:
        folders = {f"phantom-{dims or 2}d": None}
    out = out or Path("runs") / f"{'-'.join(folders)}-ablation"
    out.mkdir(parents=True, exist_ok=True)
    with only_run(out):
        remove_unfinished(out)
        splits: dict[str, Splits] = {}
        cells: list[Cell] = []
        for name, folder in folders.items():
            rank = check_dims(open_dataset(folder), dims) if folder else dims or 2
            dataset, splits[name] = load_splits(folder, rank, split, None)
            print(f"{name}: {splits[name]}")
            digest = splits[name].digest()
            for seed in range(seeds):
                for arm in chosen:
                    try:
                        config = make_config(
                            dataset, splits[name], rank, data=folder, ratio=tuple(split), minutes=minutes,
                            steps=steps, seed=seed, **{"batch": batch, **arm.options},
                        )  # fmt: skip
                    except ValueError as error:
                        raise ValueError(f"ablate: arm {arm.name}: {error}") from error
                    cells.append(Cell(name, arm.name, seed, config, digest, out / "cells"))
        cells.sort(key=lambda cell: cell.seed)  # whole seeds first: what is there early can be compared
        at_a_time = cores if device == "cpu" else 1  # a GPU is busy with one
        processes = processes or min(at_a_time, len(cells))
        threads = cores // processes
        print(f"{len(cells)} cells of {cells[0].config.budget} (data sets: {len(folders)}, "
              f"arms: {len(chosen)}, seeds: {seeds}); {processes} at a time, threads of each: {threads}. "
              "The same command goes on after a stop.")  # fmt: skip
        run_cells(cells, splits, processes, threads, device)
        found = {(cell.data_set, cell.arm, cell.seed): cell.result() for cell in cells}
        results = {
            name: {arm.name: [r for s in range(seeds) if (r := found[name, arm.name, s])] for arm in chosen}
            for name in folders
        }
        write_ablation(out, chosen, results)
    print(f"Results: {out}")
    return out


def write_ablation(
    out: Path, arms: Sequence[Arm], results: Mapping[str, Mapping[str, Sequence[Result]]]
) -> None:
    """Leave report.md, ablation.png, effects.csv and cells.csv in `out` and print the report.

    `results` by data set and arm, in the order of the seeds.
    """
    found = {name: effects(arms, by_arm) for name, by_arm in results.items()}
    cells = [row for name in found for row in table.cell_rows(name, found[name], results[name])]
    metrics.write_csv(out / "cells.csv", cells)
    metrics.write_csv(
        out / "effects.csv", [r for name in found for r in table.effect_rows(name, found[name])]
    )
    figure.draw(found, out / "ablation.png")
    first = next(iter(results.values()))[arms[0].name]
    text = _report(found, first[0].config.budget)
    with atomic_write(out / "report.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def _report(found: Mapping[str, Sequence[Effect]], budget: str) -> str:
    seeds = next(iter(found.values()))[0].seeds
    parts = [
        "# Ablation",
        f"Seeds of each arm: {seeds}; budget of each training: {budget}. The first row is the mean Dice over "
        "classes and test cases, the others are changes of it in per cent with 95 % intervals.",
        table.change_table(found),
        "![Change of Dice for each arm: every seed, mean and interval](ablation.png)",
        "## What may be said",
    ]
    for name, effects_ in found.items():
        parts += [f"{name}:", "\n".join(f"- {line}" for line in verdict(effects_))]
    parts += [
        "All this is about other seeds, on these cases and with this budget: first weights and patches drawn "
        "anew. It says nothing about other data, or longer trainings.",
        "Intervals: Student's t of the paired differences, arm minus vanilla of the same seed, each for "
        f"itself. Collapsed: Dice of a class below {COLLAPSED}, or numbers that were not finite (Dice 0). "
        "Where runs collapse, differences are not normal, and the interval is a rough guide: see the dots.",
        f"## The lecture's table\n\n{lecture.SOURCE}; without seeds or intervals.",
        table.lecture_table(),
    ]
    return "\n\n".join(parts) + "\n"
