"""What is made from the lessons' sources.

`python -m lessons build [NN ...]`: run lessons, write notebooks with outputs beside the sources.
`python -m lessons solved FOLDER`: notebooks with solutions in place. `python -m lessons site FOLDER`: pages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from lessons import build
from lessons.site import write_site


def main() -> None:
    """Make notebooks or pages."""
    parser = argparse.ArgumentParser("python -m lessons", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("build", help="run lessons and write NN_name.ipynb beside each source")
    run.add_argument("lessons", nargs="*", metavar="NN", help="default: all")
    for name, text in (
        ("solved", "notebooks with the solutions"),
        ("site", "the executed lessons as web pages"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("out", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.command == "site":
        write_site(options.out)
        return
    chosen = [build.find(n) for n in getattr(options, "lessons", [])] or build.SOURCES
    bar = tqdm(chosen, unit="lesson")
    for source in bar:
        bar.set_postfix_str(source.stem)
        if options.command == "build":
            build.write(build.execute(build.student(source)), source.with_suffix(".ipynb"))
        else:
            build.write(build.solved(source), options.out / f"{source.stem}_solved.ipynb")


if __name__ == "__main__":
    main()
