"""Cells in parallel processes within the cores of the machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any

from minidl.segment.ablate.cells import Cell, work
from minidl.segment.splits import Splits


def run_cells(
    cells: Sequence[Cell], splits: Mapping[str, Splits], processes: int, threads: int, device: str = "cpu"
) -> None:
    """Run all cells that have no result yet, `processes` at a time with `threads` threads each, on a device.

    A cell that fails does not stop the others. At the end ChildProcessError names those that failed;
    KeyboardInterrupt, once every child has saved where it stands, if somebody pressed Ctrl-C.
    """
    from tqdm import tqdm

    waiting = [cell for cell in cells if cell.result() is None]
    context = _context()
    running: dict[Any, tuple[Any, Cell]] = {}  # by what becomes readable when the process ends
    failed = []
    with tqdm(total=len(cells), initial=len(cells) - len(waiting), desc="cells", unit="cell") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    cell = waiting.pop(0)
                    arguments = cell, splits[cell.data_set], threads, device
                    process = context.Process(target=work, args=arguments)
                    process.start()
                    running[process.sentinel] = process, cell
                bar.set_postfix_str("; ".join(str(cell) for _, cell in running.values()))
                for sentinel in wait(list(running), timeout=1):
                    process, cell = running.pop(sentinel)
                    process.join()
                    if cell.result() is None:
                        failed.append(f"{cell} (exit status {process.exitcode}): {_last_line(cell)}")
                    bar.update()
        except KeyboardInterrupt:  # the children got it too, and save where they stand
            for process, _ in running.values():
                process.join()
            raise
    if failed:
        raise ChildProcessError(f"{len(failed)} of {len(cells)} cells failed; " + "; ".join(failed))


def _context() -> Any:
    """How to start children: from a clean process that has imported all it needs, where there are such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["minidl.segment.ablate.cells"])
    return context


def _last_line(cell: Cell) -> str:
    path = cell.folder / "log.txt"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "it left no message") + f" ({path})"
