"""Weights on disk: safetensors, which is data and never code.

The keys and shapes are PyTorch's: `safetensors.torch.load_file` reads what minidl wrote, and vice versa. A
file is the length of a header (8 bytes, little-endian), the header (JSON: for each name the dtype, the shape,
and where the bytes begin and end), and the bytes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping

import numpy as np

from minidl import backend
from minidl.autograd import Tensor
from minidl.files import atomic_write

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64",
}  # fmt: skip


def save(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write tensors by name to a .safetensors file, the whole file or nothing.

    Errors: TypeError for a dtype that the format does not know; OSError where the disk is full, and then the
    file that was there stays.
    """
    arrays = {key: np.asarray(backend.to_numpy(t.array), order="C") for key, t in state_dict.items()}
    # The widest numbers come first, so that each begins at a multiple of its size.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for key, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise TypeError(f"save: {key!r} is {array.dtype}, which a safetensors file cannot hold")
        begin, end = end, end + array.nbytes
        dtype, shape = DTYPES[array.dtype.name], array.shape
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.data)


def load(path: str | os.PathLike, map_location: str | int | backend.device = "cpu") -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on that device; a file says nothing of where they lived before.

    Errors: ValueError that names the file if it is damaged or missing.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    where = backend.as_device(map_location)
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"load: {os.fspath(path)} is not a readable safetensors file: {error}") from error
    return {key: Tensor(backend.to_device(array, where)) for key, array in arrays.items()}
