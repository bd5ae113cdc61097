"""Weights on disk: safetensors, which is data and never code.

The keys and shapes are PyTorch's: `safetensors.torch.load_file` reads what minidl wrote, and vice versa.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from minidl import backend
from minidl.autograd import Tensor
from minidl.files import atomic_write


def save(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write tensors by name to a .safetensors file: the whole file or nothing."""
    from safetensors.numpy import save_file

    arrays = {key: np.ascontiguousarray(backend.to_numpy(t.array)) for key, t in state_dict.items()}
    with atomic_write(path) as temporary:
        save_file(arrays, temporary, metadata)


def load(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a .safetensors file; ValueError that names the file if it is damaged or missing."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {key: Tensor(array) for key, array in load_file(path).items()}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"load: {os.fspath(path)} is not a readable safetensors file: {error}") from error
