"""Where arrays live: the only file that knows CuPy exists.

Every array type has a module of functions that work on it (`numpy` for `numpy.ndarray`). `array_module` finds
it, and the `op` decorator passes it to each forward function as `xp`, so that no op imports either library.
CuPy is imported when somebody first asks for "cuda": it takes a second, and most runs never need it.

Random numbers are drawn on the host with NumPy's generator and then moved, so that a run on the GPU sees the
same numbers as a run on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

_MODULES: dict[type, ModuleType] = {np.ndarray: np}


def register(array_type: type, module: ModuleType) -> None:
    """Say which module's functions work on arrays of this type."""
    _MODULES[array_type] = module


def array_module(array: Array) -> Any:
    """numpy or cupy: the module whose functions work on this array."""
    return _MODULES.get(type(array), np)


def as_array(value: Any, xp: Any) -> Array:
    """`value` as an array: NumPy's reductions return scalars where CuPy's return 0-d arrays."""
    return value if type(value) in _MODULES else xp.asarray(value)


def to_numpy(array: Array) -> np.ndarray:
    """The array in the host's memory (a copy if it lives on a GPU, the array itself if not)."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


@cache
def special(xp: ModuleType) -> Any:
    """SciPy's special functions for the arrays of `xp`; imported when somebody first needs one."""
    return _scipy(xp, "special")


@cache
def ndimage(xp: ModuleType) -> Any:
    """SciPy's image functions (filters, interpolation) for the arrays of `xp`; imported when first needed."""
    return _scipy(xp, "ndimage")


def _scipy(xp: ModuleType, name: str) -> ModuleType:
    return import_module(f"{'' if xp is np else f'{xp.__name__}x.'}scipy.{name}")


# ---- devices -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class device:
    """A place where arrays live: `device("cpu")` or `device("cuda", 0)`; prints as "cpu" or "cuda:0"."""

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


CPU = device("cpu")


def why_no_cuda() -> str | None:
    """What keeps CuPy from being used, as a sentence; None where nothing does."""
    if find_spec("cupy") is None:
        return 'CuPy is not installed; `pip install "minidl[cuda12]"` or "minidl[cuda13]" brings it'
    try:
        module = import_module("cupy")
    except ImportError as error:
        return f"CuPy is installed but cannot be imported: {error.__cause__ or error}"
    if module.cuda.is_available():
        return None
    runtime = module.cuda.runtime
    driver, needed = runtime.driverGetVersion() // 1000, runtime.runtimeGetVersion() // 1000
    if not driver:
        return f"CuPy {module.__version__} is installed, but there is no NVIDIA driver"
    if driver < needed:
        return (
            f"the NVIDIA driver is too old: it knows CUDA {driver}, CuPy {module.__version__} needs "
            f'{needed}; update it or install "minidl[cuda{driver}]"'
        )
    return f"CuPy {module.__version__} and an NVIDIA driver are installed, but there is no CUDA device"


@cache
def cupy() -> Any:
    """The cupy module, ready for use; raises RuntimeError that says why it cannot be used."""
    if (reason := why_no_cuda()) is not None:
        raise RuntimeError(f"cuda: {reason}")
    module = import_module("cupy")
    register(module.ndarray, module)
    return module


def as_device(name: str | int | device) -> device:
    """ "cpu", "cuda" or "cuda:1" as a `device`; 1 is "cuda:1"."""
    if isinstance(name, device):
        return name if name.type == "cpu" or name.index is not None else device("cuda", 0)
    if isinstance(name, int) and not isinstance(name, bool):
        name = f"cuda:{name}"
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    return CPU if kind == "cpu" else device("cuda", int(index or 0))


def device_of(array: Array) -> device:
    """The device on which an array lives."""
    return CPU if isinstance(array, np.ndarray) else device("cuda", array.device.id)


def to_device(array: Array, target: device) -> Array:
    """The array on that device; itself where it is there already."""
    if device_of(array) == target:
        return array
    if target == CPU:
        return to_numpy(array)
    with cupy().cuda.Device(target.index):
        return cupy().asarray(array)


# ---- random numbers ----------------------------------------------------------------------------

_generator = np.random.default_rng()


def generator() -> np.random.Generator:
    """The host generator from which initialisation, dropout and `randn` draw."""
    return _generator


def manual_seed(seed: int) -> None:
    """Start the generator anew: the same seed gives the same numbers, on every device."""
    global _generator
    _generator = np.random.default_rng(seed)
