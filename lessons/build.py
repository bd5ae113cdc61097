"""From one source to notebooks: `lessons/NN_name.py` is cells in jupytext's percent format.

A cell tagged `exercise` is a stub, and the cell tagged `solution` after it is the answer. The *student*
notebook has the stub, with the answer folded away below it; the *solved* one has the answer in place of the
stub. As a plain script the source runs both, one after the other. No later cell may need an answer.

The first code cell draws the picture that a lesson begins with. Its code is folded, so that the picture
stands on the first screen.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
FOLDED = "<details><summary><b>A solution</b></summary>\n\n```python\n{}\n```\n\n</details>"


def find(number: str) -> Path:
    """The source of a lesson by its number ("5", "05") or name; ValueError lists the lessons."""
    for path in SOURCES:
        if number in (path.stem, path.stem[:2], path.stem[:2].lstrip("0")):
            return path
    raise ValueError(f"there is no lesson {number}; the lessons are {', '.join(p.stem for p in SOURCES)}")


def _read(source: Path) -> Any:
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for k, cell in enumerate(notebook.cells):
        cell.id = f"cell-{k:03}"  # jupytext draws random ones
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def student(source: Path) -> Any:
    """The notebook with stubs; the answers are folded away."""
    notebook = _read(source)
    for k, cell in enumerate(notebook.cells):
        if "solution" in _tags(cell):
            notebook.cells[k] = nbformat.v4.new_markdown_cell(FOLDED.format(cell.source), id=cell.id)
    return notebook


def solved(source: Path) -> Any:
    """The notebook with the answers in place of the stubs."""
    notebook = _read(source)
    notebook.cells = [cell for cell in notebook.cells if "exercise" not in _tags(cell)]
    return notebook


def execute(notebook: Any, timeout: int = 600) -> Any:
    """The notebook with its outputs: pictures for widgets, no times, so that a rebuild changes little."""
    notebook = copy.deepcopy(notebook)
    before = os.environ.get("MINIDL_STATIC")
    os.environ["MINIDL_STATIC"] = "1"  # the kernel inherits it
    try:
        nbclient.NotebookClient(
            notebook, timeout=timeout, record_timing=False, coalesce_streams=True,
            resources={"metadata": {"path": str(FOLDER)}},
        ).execute()  # fmt: skip
    finally:
        if before is None:
            del os.environ["MINIDL_STATIC"]
        else:
            os.environ["MINIDL_STATIC"] = before
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop("execution", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def code(notebook: Any) -> str:
    """All its code, as one script."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def write(notebook: Any, path: Path) -> None:
    """Write a notebook, whole or not at all."""
    from minidl.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n")
