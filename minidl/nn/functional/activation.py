"""Activations: pointwise ops and their compositions, by PyTorch's names.

At a kink the derivative is PyTorch's. Nothing overflows far from 0, neither in a value nor in a derivative.
"""

from __future__ import annotations

import math
from typing import Any

from minidl import backend
from minidl.autograd import Tensor
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import batched, floating, probability, same_dtype
from minidl.ops import pointwise as pw
from minidl.ops import reductions, shaping
from minidl.ops.elementary import erf

# ---- piecewise linear ----------------------------------------------------------------------------


def relu(input: Tensor) -> Tensor:
    """max(x, 0)."""
    return pw.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, negative_slope · x elsewhere."""
    floating("leaky_relu", input)
    return pw.leaky_relu(input, slope=negative_slope)


@autocasts
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, w · x elsewhere, with a learned slope w: one, or one per channel of (N, C, *S).

    He et al. 2015. weight () or (1,), or (C,).
    """
    same_dtype("prelu", input=input, weight=weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.array.size not in (1, channels):
        raise ValueError(
            f"prelu: weight must have shape (1,) or, for {channels} channels, ({channels},); "
            f"got {weight.shape} for input {input.shape}"
        )
    per_channel = (1, -1, *(1,) * (input.ndim - 2)) if weight.array.size > 1 else ()
    return pw.where(input > 0, input, input * weight.reshape(per_channel))


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """min(max(x, min_val), max_val); the derivative is 1 inside, and 0 from the bounds on.

    For integers the bounds are cut to integers, towards 0.
    """
    if input.dtype.kind == "b" or (input.dtype.kind == "u" and min_val < 0):
        what = "booleans" if input.dtype.kind == "b" else f"{input.dtype} with a negative min_val, {min_val}"
        raise TypeError(f"hardtanh: not defined for {what}")
    if input.dtype.kind in "ui":
        min_val, max_val = int(min_val), int(max_val)
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
    return pw.where(input <= min_val, min_val, pw.where(input >= max_val, max_val, input))


def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0, 6)


def hardsigmoid(input: Tensor) -> Tensor:
    """relu6(x + 3) / 6: the sigmoid from three straight pieces."""
    floating("hardsigmoid", input)
    return relu6(input + 3.0) / 6.0


def hardswish(input: Tensor) -> Tensor:
    """x · relu6(x + 3) / 6 (Howard et al. 2019)."""
    floating("hardswish", input)
    return input * hardsigmoid(input)


# ---- exponential ---------------------------------------------------------------------------------


def _nonpositive(input: Tensor) -> Tensor:
    """min(x, 0): what is safe to exponentiate; the derivative at 0 is 1."""
    return pw.clamp(input, low=-math.inf, high=0.0)


@autocasts
def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, alpha · (e^x - 1) elsewhere (Clevert et al. 2016)."""
    floating("elu", input)
    return pw.where(input > 0, input, pw.expm1(_nonpositive(input)) * float(alpha))


@autocasts
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, alpha · (e^(x / alpha) - 1) elsewhere: an elu with slope 1 on both sides of 0."""
    floating("celu", input)
    if alpha <= 0:
        raise ValueError(f"celu: alpha must be positive, got {alpha}")
    return pw.where(input > 0, input, pw.expm1(_nonpositive(input) / float(alpha)) * float(alpha))


@autocasts
def selu(input: Tensor) -> Tensor:
    """1.0507 · elu(x, 1.6733): keeps mean 0 and variance 1 from layer to layer (Klambauer et al. 2017)."""
    return elu(input, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return pw.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return pw.tanh(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), exact also far from 0."""
    floating("logsigmoid", input)
    return pw.logsigmoid(input)


@autocasts
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta · x)) / beta; the identity where beta · x exceeds the threshold."""
    floating("softplus", input)
    scaled = input * float(beta)
    return pw.where(scaled > threshold, input, -pw.logsigmoid(-scaled) / float(beta))


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (pw.abs(input) + 1.0)


def silu(input: Tensor) -> Tensor:
    """x · sigmoid(x), also known as swish."""
    floating("silu", input)
    return input * pw.sigmoid(input)


def mish(input: Tensor) -> Tensor:
    """x · tanh(softplus(x)) (Misra 2019)."""
    floating("mish", input)
    return input * pw.tanh(-pw.logsigmoid(-input))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x · Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016).

    approximate="none": Φ(x) = (1 + erf(x/√2)) / 2; "tanh": (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
    """
    floating("gelu", input)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    x = pw.clamp(input, low=-10.0, high=10.0)  # beyond, Φ is 0 or 1 to the last bit and x³ may overflow
    if approximate == "none":
        return input * ((erf(x * math.sqrt(0.5)) + 1.0) * 0.5)
    return input * ((pw.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1.0) * 0.5)


# ---- along a dim ---------------------------------------------------------------------------------

softmax = reductions.softmax
log_softmax = reductions.log_softmax


@autocasts
def softmin(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """softmax(-x) along a dim."""
    return softmax(-input, dim, dtype=dtype)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a · sigmoid(b), a and b the two halves of the input along a dim (Dauphin et al. 2017)."""
    floating("glu", input)
    if not input.ndim:
        raise ValueError("glu: a tensor without dims has no halves")
    at = shaping.normalize_dim(dim, input.ndim, "glu")
    if input.shape[at] % 2:
        raise ValueError(f"glu: the size {input.shape[at]} of dim {dim} of shape {input.shape} is odd")
    a, b = shaping.split(input, [input.shape[at] // 2] * 2, at)
    return a * pw.sigmoid(b)


# ---- dropout -------------------------------------------------------------------------------------


def _drop(input: Tensor, coins: tuple[int, ...], p: float, training: bool) -> Tensor:
    """The input times a mask that is 0 with probability p, else 1 / (1 - p), drawn with shape `coins`."""
    if not training or p == 0:
        return input
    kept = backend.generator().random(coins) >= p
    mask = (kept / (1 - p if p < 1 else 1)).astype(input.dtype)
    return input * Tensor(backend.to_device(mask, input.device))


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element 0 with probability p, else divided by 1 - p; the identity when not training."""
    probability("dropout", p)
    return _drop(input, input.shape, p, training)


def _feature_dropout(input: Tensor, p: float, training: bool, rank: int, unbatched: bool = True) -> Tensor:
    name = f"dropout{rank}d"
    probability(name, p)
    samples, added = batched(input, rank, name, unbatched)
    y = _drop(samples, (*samples.shape[:2], *(1,) * rank), p, training)
    return y.squeeze(0) if added else y


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Dropout of whole channels of (N, C, L) or (C, L): one coin for each (n, c)."""
    return _feature_dropout(input, p, training, 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Dropout of whole channels of (N, C, H, W): one coin for each (n, c).

    Three dims are refused: PyTorch reads them as (N, C, L), its other layers as (C, H, W).
    """
    return _feature_dropout(input, p, training, 2, unbatched=False)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W): one coin for each (n, c)."""
    return _feature_dropout(input, p, training, 3)
