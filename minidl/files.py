"""Files that are either whole or not there."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left of their files; call it only while nobody writes there."""
    for path in folder.iterdir():
        if re.match(r"\.[0-9a-f]{8}-", path.name):
            path.unlink()


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; whatever is written there becomes `path` at the end.

        with atomic_write("run/weights.npz") as temporary:
            np.savez(temporary, w=w)

    A reader sees the old file or the new one, never half a file, even when the power fails. If
    the block raises, `path` stays as it was and the temporary file is removed. Missing folders
    are made. The temporary name ends in the whole name of `path`, so writers that look at the
    suffix (`.npz`, `.nii.gz`, `.png`) do as they would for `path` itself.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same folder is the same file system: only there is os.replace a single step.
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the bytes must reach the disk before the name does
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # there is none left after a success
