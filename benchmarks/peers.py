"""conv2d (3x3, padding 1), forward and backward of sum(y·y), against other engines written on NumPy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

import minidl
from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, header, minima, row

SHAPES = [((4, 8, 32, 32), 16), ((2, 16, 64, 64), 32), ((4, 32, 128, 128), 32)]


def run_minidl(x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        tx, tw = (minidl.tensor(a, requires_grad=True) for a in (x, w))
        y = minidl.nn.functional.conv2d(tx, tw, padding=1)
        (y * y).sum().backward()

    return run


def run_mygrad(x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    import mygrad
    from mygrad.nnet import conv_nd

    def run() -> None:
        y = conv_nd(mygrad.tensor(x), mygrad.tensor(w), stride=1, padding=1)
        (y * y).sum().backward()

    return run


def run_pydynet(x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    import pydynet
    import pydynet.nn.functional as F

    def run() -> None:
        tx, tw = (pydynet.Tensor(a, requires_grad=True) for a in (x, w))
        pydynet.sum(pydynet.square(F.conv2d(tx, tw, padding=1, stride=1))).backward()

    return run


def run_autograd(x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    import autograd.numpy as anp
    from autograd import value_and_grad
    from autograd.scipy.signal import convolve

    margins = ((0, 0), (0, 0), (1, 1), (1, 1))
    axes = dict(axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")

    def loss(arrays: tuple) -> float:
        padded = anp.pad(arrays[0], margins, mode="constant")
        return anp.sum(convolve(padded, arrays[1][:, :, ::-1, ::-1], **axes) ** 2)

    both = value_and_grad(loss)
    return lambda: both((x, w))


def run_dezero(x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    import dezero.functions as F
    from dezero import Variable

    def run() -> None:
        y = F.conv2d(Variable(x), Variable(w), None, 1, 1)
        F.sum(y * y).backward()

    return run


PEERS = {"mygrad": run_mygrad, "pydynet": run_pydynet, "autograd": run_autograd, "dezero": run_dezero}


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print milliseconds per engine that is installed, and how many times minidl is faster."""
    header(threads)
    names = [name for name in PEERS if importlib.util.find_spec(name)]
    widths = (26, 10, *(22,) * len(names))
    columns(("input -> channels", "minidl ms", *(f"{name} ms (times)" for name in names)), widths)
    found: list[Comparison] = []
    for shape, out in SHAPES:
        rng, what = np.random.default_rng(0), f"{'x'.join(map(str, shape))} -> {out}"
        x, w = rng.normal(size=shape).astype("f"), rng.normal(size=(out, shape[1], 3, 3)).astype("f")
        sides = {}
        for name in names:
            try:
                sides[name] = PEERS[name](x, w)
            except (ImportError, AttributeError):  # installed, but not for this NumPy
                continue
        turns = min(rounds, 3) if x.size > 1e6 else rounds  # some engines need many seconds there
        ours, *theirs = minima(turns, run_minidl(x, w), *sides.values())
        rows = {name: Comparison(name, what, ours, t, against=name) for name, t in zip(sides, theirs)}
        found += rows.values()
        cells = [
            f"{1e3 * rows[name].other:.1f} ({1 / rows[name].ratio:.1f}x)" if name in rows else "does not run"
            for name in names
        ]
        row((what, f"{1e3 * ours:.1f}", *cells), widths)
    return found
