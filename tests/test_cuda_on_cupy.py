"""The CUDA kernels on a card: the cases of their tests on CuPy arrays, and under compute-sanitizer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from cuda_shim import shim

from minidl import backend
from minidl.kernels import cuda_loss, cuda_norm

TYPES = "float32", "float64", "float16"


class OnCupy:
    """Launchers that take NumPy arrays to the card, and bring back what they return and what they change."""

    def __init__(self, launchers):
        self._launchers = launchers

    def __getattr__(self, name):
        def run(*arguments, **options):
            cupy, sent = backend.cupy(), []

            def send(array):
                sent.append((array, cupy.asarray(array)))
                return sent[-1][1]

            found = getattr(self._launchers, name)(*_each(np.ndarray, send, arguments), **options)
            for here, there in sent:
                here[...] = cupy.asnumpy(there)
            return _each(cupy.ndarray, cupy.asnumpy, found)

        return run


def _each(kind, function, x):
    """x with the function of each array in it, in nested lists and tuples."""
    if isinstance(x, kind):
        return function(x)
    return type(x)(_each(kind, function, part) for part in x) if type(x) in (list, tuple) else x


def check_on_cupy(name: str) -> None:
    bodies = import_module(f"test_cuda_{name}")
    launchers = f"cuda_{name}"
    with ExitStack() as changed:
        changed.enter_context(mock.patch.object(bodies, launchers, OnCupy(getattr(bodies, launchers))))
        for module in cuda_loss, cuda_norm:
            changed.enter_context(mock.patch.object(module, "STRIP", 16))
        for case in bodies.CASES.values():
            for dtype in TYPES:
                bodies.check(case, dtype)


every_kernel = pytest.mark.parametrize("name", ["conv", "loss", "norm", "optim", "pool"])


@pytest.mark.gpu
@every_kernel
def test_kernels_on_a_card_are_the_references(name):
    check_on_cupy(name)


@pytest.mark.gpu
@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="needs compute-sanitizer")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
@every_kernel
def test_compute_sanitizer_finds_nothing(name, tool):
    script = f"import sys; sys.path[:0] = ['tests']; import test_cuda_on_cupy as t; t.check_on_cupy({name!r})"
    done = subprocess.run(
        ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1", sys.executable, "-c", script],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")
@every_kernel
def test_the_same_on_the_cpu(name, monkeypatch):
    """That these tests would run on a card, too."""
    copies = SimpleNamespace(ndarray=np.ndarray, asarray=np.array, asnumpy=np.array)
    monkeypatch.setattr(backend, "cupy", lambda: copies)
    with shim.on_the_cpu():
        check_on_cupy(name)
