"""The GPU, by PyTorch's names: which there are, and the memory that CuPy's pool holds on them.

Every function but `is_available` and `device_count` raises RuntimeError that says why, where there is no GPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minidl import backend

__all__ = [
    "current_device", "device_count", "empty_cache", "get_device_capability", "get_device_name",
    "get_device_properties", "is_available", "max_memory_allocated", "memory_allocated", "memory_reserved",
    "reset_peak_memory_stats", "synchronize",
]  # fmt: skip

Device = str | int | backend.device | None  # None: the current one

# ---- which GPUs there are ------------------------------------------------------------------------


class DeviceProperties(NamedTuple):
    """What a GPU is: total_memory in bytes, its compute capability major.minor."""

    name: str
    total_memory: int
    major: int
    minor: int


def is_available() -> bool:
    """Whether CuPy is installed and finds a GPU and its driver."""
    try:
        backend.cupy()
    except RuntimeError:
        return False
    return True


def device_count() -> int:
    """How many GPUs there are; 0 where they cannot be used."""
    return int(backend.cupy().cuda.runtime.getDeviceCount()) if is_available() else 0


def current_device() -> int:
    """The index of the GPU that "cuda" means."""
    return int(backend.cupy().cuda.runtime.getDevice())


def _index(device: Device) -> int:
    count = int(backend.cupy().cuda.runtime.getDeviceCount())
    index = current_device() if device is None else backend.as_device(device).index
    if index is None:
        raise ValueError(f"cuda: expected a GPU, got {str(device)!r}")
    if index >= count:
        raise ValueError(f"cuda: there is no device {index}, only {count} (0 to {count - 1})")
    return index


def get_device_properties(device: Device = None) -> DeviceProperties:
    """Name, memory and compute capability of a GPU."""
    found = backend.cupy().cuda.runtime.getDeviceProperties(_index(device))
    return DeviceProperties(
        found["name"].decode(), int(found["totalGlobalMem"]), int(found["major"]), int(found["minor"])
    )


def get_device_name(device: Device = None) -> str:
    """The name of a GPU."""
    return get_device_properties(device).name


def get_device_capability(device: Device = None) -> tuple[int, int]:
    """The compute capability (major, minor) of a GPU: (9, 0) of an H100."""
    return get_device_properties(device)[2:]


def synchronize(device: Device = None) -> None:
    """Wait until a GPU has done all that it was asked to: kernels only begin when Python goes on."""
    backend.cupy().cuda.Device(_index(device)).synchronize()


# ---- memory --------------------------------------------------------------------------------------


def _pool(device: Device) -> Any:
    """The pool, of which each GPU has one of its own, and the GPU."""
    module = backend.cupy()
    return module.get_default_memory_pool(), module.cuda.Device(_index(device))


def memory_allocated(device: Device = None) -> int:
    """Bytes that arrays hold on a GPU now."""
    pool, gpu = _pool(device)
    with gpu:
        return int(pool.used_bytes())


def memory_reserved(device: Device = None) -> int:
    """Bytes that the pool holds on a GPU, for arrays that are there and for those to come."""
    pool, gpu = _pool(device)
    with gpu:
        return int(pool.total_bytes())


def empty_cache() -> None:
    """Give back what the pool of the current GPU holds and no array uses, so that other programs can."""
    pool, gpu = _pool(None)
    with gpu:
        pool.free_all_blocks()


_peaks: dict[int, int] = {}  # of each GPU for which somebody asked: CuPy's pool notes none


def _allocate(size: int) -> Any:
    """CuPy's own allocator, which then looks how much is held: that grows nowhere else."""
    pool, index = backend.cupy().get_default_memory_pool(), current_device()
    memory = pool.malloc(size)
    if index in _peaks:
        _peaks[index] = max(_peaks[index], int(pool.used_bytes()))
    return memory


def reset_peak_memory_stats(device: Device = None) -> None:
    """Begin to note the peak that `max_memory_allocated` tells: from here on, from what is held now.

    Unlike PyTorch nothing is noted before the first call, as it takes some microseconds an allocation.
    """
    _peaks[_index(device)] = memory_allocated(device)
    backend.cupy().cuda.set_allocator(_allocate)


def max_memory_allocated(device: Device = None) -> int:
    """The most bytes that arrays held on a GPU since `reset_peak_memory_stats`.

    Errors: RuntimeError where that was never called for this GPU.
    """
    index = _index(device)
    if index not in _peaks:
        raise RuntimeError(
            f"cuda.max_memory_allocated: nothing was noted on device {index}; call "
            "cuda.reset_peak_memory_stats() before what is to be measured"
        )
    return _peaks[index]
