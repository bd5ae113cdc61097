"""Convolution with both gradients, over the shapes of the 2-D and the 3-D U-Net."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.side_by_side import header, minima, row
from minidl.kernels import numpy_conv


@dataclass(frozen=True)
class Layer:
    """N samples, C channels in, O out, a cube of size S, kernel K, stride, padding, maybe transposed."""

    samples: int
    channels: int
    out: int
    size: tuple[int, ...]
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    transposed: bool = False

    def __str__(self) -> str:
        kind = "transposed" if self.transposed else "conv"
        size = "x".join(map(str, self.size))
        return f"{self.samples}x{self.channels}x{size} -> {self.out}, {kind} k{self.kernel} s{self.stride}"


def _down(layer: Layer) -> Layer:
    return Layer(layer.samples, layer.out // 2, layer.out, tuple(2 * n for n in layer.size), stride=2)


def _up(layer: Layer) -> Layer:
    half = tuple(n // 2 for n in layer.size)
    return Layer(layer.samples, 2 * layer.out, layer.out, half, 2, 2, 0, transposed=True)


PLAIN = [
    *(Layer(4, c, o, (n, n)) for c, o, n in [
        (1, 32, 128), (32, 32, 128), (64, 32, 128), (64, 64, 64), (128, 64, 64), (128, 128, 32), (256, 256,
        16), (512, 512, 8)]),
    *(Layer(2, c, o, (n, n, n)) for c, o, n in [(16, 16, 48), (32, 16, 48), (32, 32, 24), (64, 64, 12)]),
]  # fmt: skip
LAYERS = [
    *PLAIN,
    *(_down(Layer(4, 0, o, (n, n))) for o, n in [(64, 64), (128, 32), (256, 16), (512, 8)]),
    *(_down(Layer(2, 0, o, (n, n, n))) for o, n in [(32, 24), (64, 12)]),
    *(_up(Layer(4, 0, o, (n, n))) for o, n in [(32, 128), (64, 64), (128, 32), (256, 16)]),
    *(_up(Layer(2, 0, o, (n, n, n))) for o, n in [(16, 48), (32, 24)]),
]


def measure(layer: Layer, rounds: int) -> list[float]:
    """Seconds for forward, input gradient and weight gradient: minidl, PyTorch."""
    rng, rank = np.random.default_rng(0), len(layer.size)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    x = draw(layer.samples, layer.channels, *layer.size)
    channels = (layer.channels, layer.out) if layer.transposed else (layer.out, layer.channels)
    w = draw(*channels, *(layer.kernel,) * rank)
    geometry = dict(
        stride=(layer.stride,) * rank, padding=(layer.padding,) * rank, dilation=(1,) * rank, groups=1
    )
    name = f"conv{'_transpose' if layer.transposed else ''}{rank}d"
    function = getattr(torch.nn.functional, name)
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    size = tuple(function(tx, tw, stride=layer.stride, padding=layer.padding).shape[2:])
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
        y = function(tx, tw, stride=layer.stride, padding=layer.padding)
        torch.autograd.grad(y, (tx, tw), tg)

    return minima(rounds, ours, theirs)


def main(threads: int, rounds: int) -> None:
    """Print a row per layer, and the ratio of the sums."""
    header(threads)
    widths = (44, 10, 10, 5)
    row(("layer (forward and both gradients)", "minidl ms", "PyTorch ms", "ratio"), widths)
    row([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])], widths)
    totals = np.zeros(2)
    for layer in LAYERS:
        seconds = np.array(measure(layer, rounds))
        totals += seconds
        row((str(layer), *(f"{1e3 * s:.1f}" for s in seconds), f"{seconds[0] / seconds[1]:.2f}"), widths)
    row(("total", *(f"{1e3 * s:.1f}" for s in totals), f"{totals[0] / totals[1]:.2f}"), widths)
