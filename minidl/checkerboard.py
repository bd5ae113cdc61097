"""Checkerboards: the pattern of period s that up-sampling by s leaves behind (Odena et al. 2016, Distill).

A transposed convolution of stride s computes output position i = s·q + r with the taps of *phase* r alone.
Where the phases have taps of different sums, a constant input gives a periodic output:

    gain[r] = Σ_{k ≡ r + padding (mod s)} w[k]          no checkerboard  ⇔  gain[0] = ... = gain[s-1]

(Sugawara et al. 2018). Kernels whose size s does not divide have unequal *numbers* of taps per phase, so even
equal weights make a pattern. Where s divides the size, the numbers are equal, but random weights are not.

The gradient of a strided convolution is a transposed convolution with the same weights: it has the same
pattern, and hands some input positions more gradient than others.

What is measured, on three levels: the geometry (`overlap`), the weights (`polyphase_gain`, `gain_spread`)
and any image (`phase_variance_ratio`, `spectral_ratio`); `input_gradient` makes an image of a backward pass.
`upsampler` builds the common remedies.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from minidl import autograd, backend, nn, recording
from minidl.autograd import Tensor
from minidl.nn.conv import _ConvNd, _ConvTransposeNd
from minidl.nn.functional.checks import Sizes, ntuple
from minidl.tensor import as_tensor

# ---- geometry ----------------------------------------------------------------------------------


def _phases(kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> np.ndarray:
    """The 0-1 matrix (stride, kernel): which phase, (dilation·k - padding) mod s, each tap reaches."""
    reached = (dilation * np.arange(kernel) - padding) % stride
    return (np.arange(stride)[:, None] == reached).astype(int)


def overlap(kernel_size: Sizes, stride: Sizes, rank: int = 1) -> np.ndarray:
    """How many taps of a transposed convolution reach each output phase, (*stride), counted from tap 0.

    `overlap(3, 2)` is [2, 1] and `overlap(3, 2, rank=2)` is [[4, 2], [2, 1]]: the axes multiply. Even counts,
    as in `overlap(4, 2)`, are needed for a smooth output, but not enough: see `gain_spread`.
    """
    kernels = ntuple(kernel_size, rank, "overlap: kernel_size", 1)
    strides = ntuple(stride, rank, "overlap: stride", 1)
    return reduce(np.multiply.outer, (_phases(k, s).sum(1) for k, s in zip(kernels, strides)))


# ---- weights -----------------------------------------------------------------------------------


def polyphase_gain(layer: nn.Module, upscale_factor: int | None = None) -> np.ndarray:
    """What a constant 1 becomes at each output phase, per pair of channels: (pairs, *stride).

    `layer` is a transposed convolution, or a strided convolution, whose gradient is meant then: it is a
    transposed convolution with the same weights. With `upscale_factor`, `layer` is the convolution of
    stride 1 that stands before a `pixel_shuffle` by that factor (a sub-pixel convolution, Shi et al. 2016).
    Phase r holds the output positions i ≡ r (mod stride) of the interior. Biases are left out.
    """
    if not isinstance(layer, _ConvNd):
        raise TypeError(f"polyphase_gain: expected a (transposed) convolution, got {type(layer).__name__}")
    rank, weight = layer.rank, backend.to_numpy(layer.weight.array).astype(np.float64)
    if upscale_factor is None:
        if isinstance(layer.padding, str):
            raise ValueError(
                f"polyphase_gain: padding {layer.padding!r} has stride 1, which has a single phase"
            )
        for s, p, d in zip(layer.stride, layer.padding, layer.dilation):
            # Each step sums the first kernel axis into phases and moves them to the end.
            weight = np.tensordot(weight, _phases(weight.shape[2], s, p, d), axes=(2, 1))
        return weight.reshape(-1, *layer.stride)
    factors = (upscale_factor,) * rank
    if isinstance(layer, _ConvTransposeNd) or any(s != 1 for s in layer.stride):
        raise ValueError(
            f"polyphase_gain: upscale_factor is for the convolution of stride 1 before a pixel_shuffle, "
            f"got {layer!r}"
        )
    if upscale_factor < 1 or layer.out_channels % math.prod(factors):
        raise ValueError(
            f"polyphase_gain: {layer.out_channels} output channels do not divide into "
            f"upscale_factor^{rank} = {upscale_factor}^{rank} phases"
        )
    taps = weight.sum(axis=tuple(range(2, 2 + rank)))  # (O·r^n, C)
    return np.moveaxis(taps.reshape(-1, *factors, taps.shape[1]), -1, 1).reshape(-1, *factors)


def gain_spread(layer: nn.Module, upscale_factor: int | None = None) -> float:
    """Standard deviation over phases of the `polyphase_gain`, over its mean: 0 without a checkerboard.

    Both are root mean squares over the pairs of channels. inf where all means are 0 and the phases differ.
    """
    gain = polyphase_gain(layer, upscale_factor)
    gain = gain.reshape(len(gain), -1)
    spread, mean = gain.var(1).mean(), (gain.mean(1) ** 2).mean()
    if spread <= _rounding(layer.weight.dtype) * (gain**2).mean():
        return 0.0
    return float(math.sqrt(spread / mean)) if mean > 0 else math.inf


# ---- images ------------------------------------------------------------------------------------


def _rounding(dtype: Any) -> float:
    """The relative variance that rounding alone makes, from a few units in the last place."""
    return (16 * float(np.finfo(dtype).eps)) ** 2


def _interior(name: str, output: Any, stride: Sizes, border: Sizes) -> tuple[np.ndarray, tuple[int, ...]]:
    """The channels (M, *S) in float64 without their means, S cut to a multiple of the stride; the stride.

    All zeros where a channel varies by no more than rounding does.
    """
    array = backend.to_numpy(output.array) if isinstance(output, Tensor) else np.asarray(output)
    if array.ndim < 3 or array.dtype.kind != "f":
        raise ValueError(
            f"{name}: expected floating-point (N, C, *S), got shape {array.shape} of {array.dtype}; "
            "a single picture is picture[None, None]"
        )
    rank = array.ndim - 2
    steps = ntuple(stride, rank, f"{name}: stride", 1)
    margins = ntuple(border, rank, f"{name}: border")
    sizes = [(n - 2 * b) // s * s for n, b, s in zip(array.shape[2:], margins, steps)]
    if min(sizes) <= 0:
        raise ValueError(
            f"{name}: sizes {array.shape[2:]} without a border of {margins} hold no period of {steps}"
        )
    inside: Any = (..., *(slice(b, b + n) for b, n in zip(margins, sizes)))
    flat = array[inside].astype(np.float64).reshape(-1, math.prod(sizes))
    power = (flat**2).mean(1, keepdims=True)
    flat = flat - flat.mean(1, keepdims=True)
    flat[flat.var(1) <= _rounding(array.dtype) * power[:, 0]] = 0
    return flat.reshape(-1, *sizes), steps


def phase_variance_ratio(output: Any, stride: Sizes, border: Sizes = 0) -> float:
    """Variance of the phase means over the whole variance: the share of an image that is a checkerboard.

    `output` is a Tensor or array (N, C, *S); `border` samples on every side are left out, since padding
    makes them differ. Variances are averaged over channels. A phase is the set of positions i ≡ r (mod
    stride). 1: nothing but a pattern of this period. 0: none, or an image that is constant.

    An image has detail of its own, and white noise hides any pattern: give the model a smooth or constant
    input (`smooth_probe`).
    """
    channels, steps = _interior("phase_variance_ratio", output, stride, border)
    blocks = [size for n, s in zip(channels.shape[1:], steps) for size in (n // s, s)]
    means = channels.reshape(-1, *blocks).mean(axis=tuple(range(1, 2 * len(steps), 2)))
    total = channels.var(axis=tuple(range(1, channels.ndim))).mean()
    return float(means.reshape(len(means), -1).var(1).mean() / total) if total else 0.0


def spectral_ratio(output: Any, stride: Sizes, border: Sizes = 0) -> float:
    """Power at the frequencies (a/s, b/s, ...) other than 0, over the power at all frequencies but 0.

    Arguments as in `phase_variance_ratio`, which it equals (Parseval): a pattern of period s has all its
    power at multiples of the frequency 1/s, where the peaks of a spectrum show it.
    """
    channels, steps = _interior("spectral_ratio", output, stride, border)
    power = abs(np.fft.fftn(channels, axes=range(1, channels.ndim))) ** 2
    total = power.sum()
    peaks = power[(slice(None), *(slice(None, None, n // s) for n, s in zip(power.shape[1:], steps)))]
    return float(peaks.sum() / total) if total else 0.0  # frequency 0 is empty: the mean was taken off


def smooth_probe(channels: int, size: Sizes, rank: int = 2, seed: int = 0) -> Tensor:
    """An input that lets checkerboards show: 1 + cos of one slow wave per channel, (1, channels, *size).

    Each wave has at most two periods per axis, its direction and place depend on the seed. Its mean
    is 1 and its variance ½, so that random weights, up-sampling by s, are expected to give a
    `phase_variance_ratio` of about a / (a + ½) with a = 1 - s^-rank, 0.6 for s = 2 in 2-D.
    """
    sizes = ntuple(size, rank, "smooth_probe: size", 1)
    rng = np.random.default_rng(seed)
    waves = np.empty((1, channels, *sizes), np.float32)
    for c in range(channels):
        periods = rng.integers(-2, 3, rank)
        periods[rng.integers(rank)] = rng.choice((-2, -1, 1, 2))  # at least one axis varies
        angle = reduce(np.add.outer, (f * np.arange(n) / n for f, n in zip(periods, sizes)))
        waves[0, c] = 1 + np.cos(2 * np.pi * (angle + rng.random()))
    return as_tensor(waves)


def input_gradient(model: Any, input: Tensor) -> Tensor:
    """d(sum of model(input)) / d(input): how much each input position weighs in a backward pass.

    For a strided convolution with equal weights this is the `overlap` map, 4 : 2 : 1 for 3x3 kernels of
    stride 2. Measure it as any image: `phase_variance_ratio(input_gradient(model, x), stride)`.
    """
    leaf = input.detach().requires_grad_()
    with recording.enable_grad():
        (gradient,) = autograd.grad(model(leaf).sum(), leaf)
    return gradient  # type: ignore[return-value]  # None comes with allow_unused only


# ---- remedies ----------------------------------------------------------------------------------

UPSAMPLERS = ("transpose", "divisible", "interpolate", "subpixel", "icnr")


def upsampler(
    kind: str, in_channels: int, out_channels: int, factor: int = 2, dims: int = 2, bias: bool = True
) -> nn.Module:
    """A layer (N, in_channels, *S) -> (N, out_channels, *(factor·S)), `factor` at least 2.

    "transpose"    transposed convolution of width factor + 1: uneven overlap
    "divisible"    transposed convolution of width 2·factor: even overlap, but random weights still differ
    "interpolate"  nearest neighbour, then a convolution of width 3: all phases share their weights
    "subpixel"     convolution of width 3 to factor^dims channels, then `pixel_shuffle` (2-D only)
    "icnr"         the same, with initial weights that are equal in all phases (`nn.init.icnr_`)
    """
    if kind not in UPSAMPLERS:
        raise ValueError(f"upsampler: kind must be one of {UPSAMPLERS}, got {kind!r}")
    if factor < 2 or dims not in (1, 2, 3):
        raise ValueError(f"upsampler: factor must be at least 2 and dims 1, 2 or 3, got {factor} and {dims}")
    conv, transpose = getattr(nn, f"Conv{dims}d"), getattr(nn, f"ConvTranspose{dims}d")
    if kind == "transpose":
        return transpose(in_channels, out_channels, factor + 1, factor, 1, 1, bias=bias)
    if kind == "divisible":
        padding = (factor + 1) // 2
        return transpose(
            in_channels, out_channels, 2 * factor, factor, padding, 2 * padding - factor, bias=bias
        )
    if kind == "interpolate":
        return nn.Sequential(
            nn.Upsample(scale_factor=factor), conv(in_channels, out_channels, 3, padding=1, bias=bias)
        )
    if dims != 2:
        raise ValueError(f"upsampler: {kind!r} needs pixel_shuffle, which is 2-D, got dims={dims}")
    to_phases = conv(in_channels, out_channels * factor**2, 3, padding=1, bias=bias)
    if kind == "icnr":
        nn.init.icnr_(to_phases.weight, factor)
        if bias:
            nn.init.zeros_(to_phases.bias)  # phases with biases of their own would be a pattern again
    return nn.Sequential(to_phases, nn.PixelShuffle(factor))
