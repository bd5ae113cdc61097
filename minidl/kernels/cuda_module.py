"""CUDA C made into functions: the only place that talks to CuPy's compiler.

A kernel gets pointers and numbers as they are. CuPy checks neither the type nor the layout of an array, and
passes a Python int as 64 bits whatever the kernel declares. So every argument is checked here against the
kernel's own declaration, which is read from its text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minidl import backend

TYPES = {
    "float": np.float32, "double": np.float64, "__half": np.float16, "int": np.int32,
    "unsigned": np.uint32, "long long": np.int64, "unsigned char": np.uint8, "bool": np.bool_,
}  # fmt: skip
MACROS = {  # of the kernels for arrays of a dtype: the type of the elements and that of their sums
    np.dtype(np.float16): {"REAL": "__half", "SUM": "float"},
    np.dtype(np.float32): {"REAL": "float", "SUM": "float"},
    np.dtype(np.float64): {"REAL": "double", "SUM": "double"},
}
MACRO = {"real": "REAL", "sum_t": "SUM", "label_t": "LABEL"}  # that says what such a type is
MOST_ELEMENTS = 2**31 - 2**14  # that indices of 32 bits reach, with room for a grid
BLOCK = 256  # threads of a block, where nothing speaks for another number


def sum_type(dtype: np.dtype) -> np.dtype:
    """The dtype that elements of this one are added in: float16 in float32."""
    return np.promote_types(dtype, np.float32)


def blocks(threads: int) -> tuple[int]:
    """A grid with a thread for each of so many elements."""
    return (-(-threads // BLOCK),)


def check_size(name: str, shape: Sequence[int]) -> None:
    """ValueError if an array is too large for a kernel whose indices have 32 bits."""
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(
            f"{name}: an array of shape {tuple(shape)} has {math.prod(shape)} elements, more than the "
            f"{MOST_ELEMENTS} that 32-bit indices reach; use a smaller batch or patches"
        )


def address(array: Any) -> int:
    """Where the elements of an array begin in the memory of its device."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def source(file: str) -> str:
    """The text of a kernel file, with the `.cuh` files that it includes."""
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    return re.sub(r'#include "(\w+\.cuh)"\n', lambda found: source(found[1]), text)


@lru_cache(maxsize=256)
def function(file: str, name: str, **defines: str | int) -> Function:
    """The kernel `name` of a file in this folder, compiled with these macros when it is first launched."""
    return Function(file, name, defines)


class Function:
    """A kernel: `function(grid, block, arguments, shared_mem=0)` launches it.

    Errors: TypeError for an argument that is not what the kernel declares.
    """

    def __init__(self, file: str, name: str, defines: Mapping[str, str | int]):
        self.name, self.defines = name, defines
        self.code = "".join(f"#define {key} {value}\n" for key, value in defines.items()) + source(file)
        self.parameters = declared(self.code, name)
        self.launch: Callable | None = None

    def __call__(self, grid: tuple, block: tuple, arguments: Sequence, shared_mem: int = 0) -> None:
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name}: takes {len(self.parameters)} arguments, got {len(arguments)}")
        checked = tuple(map(self._checked, self.parameters, arguments))
        if 0 in grid:
            return
        if self.launch is None:
            self.launch = compiled(self.code, self.name)
        self.launch(grid, block, checked, shared_mem=shared_mem)

    def _checked(self, parameter: tuple[str, str, bool], value: Any) -> Any:
        """An argument as the kernel declares it: its type, its name, whether it is a pointer."""
        declared_type, name, pointer = parameter
        dtype = self._dtype(declared_type)
        if not pointer and dtype is not None:
            return dtype(value)
        if not pointer and value.size != 1:
            raise TypeError(f"{self.name}: {name} is a struct: an array of one element, not of {value.size}")
        if dtype is not None and value.dtype != dtype:
            raise TypeError(f"{self.name}: {name} must be {np.dtype(dtype)}, got {value.dtype}")
        if not value.flags.c_contiguous:
            raise TypeError(
                f"{self.name}: {name} must be contiguous; a kernel sees its memory, not its strides"
            )
        return value

    def _dtype(self, declared_type: str) -> Any:
        return TYPES.get(str(self.defines.get(MACRO.get(declared_type, ""), declared_type)))


def declared(code: str, name: str) -> list[tuple[str, str, bool]]:
    """The parameters of a kernel, from its text: (type, name, whether it is a pointer)."""
    pattern = rf"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?{name}\s*\(([^)]*)\)"
    found = re.search(pattern, code)
    if found is None:
        raise ValueError(f"there is no kernel {name!r}")
    parts = (part.strip().removeprefix("const ") for part in found[1].split(","))
    split = (re.fullmatch(r"([\w ]+?)\s*(\*?)\s*(\w+)", part) for part in parts)
    return [(found[1], found[3], bool(found[2])) for found in split if found]


def compiled(code: str, name: str) -> Callable:
    """A function of (grid, block, arguments, shared_mem) by CuPy's compiler; CuPy keeps it on disk, too."""
    return _module(code).get_function(name)


@lru_cache(maxsize=64)
def _module(code: str) -> Any:
    return backend.cupy().RawModule(code=code, options=("--std=c++17",))
