"""The answer: what each position of an output sees of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from minidl.receptive_field.periodic import Periodic
from minidl.receptive_field.reach import Reach
from minidl.receptive_field.tables import bits_of, constant, members

Number = int | Fraction
Interval = tuple[int, int]


def plain(number: Fraction) -> Number:
    """An integer where the fraction is one."""
    return int(number) if number.denominator == 1 else number


class Layer(NamedTuple):
    """A layer on the way: its name, its class or op, and what the positions of its output see."""

    name: str
    kind: str
    field: ReceptiveField


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What the positions of an output see of the input, axis by axis.

    `rank` spatial axes; `lines[i]` is the map along the i-th on an axis without ends, together with the entry
    of a position that it depends on (None where no pattern repeats). `reach` holds the sets at every position
    of one image; it is None for `chain`, whose axes have no ends.

    All positions are those of the output's last axes. Intervals include both ends.
    """

    rank: int
    lines: tuple[tuple[int, Periodic] | None, ...]
    reach: Reach | None = None
    input_size: tuple[int, ...] | None = None
    layers: tuple[Layer, ...] = ()
    whole: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    # ---- of all positions ---------------------------------------------------------------------

    @property
    def positions(self) -> tuple[int, ...] | None:
        """How many positions the output has along its last axes; None without ends."""
        return None if self.reach is None else self.reach.shape[self.reach.ndim - self._named :]

    @property
    def _named(self) -> int:
        """How many axes a position names: as many as the image has, unless the output has none left."""
        if self.reach is None or self.reach.ndim > self.rank or any(self.lines):
            return self.rank
        return 0

    @classmethod
    def of(cls, reach: Reach, input_size: tuple[int, ...], **found: Any) -> ReceptiveField:
        """The field of a tensor that sees this; its image has `input_size`."""
        rank = len(input_size)
        lead = reach.ndim - rank
        lines = (reach.lines.get(a) for a in range(2, 2 + rank))
        moved = tuple((line[0] - lead, line[1]) if line and line[0] >= lead else None for line in lines)
        return cls(rank, moved, reach, input_size, **found)

    @property
    def size(self) -> tuple[int, ...]:
        """The field's extent per axis; where it differs from position to position, the largest.

        It is that of the local field, without what a normalisation or a global pooling adds, and it is not
        cut off at the border of the image. Only where nothing repeats is it the largest inside the image.
        """
        return tuple(
            max(line[1].sizes) if line else self._largest_inside(i) for i, line in enumerate(self.lines)
        )

    def _largest_inside(self, i: int) -> int:
        table = self._table(i)
        return max((_ends(bits)[1] - _ends(bits)[0] + 1 for bits in set(table.flat) if bits), default=0)

    @property
    def sizes(self) -> tuple[tuple[int, ...] | None, ...]:
        """Per axis the extents at the successive positions of one period; None where nothing repeats."""
        return tuple(tuple(line[1].sizes) if line else None for line in self.lines)

    @property
    def period(self) -> tuple[int | None, ...]:
        """Per axis after how many positions the fields repeat: 1 where all are equal, but for their place."""
        return tuple(line[1].period if line else None for line in self.lines)

    @property
    def stride(self) -> tuple[Number | None, ...]:
        """Per axis by how many samples the field moves from position to position, on average."""
        return tuple(plain(line[1].stride) if line else None for line in self.lines)

    @property
    def padding(self) -> tuple[int | None, ...]:
        """Per axis how far the field of position 0 begins before sample 0; None where fields differ in size.

        With size r, stride S and padding P the field of position u is u·S - P .. u·S - P + r - 1.
        """
        return tuple(-line[1].cells[0][0] if line and line[1].affine else None for line in self.lines)

    @property
    def shifts(self) -> tuple[tuple[float, ...] | None, ...]:
        """Per axis how far the middle of the field lies from the middle of the position, over one period.

        The cells of the output are taken as stride times as large as those of the input; both start at 0.
        """
        return tuple(tuple(line[1].shifts) if line else None for line in self.lines)

    @property
    def halo(self) -> tuple[Interval | None, ...]:
        """Per axis the samples (before, after) that a tile needs around itself.

        The positions a .. b are computed exactly from the samples stride·a - before .. stride·b + after,
        without any padding being seen, if the tile starts where the pattern does (`alignment`). Statistics of
        a whole image cannot be had from a tile: a model with `whole` layers gives other numbers there.
        """
        return tuple(line[1].halo if line else None for line in self.lines)

    @property
    def alignment(self) -> tuple[int | None, ...]:
        """Per axis of how many samples the start of a tile must be a multiple: the product of the strides."""
        return tuple(line[1].advance if line else None for line in self.lines)

    @property
    def sees_whole_axes(self) -> bool:
        """Whether anything is seen beside the local field."""
        return self.reach is not None and any(whole for _, whole in self.reach.tables)

    # ---- of one position ------------------------------------------------------------------------

    def interval(self, position: int | Sequence[int], clipped: bool = True) -> tuple[Interval | None, ...]:
        """Per axis the first and the last sample that a position sees; None where it sees nothing.

        clipped=False does not stop at the border of the image. The local field, as in `size`; all samples
        where nothing of it is left.
        """
        at = self._position(position)
        found: list[Interval | None] = []
        for i, line in enumerate(self.lines):
            if line and (not clipped or self.reach is None):
                start, bits = line[1].at(at[line[0]])
            elif clipped and self.reach is not None:
                start, bits = 0, self._seen_at(i, at)
            else:
                raise ValueError(
                    f"interval: along axis {i} no pattern repeats, so nothing is known outside the image; "
                    "use clipped=True"
                )
            found.append((start + _ends(bits)[0], start + _ends(bits)[1]) if bits else None)
        return tuple(found)

    def center(self, position: int | Sequence[int]) -> tuple[float | None, ...]:
        """Per axis the middle of the field in samples (0.0 is that of the first), also outside the image."""
        clipped = self.reach is not None and not all(self.lines)
        ends = self.interval(position, clipped)
        return tuple(None if end is None else (end[0] + end[1]) / 2 for end in ends)

    def region(self, position: int | Sequence[int]) -> tuple[slice, ...]:
        """The part of the image that a position sees: image[(..., *region)]."""
        return tuple(
            slice(0, 0) if end is None else slice(end[0], end[1] + 1) for end in self.interval(position)
        )

    def matrix(self, axis: int, local: bool = False) -> np.ndarray:
        """Which samples along an axis which positions along it see, (positions, samples) booleans.

        Entry [o, i]: some position whose entry for this axis is o sees some sample whose entry is i. With
        local=True without what is seen through the statistics of whole axes.
        """
        if self.reach is None or self.input_size is None:
            raise ValueError("matrix: the axes of a chain have no ends; ask for an interval")
        dim = self.reach.ndim - self._named + axis
        table = self._table(axis, not local)
        united = np.bitwise_or.reduce(table, axis=tuple(d for d in range(table.ndim) if d != dim))
        rows = np.array([members(bits, self.input_size[axis]) for bits in united])
        return np.broadcast_to(rows, (self.reach.shape[dim], self.input_size[axis]))

    def per_layer(self) -> list[Layer]:
        """The field of every layer on the way, in the order of the run."""
        return list(self.layers)

    # ---- tables ---------------------------------------------------------------------------------

    def _table(self, i: int, whole: bool = False) -> np.ndarray:
        """The sets along the i-th axis: the local ones, or those of whole axes where there are no others."""
        if self.reach is None:
            return constant(0, 1)
        tables, axis = self.reach.tables, i + 2
        local, others = tables.get((axis, False)), tables.get((axis, True), constant(0, self.reach.ndim))
        return others if local is None else np.bitwise_or(local, others) if whole else local

    def _seen_at(self, i: int, at: Sequence[int]) -> int:
        """The set along the i-th axis at a position, in any sample and channel."""
        table = self._table(i)
        sizes = table.shape[table.ndim - len(at) :]
        index: Any = (..., *(u if n > 1 else 0 for u, n in zip(at, sizes)))
        return bits_of(table[index])

    def _position(self, position: int | Sequence[int]) -> tuple[int, ...]:
        at = (int(position),) if isinstance(position, (int, np.integer)) else tuple(map(int, position))
        if len(at) != self._named:
            raise ValueError(f"position: expected {self._named} integers, one per axis, got {position}")
        if self.positions and any(not -n <= u < n for u, n in zip(at, self.positions)):
            raise IndexError(f"position: {at} is outside the output, whose last axes are {self.positions}")
        return tuple(u % n for u, n in zip(at, self.positions)) if self.positions else at

    def __str__(self) -> str:
        from minidl.receptive_field.report import summary

        return summary(self)


def _ends(bits: int) -> Interval:
    """The first and the last member of a set."""
    return (bits & -bits).bit_length() - 1, bits.bit_length() - 1
