"""Initial weights: random numbers of a size that keeps activations alive through the layers.

All functions fill the tensor in place and return it; numbers are drawn on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minidl import backend
from minidl.autograd import Tensor


def _fill(tensor: Tensor, values: np.ndarray) -> Tensor:
    tensor.array[...] = backend.to_device(values.astype(tensor.dtype), tensor.device)
    return tensor


def fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs meet in one output, and how many outputs one input reaches: (C_in·ΠK, C_out·ΠK)."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need at least 2 dims, got shape {tensor.shape}")
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def gain(nonlinearity: str, a: float = 0.0) -> float:
    """The factor by which a layer must scale up to make good for what its activation takes away."""
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + a * a)),
    }
    if nonlinearity not in gains:
        raise ValueError(f"init: unknown nonlinearity {nonlinearity!r}; known: {', '.join(gains)}")
    return gains[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform on [a, b)."""
    return _fill(tensor, backend.generator().uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with that mean and standard deviation."""
    return _fill(tensor, backend.generator().normal(mean, std, tensor.shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere."""
    return _fill(tensor, np.full(tensor.shape, val))


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Normal with std = gain / sqrt(fan): keeps the variance through rectifiers (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Uniform on ±sqrt(3)·gain / sqrt(fan) (He et al. 2015)."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / sum(fan_in_and_fan_out(tensor)))


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with std = gain · sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform on ±gain · sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound)


def icnr_(
    tensor: Tensor, upscale_factor: int, initializer: Callable[[Tensor], Tensor] = kaiming_normal_
) -> Tensor:
    """For the convolution before a `pixel_shuffle`, (O·r^n, C, *K): all r^n phases get the same kernel.

    `initializer` fills (O, C, *K). At first the layer is then a convolution followed by nearest-neighbour
    resizing, without checkerboards (Aitken et al. 2017, arXiv 1707.02937). Training may part the phases.
    """
    phases = upscale_factor ** (tensor.ndim - 2)
    if tensor.ndim < 3 or upscale_factor < 1 or tensor.shape[0] % phases:
        raise ValueError(
            f"icnr_: weight {tensor.shape} must have (a multiple of upscale_factor^n, C, *K) channels, "
            f"n spatial dims, got upscale_factor {upscale_factor}"
        )
    shared = initializer(Tensor(np.empty((tensor.shape[0] // phases, *tensor.shape[1:]), tensor.dtype)))
    return _fill(tensor, shared.array.repeat(phases, axis=0))
