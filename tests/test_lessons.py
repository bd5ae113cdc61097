"""Every lesson: its notebook comes from its source, its numbers hold, exercises can be failed and solved."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="the lessons' tools are in the extra `lessons`")

from lessons import build
from lessons.site import SENTENCE, title
from minidl.cli import main

ROOT = Path(__file__).parents[1]
LARGEST = 1_500_000  # bytes of a notebook with its pictures
every_lesson = pytest.mark.parametrize("source", build.SOURCES, ids=lambda path: path.stem)


def unanswered(source):
    """The student's notebook; every check is made once more, with None for all that the stub defines."""
    from nbformat.v4 import new_code_cell

    notebook = build.student(source)
    cells, stub = [], ""
    for cell in notebook.cells:
        cells.append(cell)
        if "exercise" in cell.metadata.get("tags", []):
            stub = cell.source
        elif cell.cell_type == "code" and stub and "check." in cell.source:
            nothing = "\n".join(f"{name} = None" for name in defined(stub))
            cells.append(new_code_cell(f"{nothing}\n{cell.source}\n{stub}"))
            stub = ""
    notebook.cells = cells
    return notebook


def defined(script):
    """The names that a script binds, outside of functions."""
    for node in ast.parse(script).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        else:
            yield from (
                n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            )


def run(notebook, **environment):
    """Run a notebook's code as a script of its own; returns what was checked: (name, whether it is right)."""
    ending = "import json\nfrom minidl import check\nprint('\\n' + json.dumps(check.results))"
    script = f"{build.code(notebook)}\n\n{ending}"
    done = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, cwd=ROOT / "lessons",
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@every_lesson
def test_the_notebook_is_made_from_the_source(source):
    import nbformat

    written = nbformat.read(source.with_suffix(".ipynb"), 4)
    made = build.student(source)
    assert [(c.cell_type, c.source) for c in written.cells] == [
        (c.cell_type, c.source) for c in made.cells
    ], f"run `python -m lessons build {source.stem[:2]}`"
    first, *others = [cell for cell in written.cells if cell.cell_type == "code"]
    assert any("image/png" in output.get("data", {}) for output in first.outputs), "first of all, a picture"
    folded = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in (first, *others)]
    assert folded == [True] + [False] * len(others), "its code is folded, to keep it on the first screen"
    outputs = [output for cell in written.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.data for output in outputs if "data" in output]
    bare = [data["text/plain"] for data in shown if "image/png" not in data]
    assert not re.search(r" at 0x|Text\(|^(True|False|None)$", "\n".join(bare), re.MULTILINE), (
        "a value that a cell happens to end with tells nothing: plt.show()"
    )
    assert source.with_suffix(".ipynb").stat().st_size < LARGEST


@every_lesson
def test_the_source_has_the_form_of_a_lesson(source):
    notebook = build.student(source)
    assert re.match(rf"{source.stem[:2]} · ", title(notebook)) and SENTENCE.search(notebook.cells[0].source)
    tags = [tag for cell in build._read(source).cells for tag in cell.metadata.get("tags", [])]
    assert tags and tags == ["exercise", "solution"] * (len(tags) // 2), (
        "each exercise has its solution after it"
    )
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for part in ("## Exercises", "## What you can now explain", "<summary>Hint</summary>", "redict"):
        assert part in text, f"{source.stem}: {part} is missing"
    assert f"({source.stem}.ipynb)" in (ROOT / "lessons" / "README.md").read_text()


def test_the_map_of_the_lecture_names_sections_that_exist():
    readme = (ROOT / "lessons" / "README.md").read_text()
    rows = re.findall(r"^\| (.+) \| (\d\d) \| (.+) \|$", readme.split("## Where each point")[1], re.MULTILINE)
    assert len(rows) > 40 and {number for _, number, _ in rows} == {f"{n:02}" for n in range(1, 18)} - {"13"}
    for point, number, section in rows:
        source = build.find(number)
        text = source.read_text(encoding="utf-8")
        assert re.search(rf"^# #+ (\d\d · )?{re.escape(section)}$", text, re.MULTILINE), (
            f"{point}: {source.name} has no section {section!r}"
        )


@pytest.mark.slow
@every_lesson
def test_stubs_and_missing_answers_fail_their_checks_and_solutions_pass(source):
    stubs, answers = (run(make(source), MINIDL_FAST="1") for make in (unanswered, build.solved))
    assert stubs and not any(right for _, right in stubs), f"a stub passes: {stubs}"
    assert all(right for _, right in answers) and 2 * len(answers) == len(stubs), answers


@pytest.mark.slow
@every_lesson
def test_it_runs_in_full(source):
    assert all(right for _, right in run(build.solved(source), MINIDL_FAST=""))


@pytest.mark.slow
def test_a_site_is_made_of_them(tmp_path):
    from lessons.site import write_site

    pytest.importorskip("nbconvert")
    write_site(tmp_path)
    contents = (tmp_path / "index.html").read_text()
    assert contents.count("<img") == len(build.SOURCES)
    for source in build.SOURCES:
        assert f'href="{source.stem}.html"' in contents
        page = (tmp_path / f"{source.stem}.html").read_text()
        assert page.index("<summary>The code of this picture") < page.index("<img")
        assert page.count("<summary>The code of this picture") == 1
        assert not re.search("<script|<link", page), "a page needs no network"
    assert "<math" in page


@pytest.mark.parametrize("number", ["0", "19", "-1", "five", "1.5"])
def test_a_lesson_that_is_not_there(number, capsys):
    assert main(["lesson", "--", number]) == 2
    assert f"there is no lesson {number}; " in capsys.readouterr().err


@pytest.mark.slow
def test_jupyter_opens_the_map_as_a_page(tmp_path):
    pytest.importorskip("jupyterlab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {"ServerApp": {"port": port, "token": "", "allow_root": True, "open_browser": False}}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(config))
    course = subprocess.Popen(
        [sys.executable, "-m", "minidl.cli", "lesson"], start_new_session=True, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(tmp_path),
             "JUPYTER_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/lab/api/settings/@jupyterlab/docmanager-extension:plugin"
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:
                viewers = json.load(answer)["schema"]["properties"]["defaultViewers"]["default"]
                break
            time.sleep(0.5)
        assert course.poll() is None and viewers == {"markdown": "Markdown Preview"}
    finally:
        os.killpg(course.pid, signal.SIGKILL)
