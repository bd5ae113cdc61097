"""Overlap losses: how far two soft sets of pixels, the predicted one and the true one, are from the same.

Of a class with predicted probabilities p and truth y (indicators or soft labels), with sums over pixels,

    TP = Σ p·y        P = Σ p        Y = Σ y        FP = P - TP        FN = Y - TP

and every loss here is made of TP, P and Y. One formula, Tversky's index TP / (TP + α·FP + β·FN), holds the
Dice coefficient 2 TP / (P + Y) (α = β = 1/2) and the Jaccard index TP / (P + Y - TP) (α = β = 1).

input (N, C, *S): logits, or probabilities with activation="none". target: labels (N, *S), or indicators or
soft labels (N, C, *S). Sums of float16 are taken in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import floating, same_device, widened
from minidl.nn.functional.labels import check_range, check_shape, indicators
from minidl.nn.functional.loss import cross_entropy, reduce
from minidl.ops import pointwise as pw
from minidl.ops import reductions, shaping
from minidl.ops.fused import softmax_sums

# ---- the sets and their overlap ------------------------------------------------------------------


def _overlaps(probability: Tensor, target: Tensor, squared: bool, mask: Tensor | None) -> Tensor:
    """TP, P and Y of each sample and class, (3, N, C)."""
    axes = tuple(range(2, probability.ndim))
    if mask is not None:
        probability, target = probability * mask, target * mask
    overlap = (probability * target).sum(axes)
    if squared:
        probability, target = probability * probability, target * target
    return shaping.stack([overlap, probability.sum(axes), target.sum(axes)])


def _ratio(numerator: Tensor, denominator: Tensor, smooth_nr: float, smooth_dr: float) -> Tensor:
    """(numerator + s_n) / (denominator + s_d); without smoothing 0 / 0 is 0."""
    return (numerator + smooth_nr) / pw.clamp(denominator + smooth_dr, low=1e-8, high=math.inf)


@autocasts
def tversky_index(
    probability: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    squared: bool = False,
    batch: bool = False,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    mask: Tensor | None = None,
) -> Tensor:
    """(2 TP + s_n) / (2 (TP + α·FP + β·FN) + s_d) of each class: by default the Dice coefficient.

    probability, target (N, C, *S); mask (N, 1, *S) with 0 where the truth is not known. Returns (N, C), or
    (C,) where `batch` sums over the samples too. squared: P = Σ p² and Y = Σ y² (Milletari et al. 2016).
    """
    sums = _overlaps(probability, target, squared, mask)
    return _tversky(sums, alpha, beta, batch, smooth_nr, smooth_dr)


def _tversky(
    sums: Tensor, alpha: float, beta: float, batch: bool, smooth_nr: float, smooth_dr: float
) -> Tensor:
    overlap, predicted, true = sums.sum(1) if batch else sums
    both = 1 - alpha - beta  # TP + α (P - TP) + β (Y - TP)
    denominator = predicted * (2 * alpha) + true * (2 * beta)
    if both:
        denominator = denominator + overlap * (2 * both)
    return _ratio(overlap * 2.0, denominator, smooth_nr, smooth_dr)


def _probabilities(name: str, input: Tensor, activation: str) -> Tensor:
    if activation == "softmax" and input.shape[1] > 1:
        return reductions.softmax(input, 1)
    if activation == "softmax":
        raise ValueError(f"{name}: the softmax over one channel is 1; use activation='sigmoid'")
    if activation not in ("sigmoid", "none"):
        raise ValueError(f"{name}: activation must be 'softmax', 'sigmoid' or 'none', got {activation!r}")
    return pw.sigmoid(input) if activation == "sigmoid" else input


def _from_labels(
    name: str, input: Tensor, target: Tensor, ignore_index: int | None
) -> tuple[Tensor, Tensor | None]:
    """Labels (N, *S) as indicators (N, C, *S), and the mask (N, 1, *S) of those that count."""
    check_shape(name, input, target)
    label, mask, classes = target.array.astype(np.int64, copy=False), None, input.shape[1]
    if ignore_index is not None:
        counted = label != ignore_index
        label = array_module(label).where(counted, label, 0)
        mask = Tensor(counted.astype(input.dtype)).unsqueeze(1)
    of_all = max(classes, 2)  # a single channel is that of class 1, the foreground
    check_range(name, label, of_all)
    return Tensor(indicators(label, of_all, input.dtype).array[:, -classes:]), mask


def _check(name: str, input: Tensor, target: Tensor, include_background: bool) -> None:
    floating(name, input)
    same_device(name, input=input, target=target)
    if input.ndim < 3:
        raise ValueError(f"{name}: expected input (N, C, *S), got shape {input.shape}")
    if input.shape[1] == 1 and not include_background:
        raise ValueError(f"{name}: with one channel there is no background to leave out")


def _softmax_sums(name: str, input: Tensor, target: Tensor, ignore_index: int | None) -> Tensor:
    """TP, P, Y and Σ -log p of the labels (N, *S) and p = softmax(input), per sample and class: (4, N, C)."""
    check_shape(name, input, target)
    label = target.array if ignore_index is None else target.array[target.array != ignore_index]
    check_range(name, label, input.shape[1])
    return softmax_sums(input, target, ignore_index=ignore_index)


def _sums(
    name: str,
    input: Tensor,
    target: Tensor,
    activation: str,
    include_background: bool,
    squared: bool,
    ignore_index: int | None,
) -> Tensor:
    """TP, P and Y of each sample and class, (3, N, C), without class 0 where the background is left out."""
    _check(name, input, target, include_background)
    x, labelled = widened(input), target.ndim == input.ndim - 1
    if not labelled and target.shape != input.shape:
        raise ValueError(
            f"{name}: target must be labels of shape {(*input.shape[:1], *input.shape[2:])} or have the "
            f"input's shape {input.shape}, got {target.shape}"
        )
    if not labelled and ignore_index is not None:
        raise ValueError(f"{name}: ignore_index {ignore_index} has a meaning for labels (N, *S) only")
    if labelled and activation == "softmax" and input.shape[1] > 1 and not squared:
        sums = _softmax_sums(name, x, target, ignore_index)[:3]
    else:
        y, mask = _from_labels(name, x, target, ignore_index) if labelled else (target.to(x.dtype), None)
        sums = _overlaps(_probabilities(name, x, activation), y, squared, mask)
    return sums if include_background else sums[:, :, 1:]


# ---- losses --------------------------------------------------------------------------------------


@autocasts
def dice_loss(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    activation: str = "softmax",
    include_background: bool = True,
    batch: bool = False,
    squared: bool = False,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - `tversky_index`: 0 for a perfect prediction, near 1 for a wrong one.

    activation: "softmax" over C, "sigmoid" of each channel, or "none" where the input holds probabilities.
    A single channel is the foreground's. Without the background, class 0 does not count. weight (C,) says how
    much the classes count relative to each other. Pixels with the label ignore_index count nowhere. "none"
    gives the loss of each sample and class, (N, C), or of each class where `batch` is set.

    With alpha = beta = 1 this is `jaccard_loss`; with beta > alpha what is missed costs more than what is too
    much (`tversky_loss`).
    """
    sums = _sums("dice_loss", input, target, activation, include_background, squared, ignore_index)
    losses = 1 - _tversky(sums, alpha, beta, batch, smooth_nr, smooth_dr)
    if weight is not None:
        if weight.shape != (input.shape[1],):
            raise ValueError(f"dice_loss: weight must have shape ({input.shape[1]},), got {weight.shape}")
        w = weight[input.shape[1] - sums.shape[2] :].to(sums.dtype)
        losses = losses * (w / w.mean())
    return reduce("dice_loss", losses, reduction, input)


@autocasts
def jaccard_loss(input: Tensor, target: Tensor, **options: Any) -> Tensor:
    """1 - |p ∩ y| / |p ∪ y|: `dice_loss` with alpha = beta = 1; options as there."""
    return dice_loss(input, target, alpha=1.0, beta=1.0, **options)


@autocasts
def tversky_loss(
    input: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7, **options: Any
) -> Tensor:
    """1 - TP / (TP + α·FP + β·FN) (Salehi et al. 2017): `dice_loss` that prefers too much to too little."""
    return dice_loss(input, target, alpha=alpha, beta=beta, **options)


@autocasts
def generalized_dice_loss(
    input: Tensor,
    target: Tensor,
    *,
    activation: str = "softmax",
    include_background: bool = True,
    batch: bool = False,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - 2 Σ_c w_c TP_c / Σ_c w_c (P_c + Y_c), w_c ~ 1 / Y_c²: small classes count like large ones.

    Sudre et al. 2017. Options as of `dice_loss`; "none" gives the loss of each sample, (N,). The weights are
    scaled to 1 for the smallest class that is there, and a class that is absent gets the same: so smoothing
    means the same for every size of image.
    """
    name = "generalized_dice_loss"
    sums = _sums(name, input, target, activation, include_background, False, ignore_index)
    overlap, predicted, true = sums.sum(1) if batch else sums
    volume = true.detach()
    smallest = pw.where(volume > 0, volume, math.inf).amin(-1, keepdim=True)
    smallest = pw.where(smallest < math.inf, smallest, 1.0)
    ratio = smallest / pw.maximum(volume, smallest)
    w = ratio * ratio
    index = _ratio((overlap * w).sum(-1) * 2.0, ((predicted + true) * w).sum(-1), smooth_nr, smooth_dr)
    return reduce(name, 1 - index, reduction, input)


@autocasts
def dice_ce_loss(
    input: Tensor,
    target: Tensor,
    *,
    weight_dice: float = 1.0,
    weight_ce: float = 1.0,
    batch: bool = False,
    ignore_index: int | None = None,
) -> Tensor:
    """weight_dice · `dice_loss` of the foreground + weight_ce · `cross_entropy`: nnU-Net's loss (+ 1).

    input (N, C, *S) with C >= 2: logits. target: labels (N, *S), where those equal to ignore_index count in
    neither part, or indicators or soft labels (N, C, *S). Where no label counts the loss is 0.

    Isensee et al. 2021. The Dice part sees whole objects, and keeps small ones from being forgotten; the
    cross-entropy gives every pixel a gradient.
    """
    name, x = "dice_ce_loss", widened(input)
    _check(name, input, target, include_background=False)
    if target.ndim == input.ndim - 1:
        sums = _softmax_sums(name, x, target, ignore_index)
        dice = 1 - _tversky(sums[:3, :, 1:], 0.5, 0.5, batch, smooth_nr=1e-5, smooth_dr=1e-5).mean()
        ce = sums[3].sum() / pw.clamp(sums[2].sum(), low=1, high=math.inf)
    else:
        dice = dice_loss(x, target, include_background=False, batch=batch, ignore_index=ignore_index)
        ce = cross_entropy(x, target)
    return reduce(name, dice * weight_dice + ce * weight_ce, "sum", input)
