"""The dtypes, by PyTorch's names (they are NumPy's), and PyTorch's rules for mixing them."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
int8, int16, int32, int64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
uint8, bool = np.dtype("uint8"), np.dtype("bool")

OF_PYTHON = {builtins.bool: bool, int: int64, float: float32}  # what Python's numbers become on their own


def category(dtype: np.dtype) -> int:
    """The place of a dtype in bool < integers < floats < complex."""
    return "bifc".index("i" if dtype.kind == "u" else dtype.kind)


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The common dtype of two tensors: the higher category's, and within a category one that holds both.

    So int64 with float16 is float16 (NumPy says float64), uint8 with int8 is int16.
    """
    a, b = np.dtype(type1), np.dtype(type2)
    return np.promote_types(a, b) if category(a) == category(b) else max(a, b, key=category)


def result_type(*operands: Any) -> np.dtype:
    """The dtype of an operation between tensors and Python numbers.

    Tensors with dims decide. Tensors without dims, then Python numbers, matter only where they are of a
    higher category: int64 tensor + 0.5 is float32, float16 tensor + 0.5 is float16.
    """
    found: dict[int, np.dtype] = {}  # 0: of tensors with dims, 1: without dims, 2: of Python numbers
    for x in operands:
        number = OF_PYTHON.get(type(x))
        level, dtype = (2, number) if number is not None else (0 if x.ndim else 1, x.dtype)
        found[level] = promote_types(found.get(level, dtype), dtype)
    return max((found[level] for level in sorted(found)), key=category)  # the first of equals
