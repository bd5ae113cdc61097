"""Layers that act on each element or along a dim, or drop some elements; all but PReLU without parameters."""

from __future__ import annotations

from typing import Any

from minidl.autograd import Tensor
from minidl.nn import functional as F
from minidl.nn.function import Function
from minidl.nn.functional.checks import probability
from minidl.nn.module import Module, Parameter
from minidl.tensor import full


class Identity(Module):
    """y = x; arguments are accepted and forgotten, so that it can stand in for any layer."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


# ---- piecewise linear ----------------------------------------------------------------------------


class ReLU(Function):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class LeakyReLU(Function):
    """x where x > 0, negative_slope · x elsewhere."""

    function = staticmethod(F.leaky_relu)


class PReLU(Module):
    """x where x > 0, w · x elsewhere; w is learned, one for all channels or one for each."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(full(num_parameters, float(init)))

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Hardtanh(Function):
    """min(max(x, min_val), max_val)."""

    function = staticmethod(F.hardtanh)


class ReLU6(Function):
    """min(max(x, 0), 6)."""

    function = staticmethod(F.relu6)


class Hardsigmoid(Function):
    """relu6(x + 3) / 6."""

    function = staticmethod(F.hardsigmoid)


class Hardswish(Function):
    """x · relu6(x + 3) / 6."""

    function = staticmethod(F.hardswish)


# ---- exponential ---------------------------------------------------------------------------------


class ELU(Function):
    """x where x > 0, alpha · (e^x - 1) elsewhere."""

    function = staticmethod(F.elu)


class CELU(Function):
    """x where x > 0, alpha · (e^(x / alpha) - 1) elsewhere."""

    function = staticmethod(F.celu)


class SELU(Function):
    """1.0507 · elu(x, 1.6733)."""

    function = staticmethod(F.selu)


class Sigmoid(Function):
    """1 / (1 + e^-x)."""

    function = staticmethod(F.sigmoid)


class Tanh(Function):
    """tanh(x)."""

    function = staticmethod(F.tanh)


class LogSigmoid(Function):
    """log(sigmoid(x))."""

    function = staticmethod(F.logsigmoid)


class Softplus(Function):
    """log(1 + e^(beta · x)) / beta."""

    function = staticmethod(F.softplus)


class Softsign(Function):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class SiLU(Function):
    """x · sigmoid(x)."""

    function = staticmethod(F.silu)


class Mish(Function):
    """x · tanh(softplus(x))."""

    function = staticmethod(F.mish)


class GELU(Function):
    """x · Φ(x), Φ the normal distribution function."""

    function = staticmethod(F.gelu)


# ---- along a dim ---------------------------------------------------------------------------------


class Softmax(Function):
    """e^x_i / Σ_j e^x_j along a dim."""

    function = staticmethod(F.softmax)


class LogSoftmax(Function):
    """x_i - log Σ_j e^x_j along a dim."""

    function = staticmethod(F.log_softmax)


class Softmin(Function):
    """softmax(-x) along a dim."""

    function = staticmethod(F.softmin)


class GLU(Function):
    """a · sigmoid(b), a and b the two halves of the input along a dim."""

    function = staticmethod(F.glu)


# ---- dropout -------------------------------------------------------------------------------------


class Dropout(Module):
    """Each element 0 with probability p in training, the others divided by 1 - p."""

    drop = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5):
        super().__init__()
        probability(type(self).__name__, p)
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return self.drop(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L)."""

    drop = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W)."""

    drop = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels of (N, C, D, H, W)."""

    drop = staticmethod(F.dropout3d)
