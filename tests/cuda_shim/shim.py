"""Kernels of `minidl/kernels/*.cu` compiled by g++ and run on NumPy arrays, fibre by fibre.

with on_the_cpu(order="backward"):
    cuda_conv.conv(x, w, ...)
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from minidl.kernels import cuda_module

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / "minidl-cuda-on-cpu"
ORDERS = ("forward", "backward", "scrambled")
SHARED = 1 << 16  # bytes of `extern __shared__` memory
AVAILABLE = shutil.which("g++") is not None
KERNEL = r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)"  # its name
SANITIZER = ("-fsanitize=address", "-fno-omit-frame-pointer")


@contextmanager
def on_the_cpu(
    order: str = "forward", patches: Sequence[tuple[str, str]] = (), sanitize: bool = False
) -> Iterator[None]:
    """Inside, kernels run on the CPU, their threads in that order. New arrays are full of NaN.

    patches: (text, what stands in its place), to plant faults.
    """

    def compiled(code: str, name: str):
        for old, new in patches:
            code = code.replace(old, new)
        return _compiled(code, name, ORDERS.index(order), sanitize)

    cuda_module.function.cache_clear()
    with mock.patch.object(cuda_module, "compiled", compiled), mock.patch.object(np, "empty", _full_of_nan):
        yield
    cuda_module.function.cache_clear()


_empty = np.empty


def _full_of_nan(shape, dtype=float, **options):
    array = _empty(shape, dtype, **options)
    if array.dtype.kind == "f":
        array[...] = np.nan
    elif array.dtype.kind in "iu":
        array[...] = np.iinfo(array.dtype).max
    return array


def _compiled(code: str, name: str, order: int, sanitize: bool):
    launchers = "".join(_launcher(code, kernel) for kernel in re.findall(KERNEL, code))
    code = re.sub(r"extern __shared__ (\w+) (\w+)\[\];", rf"__shared__ \1 \2[{SHARED} / sizeof(\1)];", code)
    text = f'#include "cuda_on_cpu.h"\n{code}{launchers}'
    function = getattr(ctypes.CDLL(str(_library(text, SANITIZER if sanitize else ()))), f"launch_{name}")

    def launch(grid, block, arguments, shared_mem=0):
        assert shared_mem <= SHARED
        kept = [a if isinstance(a, np.ndarray) else np.array([a]) for a in arguments]
        sizes = [(ctypes.c_uint * 3)(*(*map(int, size), 1, 1)[:3]) for size in (grid, block)]
        function(*sizes, order, *(ctypes.c_void_p(a.ctypes.data) for a in kept))

    return launch


def _launcher(code: str, name: str) -> str:
    """A C function that launches the kernel of that name."""
    parameters = cuda_module.declared(code, name)
    declared = [f"{kind} *a{k}" for k, (kind, _, _) in enumerate(parameters)]
    passed = [f"a{k}" if pointer else f"*a{k}" for k, (_, _, pointer) in enumerate(parameters)]
    return f"""
extern "C" __attribute__((visibility("default")))
void launch_{name}(const unsigned *grid, const unsigned *block, int order, {", ".join(declared)}) {{
    on_cpu::launch(grid, block, order, [=] {{ {name}({", ".join(passed)}); }});
}}
"""


def notices(check: Callable[[Any], None], cases: Iterable[Any], fault: tuple[str, str], *files: str) -> bool:
    """Whether check(case) fails in one of the cases and orders with that fault planted in those files."""
    assert any(fault[0] in cuda_module.source(file) for file in files)
    for order in reversed(ORDERS):
        for case in cases:
            try:
                with on_the_cpu(order, patches=[fault]):
                    check(case)
            except AssertionError:
                return True
    return False


def run_sanitized(test: str, cases: str = "CASES") -> None:
    """Check the cases of a test file where AddressSanitizer watches what kernels read and write.

    It has to be loaded before Python: a process of its own.
    """
    script = (
        f"import sys; sys.path[:0] = ['tests']\nimport {test}\nfrom cuda_shim import shim\n"
        f"with shim.on_the_cpu(sanitize=True):\n"
        f"    for case in {test}.{cases}.values():\n        {test}.check(case)\nprint('done')\n"
    )
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout
    options = "detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=1"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=HERE.parents[1],
        env={**os.environ, "LD_PRELOAD": runtime.strip(), "ASAN_OPTIONS": options},
    )  # fmt: skip
    assert done.returncode == 0 and "done" in done.stdout, done.stderr[-3000:]


def _library(text: str, flags: Sequence[str]) -> Path:
    """The text as a shared library, by its own name: built once."""
    name = hashlib.sha256("\0".join((text, *flags, *map(_content, HERE.glob("*.h")))).encode()).hexdigest()
    library = CACHE / f"{name[:20]}.so"
    if not library.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            built = Path(folder) / "kernel.so"
            command = [
                "g++", "-std=c++17", "-O1", "-g", "-w", "-fPIC", "-shared", "-fvisibility=hidden",
                "-fno-gnu-unique", *flags, f"-I{HERE}", "-x", "c++", "-", "-o", str(built),
            ]  # fmt: skip
            done = subprocess.run(command, input=text, text=True, capture_output=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            built.replace(library)
    return library


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8")
