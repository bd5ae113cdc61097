"""`python -m benchmarks gpu --dry-run`: the whole benchmark with tiny sizes, on the stand-in for CuPy."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch")

import minidl
from benchmarks import gpu
from minidl import backend, backends


@pytest.fixture
def one_thread():
    import torch

    threads = minidl.get_num_threads(), torch.get_num_threads()
    yield 1
    minidl.set_num_threads(threads[0])
    torch.set_num_threads(threads[1])


def test_the_dry_run_fills_every_table(monkeypatch, one_thread, capsys):
    from strict import stand_in

    stand_in.install(monkeypatch)
    rows = gpu.main(one_thread, rounds=1, dry_run=True)
    printed = capsys.readouterr().out
    assert printed.startswith("dry run; PyTorch")
    layers, nets = sum(map(len, gpu.TINY_LAYERS.values())), len(gpu.TINY_NETS)
    for kind in gpu.PRECISIONS:
        assert sum(r.group == f"convolution, both gradients, {kind}" for r in rows) == layers
        assert sum(r.group == f"training step, {kind}" for r in rows) == nets
        assert len(re.findall(rf"^\| = total +\| +{kind} ", printed, re.M)) == 2
    assert sum(r.unit == "B" for r in rows) == 2 * nets
    assert all(r.minidl > 0 and r.other > 0 for r in rows)


def test_both_libraries_round_to_tf32_or_neither():
    import torch

    switches = backends.cuda.matmul, torch.backends.cuda.matmul, torch.backends.cudnn
    before = [s.allow_tf32 for s in switches]
    for name in gpu.PRECISIONS:
        with gpu.precision(name):
            assert {s.allow_tf32 for s in switches} == {name == "TF32"}
    assert [s.allow_tf32 for s in switches] == before


def test_the_real_run_covers_the_nets_and_layers_that_count():
    assert set(gpu.GROUPS) <= gpu.LAYERS.keys()
    assert gpu.LARGE[1] == (2, 1, 128, 128, 128)


def test_without_a_gpu_it_says_why(monkeypatch):
    def cupy():
        raise RuntimeError("no")

    monkeypatch.setattr(backend, "cupy", cupy)
    with pytest.raises(SystemExit, match="no GPU: "):
        gpu.main(1, 1)
