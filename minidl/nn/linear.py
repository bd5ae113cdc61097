"""The fully connected layer."""

from __future__ import annotations

import math

from minidl.autograd import Tensor
from minidl.nn import init
from minidl.nn.functional.linear import linear
from minidl.nn.module import Module, Parameter
from minidl.tensor import zeros


def reset_affine(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's default: weight and bias uniform on ±1/sqrt(fan_in)."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(init.fan_in_and_fan_out(weight)[0])
        init.uniform_(bias, -bound, bound)


class Linear(Module):
    """y = x Wᵀ + b with learned weight (out, in) and bias (out,): input (..., in) -> (..., out)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(zeros(out_features, in_features))
        self.register_parameter("bias", Parameter(zeros(out_features)) if bias else None)
        reset_affine(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        has_bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={has_bias}"
