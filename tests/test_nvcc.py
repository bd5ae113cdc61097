"""Every kernel file goes through nvcc for three generations of cards: it compiles, and no register spills."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minidl.kernels import cuda_conv, cuda_module

FOLDER = Path(cuda_module.__file__).parent
CARDS = 75, 80, 90
NO_SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


def conv_defines(card):
    """The macros of each tile and type that `cuda_conv` launches on such a card, by file."""
    for dtype, types in cuda_module.MACROS.items():
        tiles = cuda_conv.DOUBLE_TILES if dtype == "float64" else cuda_conv.TILES
        for tile in tiles:
            shared = {**types, "BM": tile.rows, "BN": tile.columns, "BK": cuda_conv.BK}
            for file, names, share, threads in (
                ("conv.cu", ("TM", "TN"), tile.thread, 1),
                ("conv_tensor.cu", ("WM", "WN"), tile.warp, 32),
            ):
                if file == "conv.cu" or cuda_conv.has_tensor_cores(card, dtype):
                    block = threads * tile.rows * tile.columns // (share[0] * share[1])
                    yield file, {**shared, **dict(zip(names, share)), "BLOCK": block}


BY_TYPE = ("loss.cu", "norm.cu", "optim.cu", "pool.cu")  # files whose kernels differ in nothing but the type
VARIANTS = [(card, file, defines) for card in CARDS for file, defines in conv_defines(card)] + [
    (card, file, types) for card in CARDS for file in BY_TYPE for types in cuda_module.MACROS.values()
]


def spills(card: int, file: str, defines: dict, folder: Path) -> list[int]:
    """Bytes that each kernel of the file stores to and loads from memory for want of registers."""
    text = "".join(f"#define {key} {value}\n" for key, value in defines.items()) + cuda_module.source(file)
    (folder / file).write_text(text, encoding="utf-8")
    command = ["nvcc", "-std=c++17", f"-arch=sm_{card}", "-cubin", "-Xptxas", "-v", file, "-o", "out.cubin"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = NO_SPILL.findall(done.stderr)
    assert found, f"nvcc reports no kernel of {file}"
    return [int(n) for pair in found for n in pair]


def name(variant) -> str:
    card, file, defines = variant
    tile = f"-{defines['BM']}x{defines['BN']}" if "BM" in defines else ""
    return f"sm_{card}-{file}-{defines['REAL']}{tile}"


def test_every_file_is_compiled_here():
    assert {path.name for path in FOLDER.glob("*.cu")} == {file for _, file, _ in VARIANTS}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_compiles_without_spills(variant, tmp_path):
    assert not any(spills(*variant, tmp_path))
