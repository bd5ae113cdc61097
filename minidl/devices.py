"""What there is to compute on: the processor with its BLAS, and every GPU that CuPy finds."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from minidl import backend, cuda
from minidl.kernels.threads import get_num_threads


def processor() -> str:
    """The processor's name (Linux tells it in /proc/cpuinfo)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe(device: str | backend.device) -> str:
    """A device in words, as reports name it."""
    where = backend.as_device(device)
    if where == backend.CPU:
        return f"{processor()}, threads: {get_num_threads()}"
    found = cuda.get_device_properties(where)
    memory = f"{found.total_memory / 2**30:.1f} GiB"
    return f"{found.name}, {memory}, compute capability {found.major}.{found.minor}"


def blas() -> str:
    """The library that multiplies NumPy's matrices."""
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return ", ".join(f"{library['internal_api']} {library['version']}" for library in found) or "not known"


def table() -> str:
    """A line for each device, and for CuPy: its version, or why it cannot be used."""
    lines = [("cpu", describe("cpu")), ("", f"NumPy {np.__version__}, BLAS: {blas()}")]
    lines += [(f"cuda:{k}", describe(f"cuda:{k}")) for k in range(cuda.device_count())]
    try:
        module = backend.cupy()
        runtime, driver = (
            f"{version // 1000}.{version % 1000 // 10}"
            for version in (module.cuda.runtime.runtimeGetVersion(), module.cuda.runtime.driverGetVersion())
        )
        lines.append(("", f"CuPy {module.__version__} with CUDA {runtime}; the driver knows CUDA {driver}"))
    except RuntimeError as error:
        lines.append(("cuda", str(error).removeprefix("cuda: ")))
    return "\n".join(f"{name:8}{text}" for name, text in lines)
