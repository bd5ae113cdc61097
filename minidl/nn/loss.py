"""Losses as modules: their options fixed once, then called with (input, target)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minidl.autograd import Tensor
from minidl.nn import functional as F
from minidl.nn.function import Function
from minidl.nn.module import Module

# ---- of numbers ----------------------------------------------------------------------------------


class MSELoss(Function):
    """`mse_loss`: (x - y)²."""

    function, inputs = staticmethod(F.mse_loss), 2


class L1Loss(Function):
    """`l1_loss`: |x - y|."""

    function, inputs = staticmethod(F.l1_loss), 2


class SmoothL1Loss(Function):
    """`smooth_l1_loss`: a parabola within ±beta, then |x - y|."""

    function, inputs = staticmethod(F.smooth_l1_loss), 2


class HuberLoss(Function):
    """`huber_loss`: a parabola within ±delta, then straight."""

    function, inputs = staticmethod(F.huber_loss), 2


class KLDivLoss(Function):
    """`kl_div` of log-probabilities and a distribution."""

    function, inputs = staticmethod(F.kl_div), 2


# ---- of classes ----------------------------------------------------------------------------------


class CrossEntropyLoss(Function):
    """`cross_entropy` of logits (N, C, *S) and labels (N, *S)."""

    function, inputs = staticmethod(F.cross_entropy), 2


class NLLLoss(Function):
    """`nll_loss` of log-probabilities (N, C, *S) and labels (N, *S)."""

    function, inputs = staticmethod(F.nll_loss), 2


class BCELoss(Function):
    """`binary_cross_entropy` of probabilities."""

    function, inputs = staticmethod(F.binary_cross_entropy), 2


class BCEWithLogitsLoss(Function):
    """`binary_cross_entropy_with_logits`."""

    function, inputs = staticmethod(F.binary_cross_entropy_with_logits), 2


class FocalLoss(Function):
    """`focal_loss` of logits (N, C, *S) and labels (N, *S)."""

    function, inputs = staticmethod(F.focal_loss), 2


# ---- of overlap ----------------------------------------------------------------------------------


class DiceLoss(Function):
    """`dice_loss` of logits (N, C, *S) and labels (N, *S)."""

    function, inputs = staticmethod(F.dice_loss), 2


class GeneralizedDiceLoss(Function):
    """`generalized_dice_loss` of logits (N, C, *S) and labels (N, *S)."""

    function, inputs = staticmethod(F.generalized_dice_loss), 2


class DiceCELoss(Function):
    """`dice_ce_loss` of logits (N, C, *S) and labels (N, *S): nnU-Net's loss."""

    function, inputs = staticmethod(F.dice_ce_loss), 2


class DeepSupervisionLoss(Module):
    """`deep_supervision_loss`: a loss applied at every level of a decoder."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weights: Sequence[float] | None = None):
        super().__init__()
        self.loss, self.weights = loss, weights

    def forward(self, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        return F.deep_supervision_loss(outputs, target, self.loss, self.weights)

    def extra_repr(self) -> str:
        return "" if self.weights is None else f"weights={list(self.weights)}"
