"""The affine map of a fully connected layer."""

from __future__ import annotations

from minidl.autograd import Tensor
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import same_dtype


@autocasts
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x Wᵀ + b: input (..., in), weight (out, in), bias (out,) -> (..., out)."""
    same_dtype("linear", input=input, weight=weight, bias=bias)
    if weight.ndim != 2 or input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: input {input.shape} does not fit weight (out, in) = {weight.shape}")
    y = input @ weight.mT
    return y if bias is None else y + bias
