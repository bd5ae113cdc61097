"""Padding layers: all logic in one class, the mode and the rank fixed by subclasses."""

from __future__ import annotations

from collections.abc import Sequence

from minidl.autograd import Tensor
from minidl.nn.functional.checks import Sizes
from minidl.nn.functional.padding import pad
from minidl.nn.module import Module


class _Pad(Module):
    """`pad` by one number everywhere, or by (before, after) of each spatial axis, the last one first."""

    rank: int
    mode = "constant"
    value: float | None = None

    def __init__(self, padding: Sizes):
        super().__init__()
        count = 2 * self.rank
        self.padding = (padding,) * count if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != count:
            raise ValueError(f"{type(self).__name__}: expected one integer or {count}, got {padding}")

    def forward(self, input: Tensor) -> Tensor:
        return pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}" if self.value is None else f"padding={self.padding}, value={self.value}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float):
        super().__init__(padding)
        self.value = value


class ZeroPad1d(_Pad):
    """Zeros around (N, C, L)."""

    rank = 1


class ZeroPad2d(_Pad):
    """Zeros around (N, C, H, W)."""

    rank = 2


class ZeroPad3d(_Pad):
    """Zeros around (N, C, D, H, W)."""

    rank = 3


class ConstantPad1d(_ConstantPad):
    """One number around (N, C, L)."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """One number around (N, C, H, W)."""

    rank = 2


class ConstantPad3d(_ConstantPad):
    """One number around (N, C, D, H, W)."""

    rank = 3


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Mirrored samples around (N, C, L)."""

    rank = 1


class ReflectionPad2d(_ReflectionPad):
    """Mirrored samples around (N, C, H, W)."""

    rank = 2


class ReflectionPad3d(_ReflectionPad):
    """Mirrored samples around (N, C, D, H, W)."""

    rank = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """The border samples repeated around (N, C, L)."""

    rank = 1


class ReplicationPad2d(_ReplicationPad):
    """The border samples repeated around (N, C, H, W)."""

    rank = 2


class ReplicationPad3d(_ReplicationPad):
    """The border samples repeated around (N, C, D, H, W)."""

    rank = 3


class _CircularPad(_Pad):
    mode = "circular"


class CircularPad1d(_CircularPad):
    """The samples of the other end around (N, C, L)."""

    rank = 1


class CircularPad2d(_CircularPad):
    """The samples of the other end around (N, C, H, W)."""

    rank = 2


class CircularPad3d(_CircularPad):
    """The samples of the other end around (N, C, D, H, W)."""

    rank = 3
