"""Losses as modules: their options fixed once, then called with (input, target)."""

from __future__ import annotations

from typing import Any

from minidl.autograd import Tensor
from minidl.nn import functional as F
from minidl.nn.module import Module


class _Loss(Module):
    """A loss function with its options."""

    function: Any

    def __init__(self, **options: Any):
        super().__init__()
        self.options = options

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return type(self).function(input, target, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.options.items() if value is not None)


class MSELoss(_Loss):
    """`mse_loss`."""

    function = staticmethod(F.mse_loss)

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction=reduction)


class L1Loss(_Loss):
    """`l1_loss`."""

    function = staticmethod(F.l1_loss)

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction=reduction)


class CrossEntropyLoss(_Loss):
    """`cross_entropy` of logits (N, C, *S) and labels (N, *S)."""

    function = staticmethod(F.cross_entropy)

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )


class NLLLoss(_Loss):
    """`nll_loss` of log-probabilities (N, C, *S) and labels (N, *S)."""

    function = staticmethod(F.nll_loss)

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(weight=weight, ignore_index=ignore_index, reduction=reduction)


class BCELoss(_Loss):
    """`binary_cross_entropy` of probabilities."""

    function = staticmethod(F.binary_cross_entropy)

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean"):
        super().__init__(weight=weight, reduction=reduction)


class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits`."""

    function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(
        self,
        weight: Tensor | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ):
        super().__init__(weight=weight, reduction=reduction, pos_weight=pos_weight)


class DiceLoss(_Loss):
    """`dice_loss` of logits (N, C, *S) and labels (N, *S)."""

    function = staticmethod(F.dice_loss)

    def __init__(
        self,
        include_background: bool = True,
        batch: bool = False,
        smooth: float = 1e-5,
        ignore_index: int | None = None,
    ):
        super().__init__(
            include_background=include_background,
            batch=batch,
            smooth=smooth,
            ignore_index=ignore_index,
        )


class DiceCELoss(_Loss):
    """`dice_ce_loss` of logits (N, C, *S) and labels (N, *S): nnU-Net's loss."""

    function = staticmethod(F.dice_ce_loss)

    def __init__(self, weight_dice: float = 1.0, weight_ce: float = 1.0, batch: bool = False):
        super().__init__(weight_dice=weight_dice, weight_ce=weight_ce, batch=batch)
