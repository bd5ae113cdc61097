"""minidl: an educational, from-scratch deep-learning engine on NumPy and CuPy for image segmentation.

Read it bottom-up: backend -> autograd -> ops (three laws) -> tensor -> nn -> optim -> models -> segment.
"""

# fmt: off
# isort: off
from minidl import methods  # noqa: F401  it hangs the methods on Tensor
from minidl import amp, autograd, backends, cuda, linalg, nn, optim
from minidl.autograd import Tensor
from minidl.recording import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minidl.backend import device, manual_seed
from minidl.dtypes import (
    bool, float16, float32, float64, int8, int16, int32, int64, promote_types, result_type, uint8,
)
from minidl.kernels.threads import get_num_threads, set_num_threads
from minidl.mixed_precision import autocast
from minidl.ops.einsum import einsum, tensordot
from minidl.ops.elementary import (
    acos, add, asin, atan, atan2, ceil, clamp, cosh, div, erf, floor, floor_divide, fmod, log2, log10,
    nan_to_num, reciprocal, remainder, round, sinh, square, sub, tan, trunc,
)
from minidl.ops.extrema import amax, amin, argmax, argmin, argsort, max, min, sort, topk
from minidl.ops.indexing import (
    gather, index_add, index_put, index_select, masked_fill, masked_select, scatter_add, take_along_dim,
)
from minidl.ops.logic import (
    bitwise_and, bitwise_not, bitwise_or, bitwise_xor, eq, ge, gt, isfinite, isinf, isnan, le,
    logical_and, logical_not, logical_or, logical_xor, lt, ne,
)
from minidl.ops.matrices import bmm, diag, diagonal, dot, matmul, mm, mv, outer, tril, triu
from minidl.ops.pointwise import (
    abs, cos, exp, expm1, log, log1p, maximum, minimum, mul, neg, pow, relu, rsqrt, sigmoid, sign, sin,
    sqrt, tanh, where,
)
from minidl.ops.reductions import (
    all, any, count_nonzero, cumprod, cumsum, log_softmax, logsumexp, mean, norm, prod, softmax, std, sum,
    var,
)
from minidl.ops.shaping import (
    broadcast_to, cat, chunk, flatten, flip, meshgrid, movedim, narrow, permute, reshape, roll, split,
    squeeze, stack, t, tile, transpose, unbind, unsqueeze,
)
from minidl.serialize import load, save
from minidl.tensor import (
    arange, as_tensor, eye, from_dlpack, from_numpy, full, full_like, linspace, ones, ones_like, rand,
    rand_like, randint, randn, randn_like, randperm, tensor, zeros, zeros_like,
)
# isort: on
# fmt: on

__version__ = "0.1.0"

__all__ = [
    "Tensor", "abs", "acos", "add", "all", "amax", "amin", "amp", "any", "arange", "argmax", "argmin",
    "argsort", "as_tensor", "asin", "atan", "atan2", "autocast", "autograd", "backends", "bitwise_and",
    "bitwise_not", "bitwise_or", "bitwise_xor", "bmm", "bool", "broadcast_to", "cat", "ceil", "chunk",
    "clamp", "cos", "cosh", "count_nonzero", "cuda", "cumprod", "cumsum", "device", "diag", "diagonal",
    "div", "dot", "einsum", "enable_grad", "eq", "erf", "exp", "expm1", "eye", "flatten", "flip",
    "float16", "float32", "float64", "floor", "floor_divide", "fmod", "from_dlpack", "from_numpy", "full",
    "full_like", "gather", "ge", "get_num_threads", "gt", "index_add", "index_put", "index_select",
    "int8", "int16", "int32", "int64", "is_grad_enabled", "isfinite", "isinf", "isnan", "le", "linalg",
    "linspace", "load", "log", "log1p", "log2", "log10", "log_softmax", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logsumexp", "lt", "manual_seed", "masked_fill", "masked_select",
    "matmul", "max", "maximum", "mean", "meshgrid", "min", "minimum", "mm", "movedim", "mul", "mv",
    "nan_to_num", "narrow", "ne", "neg", "nn", "no_grad", "norm", "ones", "ones_like", "optim", "outer",
    "permute", "pow", "prod", "promote_types", "rand", "rand_like", "randint", "randn", "randn_like",
    "randperm", "reciprocal", "relu", "remainder", "reshape", "result_type", "roll", "round", "rsqrt",
    "save", "scatter_add", "set_grad_enabled", "set_num_threads", "sigmoid", "sign", "sin", "sinh",
    "softmax", "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "sub", "sum", "t",
    "take_along_dim", "tan", "tanh", "tensor", "tensordot", "tile", "topk", "transpose", "tril", "triu",
    "trunc", "uint8", "unbind", "unsqueeze", "var", "where", "zeros", "zeros_like",
]  # fmt: skip
