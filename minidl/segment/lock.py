"""A folder for one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = ".lock"


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; ValueError that names the process that holds it already.

    The operating system holds the lock and lets go of it when the process ends, however it ends: a file that
    a killed run left behind locks nothing.
    """
    path = folder / NAME
    with open(path, "a+b") as file:
        if not _try_lock(file.fileno()):
            file.seek(0)
            owner = file.read(20).decode(errors="replace").strip() or "unknown"
            raise ValueError(
                f"{folder} is in use by another run (process {owner}); wait for it or choose another"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        yield  # the file stays: whoever removed it could take a lock from under a run that has just opened it


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        attempt = lambda: msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        attempt = lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        attempt()
    except OSError:
        return False
    return True
