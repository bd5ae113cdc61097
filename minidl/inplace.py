"""Changing tensors in place, as hand-written training loops do: `w -= lr * w.grad`, `w.grad.zero_()`.

A recorded op keeps the arrays that its derivative needs, and would compute with changed values unnoticed.
Hence one rule: only leaves change in place, and those that require a gradient only under `no_grad`, between a
backward and the next forward. Everything else raises. Where ops are recorded, `y += x` makes a new tensor,
y = y + x, as with Python's numbers: gradients go through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.autograd import Tensor
from minidl.dtypes import category
from minidl.ops import elementary, shaping
from minidl.ops import pointwise as pw
from minidl.recording import is_grad_enabled, no_grad


def _check(name: str, target: Tensor, values: Any) -> None:
    """Raise RuntimeError where a change in place would make a gradient wrong, or change elements twice."""
    if target.node is not None:
        raise RuntimeError(
            f"{name}: this tensor was made by {target.node.name} in a recorded graph, which may need its "
            "values; make a new tensor (y = y + x), or change .detach().clone()"
        )
    if is_grad_enabled() and target.requires_grad:
        raise RuntimeError(
            f"{name}: a leaf tensor that requires a gradient can be changed in place only under no_grad()"
        )
    if is_grad_enabled() and isinstance(values, Tensor) and values.requires_grad:
        raise RuntimeError(f"{name}: the gradient of the operand would be lost; make a new tensor instead")
    if any(stride == 0 and n > 1 for stride, n in zip(target.array.strides, target.shape)):
        raise RuntimeError(f"{name}: elements of this expanded tensor share memory; change its .clone()")


def _in_place(name: str, function: Callable[..., Tensor], casts: bool = False) -> Callable[..., Tensor]:
    """The method that writes function(self, other, ...) into self; `casts`: also to a lower category."""

    def method(self: Tensor, other: Any, **options: Any) -> Tensor:
        _check(name, self, other)
        with no_grad():
            result = function(self, other, **options)
        if result.shape != self.shape:
            raise ValueError(f"{name}: the result has shape {result.shape}, the tensor {self.shape}")
        if not casts and category(result.dtype) > category(self.dtype):
            raise TypeError(f"{name}: the result is {result.dtype} and does not fit a tensor of {self.dtype}")
        self.array[...] = result.to(self.device).array
        return self

    method.__name__ = name
    method.__doc__ = f"`{name[:-1]}`, written into the tensor itself, which is returned."
    return method


def _filled(self: Tensor, value: Any) -> Tensor:
    return shaping.expand(
        value if isinstance(value, Tensor) else Tensor(self.array.dtype.type(value)), self.shape
    )


add_, sub_ = _in_place("add_", elementary.add), _in_place("sub_", elementary.sub)
mul_, div_ = _in_place("mul_", pw.mul), _in_place("div_", elementary.div)
copy_ = _in_place("copy_", lambda a, b: shaping.expand(b.to(a.device), a.shape), casts=True)
fill_ = _in_place("fill_", _filled)


def zero_(self: Tensor) -> Tensor:
    """All elements set to 0, in the tensor itself, which is returned."""
    return fill_(self, 0)


def augmented(function: Callable[..., Tensor], in_place: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`a += b` and its kin: in place under `no_grad`, a new tensor where recording goes on."""

    def operator(self: Tensor, other: Any) -> Tensor:
        recorded = is_grad_enabled() and not (self.is_leaf and self.requires_grad)
        return function(self, other) if recorded else in_place(self, other)

    return operator


def data(self: Tensor) -> Tensor:
    """The same array outside the graph: what is written into it is written into the tensor."""
    return self.detach()


def set_data(self: Tensor, value: Tensor) -> None:
    """Give a leaf another array."""
    if self.node is not None:
        raise RuntimeError(f"data: this tensor was made by {self.node.name}; only leaves get other data")
    self.array = value.array
