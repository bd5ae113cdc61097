"""How often each axis is halved, and where kernels are 3 wide: nnU-Net's rule, and that of the lecture.

nnU-Net halves an axis only while its voxels are short enough, compared in millimetres: an axis of 5 mm slices
waits until the others, halved twice or thrice from 1 mm, have voxels as long. As long as it waits, and its
neighbours are 2 or more times as far away as those along the finest axis, kernels do not mix it (width 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_EDGE = 4  # samples: no axis of the bottleneck is shorter
LECTURE_EDGE = 8  # samples: where the lecture stops to halve
LECTURE_POOLS = {2: 6, 3: 5}  # at most so many halvings


@dataclass(frozen=True)
class Topology:
    """Kernels and strides per stage and axis, and the patch, padded so that every halving is even."""

    patch: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def pools(self) -> tuple[int, ...]:
        """How often each axis is halved."""
        return tuple(sum(s == 2 for s in axis) for axis in zip(*self.strides))

    @property
    def unit(self) -> tuple[int, ...]:
        """Of what the patch is a multiple: 2^pools per axis."""
        return tuple(2**n for n in self.pools)

    @property
    def bottleneck(self) -> tuple[int, ...]:
        """The patch's size in the last stage."""
        return tuple(p // u for p, u in zip(self.patch, self.unit))


def nnunet_topology(spacing: Sequence[float], patch: Sequence[int], min_edge: int = MIN_EDGE) -> Topology:
    """nnU-Net's rule (second version, `network_topology.py`).

    Before each halving: axes of 2·min_edge samples or more can be halved; of these, those whose voxels are
    less than twice as long as the shortest are; one axis alone must have 3·min_edge samples. A kernel is 3
    wide from the stage on where the voxels are less than twice as long as the shortest of all axes.
    """
    spacings, sizes, dims = [float(s) for s in spacing], list(patch), len(patch)
    kernel, kernels, strides = [1] * dims, [], [(1,) * dims]
    while True:
        finest = min(spacings)
        kernel = [3 if width == 3 or s / finest < 2 else 1 for width, s in zip(kernel, spacings)]
        kernels.append(tuple(kernel))
        long_enough = [i for i in range(dims) if sizes[i] >= 2 * min_edge]
        shortest = min((spacings[i] for i in long_enough), default=math.inf)
        halved = [i for i in long_enough if spacings[i] / shortest < 2]
        if not halved or (len(halved) == 1 and sizes[halved[0]] < 3 * min_edge):
            break
        for i in halved:
            spacings[i], sizes[i] = spacings[i] * 2, math.ceil(sizes[i] / 2)
        strides.append(tuple(2 if i in halved else 1 for i in range(dims)))
    kernels[-1] = (3,) * dims
    return _padded(patch, kernels, strides)


def lecture_topology(spacing: Sequence[float], patch: Sequence[int]) -> Topology:
    """The lecture's rule, as in nnU-Net's first preprint (arXiv 1809.10486): halve every axis until it has
    size 8, whatever its spacing; all kernels are 3 wide. At most 6 times in 2-D and 5 times in 3-D.

    An axis stops when one more halving would make it shorter than 8; the others go on.
    """
    dims = len(patch)
    most = LECTURE_POOLS[dims]
    pools = [min(max((n // LECTURE_EDGE).bit_length() - 1, 0), most) for n in patch]  # floor(log2(n / 8))
    strides = [tuple(2 if level < n else 1 for n in pools) for level in range(max(pools))]
    return _padded(patch, [(3,) * dims] * (len(strides) + 1), [(1,) * dims, *strides])


def _padded(patch: Sequence[int], kernels: list, strides: list) -> Topology:
    topology = Topology(tuple(patch), tuple(kernels), tuple(strides))
    full = tuple(math.ceil(n / u) * u for n, u in zip(patch, topology.unit))
    return Topology(full, topology.kernels, topology.strides)


RULES = {"nnunet": nnunet_topology, "lecture": lecture_topology}
