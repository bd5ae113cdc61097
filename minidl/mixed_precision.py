"""Mixed precision: what computes in float16 and what in float32 inside `autocast`.

float16 takes half the memory, and a GPU multiplies matrices of it many times as fast. But it has 3 digits,
its largest number is 65504 and its smallest 6e-8. So inside `autocast` the products, which are nearly all of
the work and whose sums the kernels take in float32, compute in float16; what grows, shrinks or adds up many
numbers computes in float32; and all else (activations, pooling, batch and instance norm, concatenation) takes
what it is given. Weights stay float32. The lists are PyTorch's for CUDA (its "Autocast Op Reference"), and
minidl's own losses; Micikevicius et al. 2018, "Mixed Precision Training", say why.

A function on a list casts its float32 and float16 tensors before anything else, its checks included; inside
of it nothing is cast any more. The casts are ordinary ops, through which gradients flow back to the weights
in float32. Backward itself computes each derivative in the dtypes of its forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ContextDecorator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from minidl.autograd import Tensor
from minidl.dtypes import float16, float32
from minidl.recording import casting, current_casts, is_grad_enabled

HALF = {"conv_nd", "conv_transpose_nd", "linear", "matmul", "mm", "bmm", "mv", "einsum", "tensordot", "prelu"}
FLOAT32 = {
    "acos", "asin", "cosh", "exp", "expm1", "log", "log10", "log1p", "log2", "pow", "reciprocal", "rsqrt",
    "sinh", "tan", "softplus",
    "sum", "prod", "cumsum", "cumprod", "vector_norm", "softmax", "log_softmax", "softmin",
    "group_norm", "layer_norm",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "nll_loss", "cross_entropy",
    "binary_cross_entropy_with_logits", "focal_loss", "sigmoid_focal_loss", "weighted_cross_entropy",
    "tversky_index", "dice_loss", "jaccard_loss", "tversky_loss", "generalized_dice_loss", "dice_ce_loss",
}  # fmt: skip
UNSAFE = {"binary_cross_entropy"}  # near 0 and 1 float16 has no room for a probability

# ---- how a function casts ------------------------------------------------------------------------


class Rules:
    """What `autocast` does to the inputs of a function, by its name and the device of each.

    A weight is cast once: `made` keeps its float16 copy until the outermost `autocast` is left.
    """

    def __init__(self, device_types: frozenset[str], made: dict[tuple[Tensor, bool], Tensor]):
        self.device_types = device_types  # where tensors are cast
        self.made = made  # (weight, whether it was recorded) -> its copy

    def __call__(self, name: str, inputs: Sequence) -> Sequence:
        if name in UNSAFE:
            raise RuntimeError(
                f"{name}: float16 has no room for probabilities near 0 and 1; inside autocast use "
                f"{name}_with_logits, which takes what stands before the sigmoid"
            )
        if name not in HALF and name not in FLOAT32:
            return inputs
        return [self._cast(x, name in HALF) for x in inputs]

    def _cast(self, x: Any, half: bool) -> Any:
        if isinstance(x, (list, tuple)):  # of tensors, as einsum takes them
            return type(x)(self._cast(part, half) for part in x)
        if not isinstance(x, Tensor) or x.dtype not in (float16, float32):
            return x
        if x.device.type not in self.device_types:
            return x
        dtype = float16 if half else float32
        if x.dtype == dtype or not (half and x.is_leaf and x.requires_grad):
            return x.to(dtype)
        key = x, is_grad_enabled()
        copy = self.made.get(key)
        if copy is None or (copy.node and copy.node.saved is None):  # backward has been through its graph
            copy = self.made[key] = x.to(dtype)
        return copy


P = ParamSpec("P")
T = TypeVar("T")


def autocasts(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that is not an op: it casts its tensors first, as ops do, if a list has its name.

    On no list stand functions that PyTorch computes as a whole (elu): nothing is cast inside of them.
    """
    name = function.__name__

    @wraps(function)
    def cast_first(*args: P.args, **options: P.kwargs) -> T:
        casts = current_casts()
        if casts is None:
            return function(*args, **options)
        inputs, values = casts(name, args), casts(name, list(options.values()))
        with casting(None):
            return function(*inputs, **dict(zip(options, values)))

    return cast_first


def under_present_rules(function: Callable[P, T]) -> Callable[P, T]:
    """The function as it computes now, also when it is called later: `checkpoint` calls it again in backward.

    It casts weights by itself, so that it records the same ops each time.
    """
    rules = current_casts()
    if not isinstance(rules, Rules):
        return function

    def as_now(*args: P.args, **options: P.kwargs) -> T:
        with casting(Rules(rules.device_types, {})):
            return function(*args, **options)

    return as_now


# ---- the context ---------------------------------------------------------------------------------


class autocast(ContextDecorator):
    """Compute in float16 where that is safe, inside a `with` block or a decorated function.

        with minidl.autocast("cuda"):
            loss = F.dice_ce_loss(model(x), y)
        scaler.scale(loss).backward()         # see `minidl.amp.GradScaler`

    Only tensors on devices of that type are cast, so that CPU and GPU can differ. enabled=False switches it
    off within another. Leave it before the optimiser's step: a weight's float16 copy does not see a change.
    Errors: ValueError for dtypes other than float16: NumPy has no bfloat16, PyTorch's default on the CPU.
    """

    def __init__(self, device_type: str, dtype: Any = float16, enabled: bool = True):
        if device_type not in ("cpu", "cuda"):
            raise ValueError(f"autocast: device_type must be 'cpu' or 'cuda', got {device_type!r}")
        if np.dtype(dtype) != float16:
            raise ValueError(f"autocast: dtype must be minidl.float16, got {np.dtype(dtype)}")
        self.device_type, self.enabled = device_type, enabled
        self.inside: list[Any] = []  # a stack: one decorator object may be entered recursively

    def __enter__(self) -> autocast:
        outer = current_casts()
        types, made = (outer.device_types, outer.made) if isinstance(outer, Rules) else (frozenset(), {})
        types = types | {self.device_type} if self.enabled else types - {self.device_type}
        self.inside.append(casting(Rules(types, made) if types else None))
        self.inside[-1].__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.inside.pop().__exit__(*exception)
