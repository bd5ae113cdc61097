"""Losses that weigh each pixel: by how hard it is (focal loss), or by where it lies (weight maps)."""

from __future__ import annotations

import math

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import floating, same_device, widened
from minidl.nn.functional.labels import indicators, read_labels
from minidl.nn.functional.loss import cross_entropy, pair, reduce, reduce_labelled
from minidl.ops import linear, reductions
from minidl.ops import pointwise as pw

# ---- focal loss ----------------------------------------------------------------------------------


def _focal(margin: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^γ log p for p = σ(margin): all in logarithms, so that no power of 0 is ever differentiated."""
    return -(pw.exp(pw.logsigmoid(-margin) * float(gamma)) * pw.logsigmoid(margin))


def _check_gamma(name: str, gamma: float) -> None:
    if gamma < 0:
        raise ValueError(f"{name}: gamma must not be negative, got {gamma}")


@autocasts
def focal_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-w_y (1 - p_y)^γ log p_y, p = softmax(input): `cross_entropy` that turns away from easy pixels.

    Lin et al. 2017. input (N, C, *S) with C >= 2: logits, target (N, *S): labels, weight (C,). "mean" divides
    by the weights of the labels that count. γ = 0 is `cross_entropy`.
    """
    name = "focal_loss"
    _check_gamma(name, gamma)
    floating(name, input)
    x = widened(input)
    labels = read_labels(name, x, target, weight, ignore_index)
    if x.shape[1] < 2:
        raise ValueError(f"{name}: needs 2 or more channels, got input {x.shape}; see sigmoid_focal_loss")
    # p_y = σ(margin), where the margin is the logit of y less the logsumexp of all the others.
    xp = array_module(x.array)
    own = linear.take_along(x, index=xp.expand_dims(labels.index, 1), dim=1).squeeze(1)
    others = pw.where(indicators(labels.index, x.shape[1], np.bool_), -math.inf, x)
    losses = _focal(own - reductions.logsumexp(others, 1), gamma) * labels.weight
    return reduce_labelled(name, losses, labels, reduction, input)


@autocasts
def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
) -> Tensor:
    """y α (1 - p)^γ (-log p) + (1 - y) (1 - α) p^γ (-log(1 - p)), p = σ(input): each channel yes or no.

    Lin et al. 2017. input: logits, target of the same shape in [0, 1]. alpha=None counts both sides in full.
    """
    name = "sigmoid_focal_loss"
    _check_gamma(name, gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"{name}: alpha must be in [0, 1] or None, got {alpha}")
    x, y = pair(name, input, target)
    yes, no = (1.0, 1.0) if alpha is None else (float(alpha), 1 - float(alpha))
    losses = y * _focal(x, gamma) * yes + (1 - y) * _focal(-x, gamma) * no
    return reduce(name, losses, reduction, input)


# ---- weight maps ---------------------------------------------------------------------------------


@autocasts
def weighted_cross_entropy(
    input: Tensor,
    target: Tensor,
    pixel_weight: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-w(x) log softmax(input)[y(x), x]: `cross_entropy` with a weight for each pixel.

    input (N, C, *S): logits, target (N, *S): labels, pixel_weight (N, *S). "mean" divides by the weights of
    the labels that count.
    """
    name = "weighted_cross_entropy"
    same_device(name, input=input, target=target, pixel_weight=pixel_weight)
    if pixel_weight.shape != target.shape:
        raise ValueError(
            f"{name}: pixel_weight must have the target's shape {target.shape}, got {pixel_weight.shape}"
        )
    floating(name, input)
    x = widened(input)
    labels = read_labels(name, x, target, None, ignore_index)
    labels = labels._replace(weight=labels.weight * pixel_weight.to(x.dtype))
    losses = cross_entropy(x, target, ignore_index=ignore_index, reduction="none") * labels.weight
    return reduce_labelled(name, losses, labels, reduction, input)


def unet_weight_map(label: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """w(x) = w_c(x) + w0 · exp(-(d1 + d2)² / 2σ²): what the U-Net of 2015 learns the gaps between cells with.

    label (*S): an integer for each cell, 0 for the background. w_c makes background and cells count alike,
    with mean 1. The second term is that of the background: d1 and d2 are the distances to the nearest and to
    the second nearest cell, so it is large where two cells almost touch. Returns float32 (*S).

    Ronneberger et al. 2015, equation 2; their w0 is 10, their σ about 5 pixels.
    """
    from scipy.ndimage import distance_transform_edt

    if not isinstance(label, np.ndarray):
        raise TypeError(f"unet_weight_map: label must be a numpy.ndarray, got {type(label).__name__}")
    if label.dtype.kind not in "ui":
        raise TypeError(f"unet_weight_map: cells must be numbered by integers, got {label.dtype}")
    if sigma <= 0:
        raise ValueError(f"unet_weight_map: sigma must be positive, got {sigma}")
    background = label == 0
    share = background.mean() if label.size else 0.5
    balance = (
        np.ones(label.shape) if share in (0, 1) else np.where(background, 0.5 / share, 0.5 / (1 - share))
    )
    nearest, second = np.full(label.shape, np.inf), np.full(label.shape, np.inf)
    for cell in np.unique(label[~background]):
        distance = distance_transform_edt(label != cell)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    border = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return (balance + np.where(background, border, 0)).astype(np.float32)
