"""minidl: an educational, from-scratch deep-learning engine on NumPy and CuPy for image segmentation.

Read it bottom-up: backend -> autograd -> ops (three laws) -> tensor -> nn -> optim -> models -> segment.
"""

from minidl import autograd, nn, optim
from minidl.autograd import Tensor, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minidl.backend import device, manual_seed
from minidl.dtypes import bool, float16, float32, float64, int8, int16, int32, int64, uint8
from minidl.ops.pointwise import (
    abs,
    add,
    cos,
    div,
    eq,
    exp,
    expm1,
    ge,
    gt,
    isfinite,
    isnan,
    le,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    relu,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    sub,
    tanh,
    where,
)
from minidl.ops.reductions import (
    amax,
    amin,
    argmax,
    argmin,
    cumsum,
    log_softmax,
    logsumexp,
    matmul,
    max,
    mean,
    min,
    softmax,
    std,
    sum,
    var,
)
from minidl.ops.shaping import (
    cat,
    chunk,
    flatten,
    flip,
    movedim,
    narrow,
    permute,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
    unbind,
    unsqueeze,
)
from minidl.serialize import load, save
from minidl.tensor import (
    arange,
    as_tensor,
    clamp,
    eye,
    from_numpy,
    full,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    tensor,
    zeros,
    zeros_like,
)

__version__ = "0.1.0"

__all__ = [
    "Tensor", "abs", "add", "amax", "amin", "arange", "argmax", "argmin", "as_tensor", "autograd", "bool",
    "cat", "chunk", "clamp", "cos", "cumsum", "device", "div", "enable_grad", "eq", "exp", "expm1", "eye",
    "flatten", "flip", "float16", "float32", "float64", "from_numpy", "full", "ge", "gt", "int8", "int16",
    "int32", "int64", "is_grad_enabled", "isfinite", "isnan", "le", "linspace", "load", "log", "log1p",
    "log_softmax", "logical_and", "logical_not", "logical_or", "logsumexp", "lt", "manual_seed", "matmul",
    "max", "maximum", "mean", "min", "minimum", "movedim", "mul", "narrow", "ne", "neg", "nn", "no_grad",
    "ones", "ones_like", "optim", "permute", "pow", "rand", "randint", "randn", "randperm", "relu", "reshape",
    "rsqrt", "save", "set_grad_enabled", "sigmoid", "sign", "sin", "softmax", "split", "sqrt", "squeeze",
    "stack", "std", "sub", "sum", "tanh", "tensor", "transpose", "uint8", "unbind", "unsqueeze", "var",
    "where", "zeros", "zeros_like",
]  # fmt: skip
