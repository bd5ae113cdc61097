"""Random architectures: what the rules say is what can have an influence, and what has one at generic
weights."""

from __future__ import annotations

import numpy as np
import pytest
from examples import FACTOR

import minidl
from minidl import Tensor
from minidl.nn import functional as F
from minidl.receptive_field import analyze, gradient, reachability

BATCH = 20  # architectures in one test


class Architecture:
    """Up to 6 random layers with positive weights, so that no influence cancels.

    `generic` turns false where a derivative may be 0 although the value counts: behind a maximum, for
    instance.
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.rank = int(self.rng.choice([1, 1, 1, 2, 2, 3]))
        least, most = {1: (4, 14), 2: (4, 9), 3: (4, 6)}[self.rank]
        self.shape = (1, 2, *self.rng.integers(least, most, self.rank).tolist())
        self.generic = True
        self.layers: list = []
        self.names: list[str] = []
        x = self.input()
        for _ in range(self.rng.integers(1, 7)):
            x = self.add_layer(x)

    def input(self) -> Tensor:
        return Tensor(np.random.default_rng(0).uniform(1, 2, self.shape))

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def add_layer(self, x: Tensor) -> Tensor:
        """Add a random layer that takes x; returns what it makes of it."""
        for _ in range(50):
            name = str(self.rng.choice(LAYERS))
            generic = self.generic
            try:
                layer = getattr(self, name)(x)
                y = layer(x) if layer else None
            except (ValueError, IndexError):  # it does not fit this size
                y = None
            if y is not None and min(y.shape) >= 1 and max(y.shape[2:]) <= 16 and y.shape[1] <= 8:
                self.layers.append(layer)
                self.names.append(name)
                return y
            self.generic = generic
        return x

    def integers(self, low: int, high: int) -> list[int]:
        """One for each axis, in low .. high."""
        return self.rng.integers(low, high + 1, self.rank).tolist()

    def weights(self, *shape: int) -> Tensor:
        return Tensor(self.rng.uniform(0.5, 1, shape))

    def of_rank(self, name: str):
        return getattr(F, f"{name}{self.rank}d")

    # ---- layers: each returns a function, or None where it does not fit ------------------------

    def conv(self, x):
        groups = int(self.rng.choice([1, 1, x.shape[1]]))
        w = self.weights(2 * groups, x.shape[1] // groups, *self.integers(1, 3))
        options = dict(stride=self.integers(1, 3), padding=self.integers(0, 3), dilation=self.integers(1, 2))
        return lambda x: self.of_rank("conv")(x, w, groups=groups, **options)

    def conv_transpose(self, x):
        stride = self.integers(1, 3)
        w = self.weights(x.shape[1], 2, *self.integers(1, 3))
        options = dict(stride=stride, padding=self.integers(0, 1), dilation=self.integers(1, 2),
                       output_padding=[int(self.rng.integers(0, s)) for s in stride])  # fmt: skip
        return lambda x: self.of_rank("conv_transpose")(x, w, **options)

    def max_pool(self, x):
        self.generic = False
        options = dict(stride=self.integers(1, 2), padding=int(self.rng.integers(0, 2)), ceil_mode=True)
        kernel = self.integers(2, 3)
        return lambda x: self.of_rank("max_pool")(x, kernel, **options)

    def unpool(self, x):
        self.generic = False

        def layer(x):
            y, places = self.of_rank("max_pool")(x, 2, ceil_mode=True, return_indices=True)
            return self.of_rank("max_unpool")(y, places, 2, output_size=x.shape[2:])

        return layer

    def avg_pool(self, x):
        options = dict(stride=self.integers(1, 3), padding=int(self.rng.integers(0, 2)))
        kernel, ceil = self.integers(2, 3), bool(self.rng.integers(2))
        return lambda x: self.of_rank("avg_pool")(x, kernel, ceil_mode=ceil, **options)

    def adaptive_pool(self, x):
        kind = str(self.rng.choice(["adaptive_avg_pool", "adaptive_max_pool"]))
        self.generic &= kind == "adaptive_avg_pool"
        size = self.integers(2, 4)
        return lambda x: self.of_rank(kind)(x, size)

    def interpolate(self, x):
        smooth = ("linear", "bilinear", "trilinear")[self.rank - 1]
        mode = str(self.rng.choice(["nearest", "nearest-exact", "area", smooth, smooth]))
        options = dict(align_corners=bool(self.rng.integers(2))) if mode == smooth else {}
        factor = float(self.rng.choice([2, 2, 3, 1.5, 0.5]))
        return lambda x: F.interpolate(x, scale_factor=factor, mode=mode, **options)

    def cubic(self, x):
        self.generic = False  # some of its weights are negative
        return (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")) if self.rank == 2 else None

    def pad(self, x):
        mode = str(self.rng.choice(["constant", "constant", "reflect", "replicate", "circular"]))
        widths = self.rng.integers(-1, 3, 2 * self.rank).tolist()
        return lambda x: F.pad(x, widths, mode=mode)

    def crop(self, x):
        cuts = [slice(a, None, s) for a, s in zip(self.integers(0, 2), self.integers(1, 2))]
        return lambda x: x[(..., *cuts)]

    def pick(self, x):
        dim = int(self.rng.integers(1, x.ndim))
        index = Tensor(self.rng.integers(0, x.shape[dim], 5))
        return lambda x: minidl.index_select(x, dim, index)

    def flip_and_roll(self, x):
        dim = int(self.rng.integers(2, x.ndim))
        return lambda x: minidl.roll(minidl.flip(x, (dim,)), 2, dim)

    def swap(self, x):
        return (lambda x: x.transpose(2, 3)) if self.rank > 1 else None

    def shuffle(self, x):
        if self.rank != 2:
            return None
        return (lambda x: F.pixel_unshuffle(x, 2)) if x.shape[1] < 4 else lambda x: F.pixel_shuffle(x, 2)

    def relu(self, x):
        return F.relu

    def depthwise_after_channels(self, x):
        w = self.weights(x.shape[1], 1, *(2,) * self.rank)
        return lambda x: self.of_rank("conv")(x * 2.0, w, groups=x.shape[1])

    def excite(self, x):
        self.generic = False  # x · mean(x): generic in truth, but the derivatives may underflow
        return lambda x: x * x.mean(tuple(range(2, x.ndim)), keepdim=True)

    def instance_norm(self, x):
        self.generic = False
        return lambda x: F.instance_norm(x, weight=minidl.ones(x.shape[1], dtype=x.dtype),
                                         bias=minidl.ones(x.shape[1], dtype=x.dtype))  # fmt: skip

    def mix_last(self, x):
        w = self.weights(x.shape[-1], 3)
        return lambda x: x @ w

    def blocks(self, x):
        n = x.shape[-1]
        return (lambda x: x.reshape(*x.shape[:-1], n // 2, 2).mean(-1)) if n % 2 == 0 else None

    def merge_axes(self, x):
        w = self.weights(x.shape[1], x.shape[1], 1)
        return lambda x: F.conv1d(x.flatten(2), w).reshape(x.shape)

    def fold(self, x):
        if self.rank != 2:
            return None
        return lambda x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2)

    def running_sum(self, x):
        return lambda x: x.cumsum(2)

    def attention(self, x):
        self.generic = False

        def layer(x):
            flat = x.flatten(2)
            return (flat @ F.softmax(flat.mT @ flat, -1)).reshape(x.shape)

        return layer

    def order(self, x):
        self.generic = False
        return lambda x: x.sort(2).values

    def skip(self, x):
        """A branch beside the identity, both cropped to a common size and added or concatenated."""
        branch = object.__new__(Architecture)
        branch.__dict__.update(self.__dict__, layers=[], names=[])
        y = branch.add_layer(x)
        if self.rng.integers(2):
            branch.add_layer(y)
        self.generic = branch.generic
        joined, centre = bool(self.rng.integers(2)), bool(self.rng.integers(2))

        def layer(x):
            y = x
            for inner in branch.layers:
                y = inner(y)
            size = [min(a, b) for a, b in zip(x.shape[2:], y.shape[2:])]
            starts = [(n - m) // 2 if centre else 0 for n, m in zip(x.shape[2:], size)]
            x = x[(..., *(slice(a, a + m) for a, m in zip(starts, size)))]
            y = y[(..., *(slice(m) for m in size))]
            return minidl.cat([x, y], dim=1) if joined or x.shape != y.shape else x + y

        return layer


RARE = ("cubic", "excite", "instance_norm", "mix_last", "blocks", "merge_axes", "fold", "running_sum",
        "attention", "order", "unpool", "swap", "shuffle", "pick", "flip_and_roll", "adaptive_pool",
        "depthwise_after_channels")  # fmt: skip
LAYERS = ["conv"] * 6 + ["conv_transpose"] * 4 + ["skip"] * 6 + list(RARE)
LAYERS += ["max_pool", "avg_pool", "interpolate", "pad", "crop", "relu"] * 2


def check(seed: int) -> None:
    net = Architecture(seed)
    told = f"seed {seed}: {net.names} on {net.shape}"
    x = net.input()
    field, reached = analyze(net, x), reachability(net, x)
    for axis, true in enumerate(reached):
        np.testing.assert_array_equal(field.matrix(axis), true, err_msg=f"{told}, axis {axis}")
    position = tuple(int(net.rng.integers(n)) for n in field.positions)
    influence = reachability(net, x, position)
    support = gradient(net, x, position) > 0
    assert not (support & ~influence).any(), told
    for axis in range(net.rank):
        others = tuple(i for i in range(net.rank) if i != axis)
        true = np.flatnonzero(influence.any(axis=others))
        ends = (true[0], true[-1]) if len(true) else None
        if not field.whole:
            assert field.interval(position)[axis] == ends, f"{told}, position {position}, axis {axis}"
        found = np.flatnonzero(support.any(axis=others))
        if net.generic:
            assert (found[0], found[-1]) == ends if len(found) else ends is None, told


@pytest.mark.parametrize("batch", range(16 * FACTOR))
def test_analysis_oracle_and_derivative_agree(batch):
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        check(seed)
