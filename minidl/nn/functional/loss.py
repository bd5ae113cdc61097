"""Losses: the distance between a prediction and the truth, as one number to minimise.

Here are PyTorch's; those that segmentation adds are in `segmentation_loss.py` and `pixel_loss.py`. PyTorch's
retired arguments size_average and reduce do not exist, so what follows them there must be named here.

reduction: "mean", "sum", or "none" for the loss of each element. Sums of float16 are taken in float32.
"""

from __future__ import annotations

import math

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import floating, same_device, widened
from minidl.nn.functional.labels import Labels, read_labels
from minidl.ops import linear, reductions
from minidl.ops import pointwise as pw

# ---- reductions ----------------------------------------------------------------------------------


def check_reduction(name: str, reduction: str, *more: str) -> None:
    """The reduction must be "none", "mean" or "sum", or one of some more."""
    allowed = ("none", "mean", "sum", *more)
    if reduction not in allowed:
        raise ValueError(f"{name}: reduction must be one of {', '.join(allowed)}; got {reduction!r}")


def reduce(name: str, losses: Tensor, reduction: str, like: Tensor) -> Tensor:
    """The losses of all elements as one number, in the dtype of the loss's input where that is float16."""
    check_reduction(name, reduction)
    if reduction != "none":
        losses = losses.mean() if reduction == "mean" else losses.sum()
    return losses.to(like.dtype) if like.dtype == np.float16 else losses


def reduce_labelled(name: str, losses: Tensor, labels: Labels, reduction: str, like: Tensor) -> Tensor:
    """`reduce` of weighted losses (N, *S) over the labels that count: "mean" divides by the weights."""
    losses = pw.where(labels.counted, losses, 0.0)
    if reduction != "mean":
        return reduce(name, losses, reduction, like)
    total = labels.weight.sum()
    return reduce(name, losses.sum() / pw.where(total == 0, math.nan, total), "sum", like)


# ---- of numbers ----------------------------------------------------------------------------------


def pair(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Input and target of one shape; float16 as float32, integer targets as numbers."""
    floating(name, input)
    same_device(name, input=input, target=target)
    if input.shape != target.shape:
        raise ValueError(f"{name}: target must have the input's shape {input.shape}, got {target.shape}")
    input = widened(input)
    return input, widened(target) if target.dtype.kind == "f" else target.to(input.dtype)


def _times(name: str, losses: Tensor, weight: Tensor) -> Tensor:
    """The losses of all elements, each times its own weight."""
    same_device(name, input=losses, weight=weight)
    if weight.shape != losses.shape:
        raise ValueError(f"{name}: weight must have the input's shape {losses.shape}, got {weight.shape}")
    return losses * weight


def _reduce_weighted(
    name: str, losses: Tensor, weight: Tensor | None, reduction: str, like: Tensor
) -> Tensor:
    """`reduce`, where "mean" divides by the sum of the weights."""
    if weight is None:
        return reduce(name, losses, reduction, like)
    losses = _times(name, losses, weight)
    if reduction != "mean":
        return reduce(name, losses, reduction, like)
    return reduce(name, losses.sum() / weight.sum(), "sum", like)


@autocasts
def mse_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """w · (x - y)²; "mean" divides by Σ w. The weight has the input's shape, and is 1 by default."""
    x, y = pair("mse_loss", input, target)
    difference = x - y
    return _reduce_weighted("mse_loss", difference * difference, weight, reduction, input)


@autocasts
def l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """w · |x - y|; "mean" divides by Σ w. The weight has the input's shape, and is 1 by default."""
    x, y = pair("l1_loss", input, target)
    return _reduce_weighted("l1_loss", pw.abs(x - y), weight, reduction, input)


def _huber(difference: Tensor, delta: float) -> Tensor:
    """d²/2 within ±delta, delta · (|d| - delta/2) beyond: c · (d - c/2) with c = d cut off at ±delta."""
    c = pw.clamp(difference, low=-delta, high=delta)
    return c * (difference - c * 0.5)


@autocasts
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d²/2 where |d| <= delta, delta · (|d| - delta/2) elsewhere, d = x - y (Huber 1964).

    A weight has the input's shape; "mean" divides by the number of elements, unlike that of `mse_loss`.
    """
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    x, y = pair("huber_loss", input, target)
    losses = _huber(x - y, float(delta))
    return reduce(
        "huber_loss", losses if weight is None else _times("huber_loss", losses, weight), reduction, input
    )


@autocasts
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d²/(2 beta) where |d| <= beta, |d| - beta/2 elsewhere: `huber_loss` / beta; with beta 0 `l1_loss`."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    x, y = pair("smooth_l1_loss", input, target)
    return reduce("smooth_l1_loss", _huber(x - y, float(beta)) * (1 / beta), reduction, input)


@autocasts
def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """y · (log y - x), the divergence of the distribution y from the one whose logarithm is the input x.

    log_target: the target is log y as well. "batchmean" divides the sum by the batch size, as the definition
    does; "mean" divides it by the number of elements.
    """
    check_reduction("kl_div", reduction, "batchmean")
    floating("kl_div", target)
    x, y = pair("kl_div", input, target)
    probability = pw.exp(y) if log_target else y
    logarithm = y if log_target else pw.log(pw.where(y == 0, 1.0, y))  # 0 · log 0 = 0
    losses = probability * (logarithm - x)
    if reduction == "batchmean" and input.ndim:
        return reduce("kl_div", losses.sum() / (input.shape[0] or math.nan), "sum", input)
    return reduce("kl_div", losses, "mean" if reduction == "batchmean" else reduction, input)


# ---- of class labels -----------------------------------------------------------------------------


def _label_loss(name, logp, target, weight, ignore_index, reduction, smoothing, like):
    """Σ_p (1 - ε) w[y_p] (-log p[y_p]) + ε/C Σ_c w_c (-log p_c), for log-probabilities (N, C, *S)."""
    alone = logp.ndim == 1 and target.ndim == 0
    if alone:
        logp, target = logp.unsqueeze(0), target.unsqueeze(0)
    labels = read_labels(name, logp, target, weight, ignore_index)
    xp = array_module(logp.array)
    picked = linear.take_along(logp, index=xp.expand_dims(labels.index, 1), dim=1).squeeze(1)
    losses = -picked * labels.weight
    if smoothing:
        every = -_per_class(logp, weight, 1).sum(1)
        losses = losses * (1 - smoothing) + every * (smoothing / logp.shape[1])
    y = reduce_labelled(name, losses, labels, reduction, like)
    return y.squeeze(0) if alone and reduction == "none" else y


def _per_class(logp: Tensor, weight: Tensor | None, dim: int) -> Tensor:
    """w_c · log p_c along the class dim."""
    if weight is None:
        return logp
    return logp * weight.to(logp.dtype).reshape(-1, *(1,) * (logp.ndim - dim - 1))


@autocasts
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-w[y_p] · input[y_p, p]: the negative log-likelihood of the true classes, from log-probabilities.

    input (N, C, *S) and labels (N, *S), or one sample (C,) and (); weight (C,). "mean" divides by the weights
    of the labels that count; those equal to ignore_index do not. Without any the mean is NaN.

    Errors: IndexError where a label that counts is not in 0 .. C - 1.
    """
    floating("nll_loss", input)
    same_device("nll_loss", input=input, target=target)
    return _label_loss("nll_loss", widened(input), target, weight, ignore_index, reduction, 0.0, input)


@autocasts
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-w[y_p] · log softmax(input)[y_p, p]: how surprised the model is by the true classes.

    input (N, C, *S) or (C,): logits. target: labels (N, *S) or (), as of `nll_loss`, or class probabilities
    of the input's shape. weight (C,) counts classes differently; label_smoothing ε mixes the truth with the
    uniform distribution, (1 - ε) · truth + ε/C. "mean" divides by the weights of the labels that count, for
    probabilities by the number of pixels.

    Errors: as of `nll_loss`; ValueError for ignore_index together with probabilities.
    """
    name = "cross_entropy"
    floating(name, input)
    same_device(name, input=input, target=target, weight=weight)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing must be in [0, 1], got {label_smoothing}")
    if not input.ndim:
        raise ValueError(f"{name}: input needs a class dim, got shape ()")
    dim = 0 if input.ndim == 1 else 1
    logp = reductions.log_softmax(widened(input), dim)
    if target.dtype.kind != "f":
        return _label_loss(name, logp, target, weight, ignore_index, reduction, label_smoothing, input)
    if target.shape != input.shape:
        raise ValueError(
            f"{name}: class probabilities must have the input's shape {input.shape}, got {target.shape}; "
            "class labels must be integers"
        )
    if ignore_index >= 0:
        raise ValueError(f"{name}: ignore_index {ignore_index} has no meaning for class probabilities")
    if weight is not None and weight.shape != (input.shape[dim],):
        raise ValueError(f"{name}: weight must have shape ({input.shape[dim]},), got {weight.shape}")
    truth = widened(target) * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    return reduce(name, -(_per_class(logp, weight, dim) * truth).sum(dim), reduction, input)


# ---- of yes and no -------------------------------------------------------------------------------


def _weighted(name: str, values: Tensor, weight: Tensor | None, what: str) -> Tensor:
    """values · weight, where the weight broadcasts to the values' shape."""
    if weight is None:
        return values
    same_device(name, input=values, **{what: weight})
    try:
        fits = np.broadcast_shapes(values.shape, weight.shape) == values.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: {what} of shape {weight.shape} does not broadcast to {values.shape}")
    return values * weight


@autocasts
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-[y log p + (1 - y) log(1 - p)] for probabilities p; the logarithms are cut off at -100.

    input and target (*) in [0, 1]; weight broadcasts to them. From logits,
    `binary_cross_entropy_with_logits` is exact.
    """
    name = "binary_cross_entropy"
    p, y = pair(name, input, target)
    for what, array in (("input", p.array), ("target", y.array)):
        if array.size and not bool(((array >= 0) & (array <= 1)).all()):
            raise ValueError(
                f"{name}: {what} must be in [0, 1], got {float(array.min()):g} to {float(array.max()):g}; "
                "for logits there is binary_cross_entropy_with_logits"
            )
    losses = -(y * pw.floored_log(p) + (1 - y) * pw.floored_log(1 - p))
    return reduce(name, _weighted(name, losses, weight, "weight"), reduction, input)


@autocasts
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-[w y log σ(x) + (1 - y) log σ(-x)], exact for logits of any size; w = pos_weight.

    input and target (*), the target in [0, 1]; weight and pos_weight broadcast to them.
    """
    name = "binary_cross_entropy_with_logits"
    x, y = pair(name, input, target)
    positive = _weighted(name, y, pos_weight, "pos_weight")
    losses = -(positive * pw.logsigmoid(x) + (1 - y) * pw.logsigmoid(-x))
    return reduce(name, _weighted(name, losses, weight, "weight"), reduction, input)
