"""The convolution trio on a GPU: launches the kernels of `conv.cu` and `conv_tensor.cu`.

Each of the three is a product of matrices for every group (`conv_index.cuh` says which), cut into tiles. Here
it is decided how: the size of a tile, whether tensor cores may round the factors, and into how many parts the
inner index is split where there are too few tiles to keep a card busy. Parts go to a workspace and are added
in a fixed order, so the same card gives the same bits in every run.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import array_module
from minidl.kernels.cuda_module import BLOCK, MACROS, blocks, check_size, function, sum_type
from minidl.kernels.windows import output_size

#: Whether products of float32 may be rounded to TF32 on tensor cores, as PyTorch's
#: `torch.backends.cuda.matmul.allow_tf32`. float16 always runs there, with sums in float32.
allow_tf32 = False

BK = 16  # inner index of one step
ENOUGH_BLOCKS = 512  # with fewer, multiprocessors of a large card idle: split the inner index
SHORTEST = 8 * BK  # the shortest part worth a block
WORKSPACE = 64 << 20  # bytes for the partial sums, at most
SMALL_GROUP = 16  # products of so few rows and channels are left to the plain kernels
MOST_BLOCKS_Z = 65535  # CUDA's limit for the last axis of a grid

GEOMETRY = np.dtype(
    [(name, np.int32) for name in ("samples", "groups", "outs", "ins")]
    + [(name, np.int32, 3) for name in ("size", "outputs", "kernel")]
    + [(name, np.int32, 3) for name in ("stride", "padding", "dilation", "phases")]
    + [("splits", np.int32)]
)  # struct Geometry of conv_index.cuh
TENSOR_CORES_SINCE = {np.dtype(np.float16): 70, np.dtype(np.float32): 80}  # TF32 came with Ampere


class Tile(NamedTuple):
    """Rows and columns of the product that a block of threads computes."""

    rows: int
    columns: int
    thread: tuple[int, int]  # rows and columns of one thread of conv.cu
    warp: tuple[int, int]  # rows and columns of one warp of conv_tensor.cu
    speed: float  # estimate: a small tile uses each element that it loads less often


TILES = (
    Tile(128, 128, (8, 8), (64, 32), 1.0),
    Tile(64, 128, (4, 8), (32, 32), 0.8),
    Tile(32, 128, (4, 8), (32, 32), 0.6),
    Tile(32, 32, (4, 4), (16, 32), 0.4),
)
DOUBLE_TILES = (Tile(64, 64, (4, 4), (0, 0), 1.0), TILES[-1])  # larger ones do not fit the registers


def conv(x, w, *, stride, padding, dilation, groups):
    """y[n,o,q] = Σ_{c,k} x[n, c, s·q + d·k - p] w[o,c,k].

    x (N, C, *S), w (O, C/groups, *K) -> y (N, O, *Q).
    """
    padded = [n + 2 * p for n, p in zip(x.shape[2:], padding)]
    shape = (len(x), len(w), *output_size(padded, w.shape[2:], stride, dilation))
    plan = _plan("conv", x.shape, w.shape, shape, stride, padding, dilation, groups, _kind(x, w))
    return plan.run(shape, w, x)


def conv_input(y, w, *, size, stride, padding, dilation, groups):
    """x[n,c,i] = Σ_{o,(q,k): s·q + d·k - p = i} y[n,o,q] w[o,c,k].

    y (N, O, *Q), w (O, C/groups, *K) -> x (N, C, *size).
    """
    shape = (len(y), groups * w.shape[1], *size)
    plan = _plan("conv_input", shape, w.shape, y.shape, stride, padding, dilation, groups, _kind(y, w))
    if plan.tiled:  # rows of the product are input channels: (G, O, C, *K) -> (G, C, O, *K)
        w = w.reshape(groups, len(w) // groups, *w.shape[1:]).swapaxes(1, 2)
    return plan.run(shape, w, y)


def conv_weight(x, y, *, size, stride, padding, dilation, groups):
    """w[o,c,k] = Σ_{n,q} x[n, c, s·q + d·k - p] y[n,o,q].

    x (N, C, *S), y (N, O, *Q) -> w (O, C/groups, *size).
    """
    shape = (y.shape[1], x.shape[1] // groups, *size)
    plan = _plan("conv_weight", x.shape, shape, y.shape, stride, padding, dilation, groups, _kind(x, y))
    return plan.run(shape, y, x)


# ---- plans -----------------------------------------------------------------------------------------


def _kind(a, b):
    """The dtype of a product of two arrays, and whether it runs on tensor cores."""
    dtype = np.result_type(a.dtype, b.dtype)
    if dtype not in MACROS:
        raise TypeError(f"conv: expected float16, float32 or float64 on a GPU, got {a.dtype} and {b.dtype}")
    wanted = allow_tf32 or dtype != np.float32
    return dtype, wanted and has_tensor_cores(getattr(a.device, "compute_capability", "90"), dtype)


def has_tensor_cores(capability: str | int, dtype: np.dtype) -> bool:
    """Whether a card of that compute capability (75, 80, 90) multiplies the type on tensor cores here."""
    return dtype in TENSOR_CORES_SINCE and int(capability) >= TENSOR_CORES_SINCE[dtype]


class Plan(NamedTuple):
    """How one convolution is launched; it depends on shapes alone."""

    kernel: Any  # a partial `function`: which file, name and tile
    grid: tuple[int, ...]
    block: int
    geometry: np.ndarray  # one element, so that CUDA gets the struct itself
    dtype: np.dtype
    tiled: bool
    splits: int = 1

    def run(self, shape, a, image):
        """The result, of that shape; `a` is the matrix A, and B is read from the image."""
        xp = array_module(a)
        if not (math.prod(shape) and a.size and image.size):
            return xp.zeros(shape, self.dtype)
        a, image = (xp.ascontiguousarray(array, dtype=self.dtype) for array in (a, image))
        out, total = xp.empty(shape, self.dtype), sum_type(self.dtype)
        if not self.tiled:
            arguments = out, a, image, self.geometry
            self.kernel()(self.grid, (self.block,), arguments, shared_mem=self.block * total.itemsize)
            return out
        partial_sums = xp.empty((self.splits, out.size) if self.splits > 1 else 0, total)
        self.kernel()(self.grid, (self.block,), (out, partial_sums, a, image, self.geometry))
        if self.splits > 1:
            add = function("conv.cu", "sum_splits", **MACROS[self.dtype])
            add(blocks(out.size), (BLOCK,), (out, partial_sums, out.size, self.splits))
        return out


@lru_cache(maxsize=1024)
def _plan(name, x_shape, w_shape, y_shape, stride, padding, dilation, groups, kind):
    for shape in x_shape, w_shape, y_shape:
        check_size(name, shape)
    dtype, tensor = kind
    N, S, Q, K = x_shape[0], x_shape[2:], y_shape[2:], w_shape[2:]
    outs, ins = w_shape[0] // groups, w_shape[1]
    phases = tuple(map(min, stride, S)) if name == "conv_input" else (1,) * len(S)
    pixels, taps = N * math.prod(Q), math.prod(K)
    phase_pixels = N * math.prod(-(-n // s) for n, s in zip(S, stride))  # of the largest phase
    shape, rows, columns, inner = {
        "conv": (y_shape, outs, pixels, ins * taps),
        "conv_input": (x_shape, ins, phase_pixels, outs * taps // max(1, math.prod(phases))),
        "conv_weight": (w_shape, outs, ins * taps, pixels),
    }[name]
    geometry = _geometry(N, groups, outs, ins, S, Q, K, stride, padding, dilation, phases)
    if (groups > 1 and outs * ins <= SMALL_GROUP) or groups > MOST_BLOCKS_Z:
        kernel = partial(function, "conv.cu", f"{name}_plain", **MACROS[dtype])
        grid = (math.prod(shape),) if name == "conv_weight" else blocks(math.prod(shape))
        return Plan(kernel, grid, BLOCK, geometry, dtype, tiled=False)

    tiles = DOUBLE_TILES if dtype == np.float64 else TILES
    tile = min(tiles, key=lambda t: _up(rows, t.rows) * _up(columns, t.columns) / t.speed)
    grid = math.prod(phases) * _up(columns, tile.columns) // tile.columns, _up(rows, tile.rows) // tile.rows
    splits = min(
        ENOUGH_BLOCKS // max(1, math.prod(grid) * groups),
        inner // SHORTEST,
        WORKSPACE // max(1, math.prod(shape) * sum_type(dtype).itemsize),
        MOST_BLOCKS_Z // groups,
    )
    geometry["splits"] = splits = max(1, splits)
    file, share, names, threads = "conv.cu", tile.thread, ("TM", "TN"), 1
    if tensor:
        file, share, names, threads = "conv_tensor.cu", tile.warp, ("WM", "WN"), 32
    block = threads * tile.rows * tile.columns // math.prod(share)
    sizes = dict(zip(names, share), BM=tile.rows, BN=tile.columns, BK=BK, BLOCK=block)
    kernel = partial(function, file, name, **MACROS[dtype], **sizes)
    return Plan(kernel, (*grid, groups * splits), block, geometry, dtype, True, splits)


def _geometry(*values):
    """The values as a `struct Geometry`; axes that are missing have size 1."""
    geometry = np.zeros(1, GEOMETRY)
    for field, value in zip(GEOMETRY.names, values):
        if isinstance(value, tuple):
            value = (*(0 if field == "padding" else 1,) * (3 - len(value)), *value)
        geometry[field] = value
    return geometry


def _up(n, step):
    return -(-n // step) * step
