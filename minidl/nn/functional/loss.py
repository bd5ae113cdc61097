"""Losses: the distance between a prediction and the truth, as one number to minimise."""

from __future__ import annotations

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.nn.functional.activation import logsigmoid
from minidl.ops import linear, reductions
from minidl.ops import pointwise as pw


def _reduce(values: Tensor, reduction: str, name: str) -> Tensor:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def _same_shape(input: Tensor, target: Tensor, name: str) -> None:
    if input.shape != target.shape:
        raise ValueError(f"{name}: target must have the input's shape {input.shape}, got {target.shape}")


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)²."""
    _same_shape(input, target, "mse_loss")
    difference = input - target
    return _reduce(difference * difference, reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|."""
    _same_shape(input, target, "l1_loss")
    return _reduce(pw.abs(input - target), reduction, "l1_loss")


# ---- cross-entropy -------------------------------------------------------------------------------------------


def _check_labels(input: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor, bool]:
    """Input (N, C, *S) and integer target (N, *S); a single sample (C,) with () gets a batch dim."""
    if target.dtype.kind not in "ui":
        raise TypeError(f"{name}: class labels must be integers, got {target.dtype}")
    alone = input.ndim == 1
    if alone:
        input, target = input.unsqueeze(0), target.reshape(1) if target.ndim == 0 else target
    expected = (input.shape[0], *input.shape[2:])
    if target.shape != expected:
        raise ValueError(
            f"{name}: for input {input.shape} the target must have shape {expected}, got {target.shape}"
        )
    return input, target, alone


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-w[y_p] · input[y_p, p]: the negative log-likelihood of the true classes, from log-probabilities.

    input (N, C, *S), target (N, *S) with class labels; weight (C,). "mean" divides by the sum of the weights of the
    labels that count; those equal to ignore_index do not.
    """
    input, target, alone = _check_labels(input, target, "nll_loss")
    xp = array_module(input.array)
    classes = input.shape[1]
    counted = target.array != ignore_index
    label = xp.where(counted, target.array, 0)
    if label.size and not (int(label.min()) >= 0 and int(label.max()) < classes):
        raise IndexError(
            f"nll_loss: target holds labels from {int(label.min())} to {int(label.max())}, but there are "
            f"{classes} classes, 0 to {classes - 1}"
        )
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"nll_loss: weight must have shape ({classes},), got {weight.shape}")
    w = counted.astype(input.dtype) if weight is None else weight.array[label] * counted
    picked = linear.take_along(input, index=xp.expand_dims(label, 1), dim=1).squeeze(1)
    losses = pw.where(Tensor(counted), -picked * Tensor(w), 0.0)
    if reduction == "mean":
        return losses.sum() / Tensor(xp.asarray(w.sum(dtype=input.dtype)))
    losses = _reduce(losses, reduction, "nll_loss")
    return losses.squeeze(0) if alone and reduction == "none" else losses


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-Σ_p log softmax(input)[y_p, p]: how surprised the model is by the true classes.

    input (N, C, *S): logits. target: class labels (N, *S), or class probabilities (N, C, *S). weight (C,) counts
    classes differently; label_smoothing ε replaces the one-hot target by (1 - ε)·onehot + ε/C. "mean" divides by
    the weights of the labels that count (by N·ΠS for probabilities).
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    if input.ndim == 0:
        raise ValueError("cross_entropy: input needs a class dim")
    dim = 0 if input.ndim == 1 else 1
    logp = reductions.log_softmax(input, dim)
    if target.shape == input.shape and target.dtype.kind == "f":
        return _soft_cross_entropy(logp, target, weight, reduction, label_smoothing, dim)
    loss = nll_loss(logp, target, weight, ignore_index, reduction)
    if label_smoothing == 0:
        return loss
    uniform = _smoothing_loss(logp, target, weight, ignore_index, reduction, dim)
    return loss * (1 - label_smoothing) + uniform * (label_smoothing / input.shape[dim])


def _weighted(logp: Tensor, weight: Tensor | None, dim: int) -> Tensor:
    if weight is None:
        return logp
    return logp * weight.reshape(*(1,) * dim, -1, *(1,) * (logp.ndim - dim - 1))


def _soft_cross_entropy(logp, target, weight, reduction, smoothing, dim):
    target = target * (1 - smoothing) + smoothing / logp.shape[dim]
    losses = -(_weighted(logp, weight, dim) * target).sum(dim)
    if reduction == "mean":
        return losses.sum() * (1 / max(losses.array.size, 1))
    return _reduce(losses, reduction, "cross_entropy")


def _smoothing_loss(logp, target, weight, ignore_index, reduction, dim):
    """-Σ_c w_c log p_c at the labels that count: the part of the loss towards the uniform distribution."""
    counted = target.array != ignore_index
    losses = pw.where(Tensor(counted), -_weighted(logp, weight, dim).sum(dim), 0.0)
    if reduction != "mean":
        return _reduce(losses, reduction, "cross_entropy")
    xp = array_module(logp.array)
    total = (
        counted.sum()
        if weight is None
        else (weight.array[xp.where(counted, target.array, 0)] * counted).sum()
    )
    return losses.sum() / Tensor(xp.asarray(total).astype(logp.dtype))


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-[y log p + (1 - y) log(1 - p)] for probabilities p; the logarithms are cut off at -100."""
    _same_shape(input, target, "binary_cross_entropy")
    array = input.array
    if array.size and not bool(((array >= 0) & (array <= 1)).all()):
        raise ValueError(
            "binary_cross_entropy: input must hold probabilities in [0, 1]; use binary_cross_entropy_with_logits"
        )
    floor = -100.0
    logp = pw.clamp(pw.log(input), low=floor, high=np.inf)
    logq = pw.clamp(pw.log1p(-input), low=floor, high=np.inf)
    losses = -(target * logp + (1 - target) * logq)
    return _reduce(losses if weight is None else losses * weight, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-[w y log σ(x) + (1 - y) log σ(-x)], exact for logits of any size; w = pos_weight."""
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    positive = target if pos_weight is None else target * pos_weight
    losses = -(positive * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return _reduce(
        losses if weight is None else losses * weight, reduction, "binary_cross_entropy_with_logits"
    )


# ---- overlap -----------------------------------------------------------------------------------


def one_hot(target: Tensor, num_classes: int, dtype: np.dtype) -> Tensor:
    """Labels (N, *S) as indicators (N, C, *S); a label outside 0 .. C - 1 has none."""
    xp = array_module(target.array)
    shape = (1, num_classes, *(1,) * (target.ndim - 1))
    return Tensor((xp.expand_dims(target.array, 1) == xp.arange(num_classes).reshape(shape)).astype(dtype))


def soft_dice(
    probability: Tensor,
    target: Tensor,
    *,
    batch: bool = False,
    smooth: float = 1e-5,
    mask: Tensor | None = None,
) -> Tensor:
    """The Dice coefficient of soft sets, (2 Σ p·y + s) / (Σ p + Σ y + s), per class.

    probability, target (N, C, *S); mask (N, 1, *S) with 0 where nothing is known. The sums run over space, and
    with `batch` over the samples too. Returns (N, C), or (C,) with `batch`. (Milletari et al. 2016 square the
    denominator's terms; this is the plain form that nnU-Net uses.)
    """
    if mask is not None:
        probability, target = probability * mask, target * mask
    axes = tuple(range(2, probability.ndim)) if not batch else (0, *range(2, probability.ndim))
    overlap = (probability * target).sum(axes)
    return (overlap * 2 + smooth) / (probability.sum(axes) + target.sum(axes) + smooth)


def dice_loss(
    input: Tensor,
    target: Tensor,
    *,
    include_background: bool = True,
    batch: bool = False,
    smooth: float = 1e-5,
    ignore_index: int | None = None,
) -> Tensor:
    """1 - mean of `soft_dice` over classes (and samples): 0 for a perfect prediction, near 1 for a wrong one.

    input (N, C, *S): logits, turned into probabilities by softmax over C (by sigmoid where C is 1). target: labels
    (N, *S), or indicators or soft labels (N, C, *S). Without the background, class 0 does not count.
    """
    classes = input.shape[1]
    mask = None
    if target.ndim == input.ndim - 1:
        _, target, _ = _check_labels(input, target, "dice_loss")
        if ignore_index is not None:
            mask = Tensor((target.array != ignore_index).astype(input.dtype)).unsqueeze(1)
        target = one_hot(target, classes, input.dtype) if classes > 1 else target.to(input.dtype).unsqueeze(1)
    _same_shape(input, target, "dice_loss")
    probability = reductions.softmax(input, 1) if classes > 1 else pw.sigmoid(input)
    if not include_background:
        if classes == 1:
            raise ValueError("dice_loss: with one class there is no background to leave out")
        probability, target = probability[:, 1:], target[:, 1:]
    return 1 - soft_dice(probability, target, batch=batch, smooth=smooth, mask=mask).mean()


def dice_ce_loss(
    input: Tensor,
    target: Tensor,
    *,
    weight_dice: float = 1.0,
    weight_ce: float = 1.0,
    batch: bool = False,
) -> Tensor:
    """weight_dice · `dice_loss` (foreground classes) + weight_ce · `cross_entropy`: nnU-Net's loss.

    input (N, C, *S) with C >= 2: logits; target (N, *S): labels.
    """
    dice = dice_loss(input, target, include_background=False, batch=batch)
    return dice * weight_dice + cross_entropy(input, target) * weight_ce
