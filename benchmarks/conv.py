"""Convolution with both gradients: the layers of the 2-D and the 3-D U-Net, and the other kinds there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, header, minima, row
from minidl.kernels import numpy_conv


@dataclass(frozen=True)
class Layer:
    """N samples, C channels in, O out, sizes S, kernel K, stride, groups, maybe transposed. The padding of an
    odd kernel keeps the size (up to the stride); even kernels have none."""

    samples: int
    channels: int
    out: int
    size: tuple[int, ...]
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    transposed: bool = False

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.kernel % 2 else 0

    def __str__(self) -> str:
        words = [f"{self.samples}x{self.channels}x{'x'.join(map(str, self.size))} -> {self.out},"]
        words += ["transposed"] if self.transposed else []
        words += [f"k{self.kernel} s{self.stride}"]
        words += [f"groups {self.groups}"] if self.groups > 1 else []
        return " ".join(words)


def _plain(samples: int, rank: int, *widths_and_sizes: tuple[int, int, int]) -> list[Layer]:
    return [Layer(samples, c, o, (n,) * rank) for c, o, n in widths_and_sizes]


def _down(samples: int, rank: int, *widths_and_sizes: tuple[int, int]) -> list[Layer]:
    return [Layer(samples, o // 2, o, (2 * n,) * rank, stride=2) for o, n in widths_and_sizes]


def _up(samples: int, rank: int, *widths_and_sizes: tuple[int, int]) -> list[Layer]:
    return [
        Layer(samples, 2 * o, o, (n // 2,) * rank, kernel=2, stride=2, transposed=True)
        for o, n in widths_and_sizes
    ]


LAYERS = {
    "2-D, 3x3": _plain(
        4, 2, (1, 32, 128), (32, 32, 128), (64, 32, 128), (64, 64, 64), (128, 64, 64), (128, 128, 32),
        (256, 256, 16), (512, 512, 8),
    ),
    "3-D, 3x3x3": _plain(2, 3, (16, 16, 48), (32, 16, 48), (32, 32, 24), (64, 64, 12)),
    "stride 2": [*_down(4, 2, (64, 64), (128, 32), (256, 16), (512, 8)), *_down(2, 3, (32, 24), (64, 12))],
    "transposed, kernel 2, stride 2": [
        *_up(4, 2, (32, 128), (64, 64), (128, 32), (256, 16)), *_up(2, 3, (16, 48), (32, 24)),
    ],
    "one tap": [
        Layer(4, 32, 3, (128, 128), kernel=1), Layer(4, 64, 128, (64, 64), kernel=1),
        Layer(4, 256, 256, (16, 16), kernel=1), Layer(4, 64, 128, (64, 64), kernel=1, stride=2),
        Layer(2, 16, 3, (48, 48, 48), kernel=1),
    ],
    "depthwise": [
        Layer(4, 64, 64, (64, 64), groups=64), Layer(4, 64, 64, (64, 64), stride=2, groups=64),
        Layer(4, 96, 96, (32, 32), kernel=7, groups=96), Layer(2, 32, 32, (24, 24, 24), groups=32),
    ],
    "groups": [
        Layer(4, 64, 64, (64, 64), groups=16), Layer(4, 64, 64, (64, 64), groups=4),
        Layer(2, 32, 32, (24, 24, 24), groups=8),
    ],
}  # fmt: skip


def measure(layer: Layer, rounds: int) -> list[float]:
    """Seconds for forward, input gradient and weight gradient: minidl, PyTorch."""
    rng, rank = np.random.default_rng(0), len(layer.size)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    x = draw(layer.samples, layer.channels, *layer.size)
    first, second = (layer.channels, layer.out) if layer.transposed else (layer.out, layer.channels)
    w = draw(first, second // layer.groups, *(layer.kernel,) * rank)
    geometry = dict(
        stride=(layer.stride,) * rank, padding=(layer.padding,) * rank, dilation=(1,) * rank,
        groups=layer.groups,
    )  # fmt: skip
    function = getattr(torch.nn.functional, f"conv{'_transpose' if layer.transposed else ''}{rank}d")
    options = dict(stride=layer.stride, padding=layer.padding, groups=layer.groups)
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    size = tuple(function(tx, tw, **options).shape[2:])
    g = draw(layer.samples, layer.out, *size)
    tg = torch.from_numpy(g)

    def ours() -> None:
        if layer.transposed:
            numpy_conv.conv_input(x, w, size=size, **geometry)
            numpy_conv.conv(g, w, **geometry)
            numpy_conv.conv_weight(g, x, size=w.shape[2:], **geometry)
        else:
            numpy_conv.conv(x, w, **geometry)
            numpy_conv.conv_input(g, w, size=x.shape[2:], **geometry)
            numpy_conv.conv_weight(x, g, size=w.shape[2:], **geometry)

    def theirs() -> None:
        torch.autograd.grad(function(tx, tw, **options), (tx, tw), tg)

    return minima(rounds, ours, theirs)


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print a row per layer, and the ratio of the sums."""
    header(threads)
    widths = (44, 10, 10, 5)
    columns(("layer (forward and both gradients)", "minidl ms", "PyTorch ms", "ratio"), widths)

    def sums(what: str, rows: Sequence[Comparison]) -> None:
        ours, theirs = sum(r.minidl for r in rows), sum(r.other for r in rows)
        row((what, f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}", f"{ours / theirs:.2f}"), widths)

    found: list[Comparison] = []
    for group, layers in LAYERS.items():
        for layer in layers:
            found.append(Comparison(group, str(layer), *measure(layer, rounds)))
            sums(str(layer), found[-1:])
        sums(f"= {group}", found[-len(layers) :])
    sums("total", found)
    return found
