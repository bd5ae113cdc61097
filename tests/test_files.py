"""Atomic writing: all or nothing."""

import numpy as np
import pytest

from minidl.files import atomic_write


def test_success_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"  # untouched until the block ends
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_missing_folders_are_made_and_the_suffix_is_kept(tmp_path):
    path = tmp_path / "run" / "1" / "scan.nii.gz"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("scan.nii.gz")
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"


def test_writers_that_look_at_the_suffix(tmp_path):
    path = tmp_path / "weights.npz"
    with atomic_write(path) as temporary:
        np.savez(temporary, w=np.arange(3))
    with np.load(path) as file:
        assert file["w"].tolist() == [0, 1, 2]
