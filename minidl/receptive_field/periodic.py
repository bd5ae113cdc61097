"""What positions see along an axis without ends, where the pattern repeats: the law behind a field's size.

Every common layer is a `Step`: which positions of the axis below does position o look at? A convolution looks
at stride·o - padding + dilation·k for its taps k; a transposed one at those i for which stride·i + dilation·k
- padding = o. Composed, steps give a map that repeats: `Periodic`. Where its period is 1 it is affine, and
its numbers are those of the classical recurrence (Araujo, Norris and Sim 2019, Distill):

    r <- r + (k - 1) · S,    P <- P + p · S,    S <- S · s         size r, stride S, padding P

Up-sampling makes the period larger than 1: then size and centre of the field differ from position to
position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from minidl.ops.bands import Bands

LONGEST_PERIOD = 4096

Samples = tuple[int, int]  # (start, bits): sample start + j for each bit j of bits; of no samples (0, 0)


def union(parts: Iterable[Samples]) -> Samples:
    """The samples that are in any of the parts."""
    parts = [part for part in parts if part[1]]
    if not parts:
        return 0, 0
    start, bits = min(first for first, _ in parts), 0
    for first, samples in parts:
        bits |= samples << (first - start)
    return start, bits


@dataclass(frozen=True)
class Step:
    """One layer along one axis: `sees(o)` are positions below, and sees(o + run) = sees(o) + rise."""

    sees: Callable[[int], Iterable[int]]
    rise: int = 1
    run: int = 1

    def table(self, outputs: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """For `outputs` positions over an axis of `size`: (index, inside), each (outputs, terms)."""
        rows = [list(self.sees(o)) for o in range(outputs)]
        index = np.full((outputs, max(map(len, rows), default=0)), -1)
        for row, positions in zip(index, rows):
            row[: len(positions)] = positions
        return index, (index >= 0) & (index < size)


def window(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Step:
    """A convolution or a pooling: o looks at stride·o + dilation·k - padding."""
    taps = range(0, dilation * (kernel - 1) + 1, dilation)
    return Step(lambda o: [stride * o - padding + tap for tap in taps], rise=stride)


def transposed_window(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Step:
    """A transposed convolution: o looks at those i for which stride·i + dilation·k - padding = o."""
    taps = range(0, dilation * (kernel - 1) + 1, dilation)
    return Step(
        lambda o: [(o + padding - tap) // stride for tap in taps if (o + padding - tap) % stride == 0],
        run=stride,
    )


def shift(offset: int, step: int = 1) -> Step:
    """A crop, a slice, padding with zeros: o looks at step·o + offset."""
    return Step(lambda o: [step * o + offset], rise=step)


def rows(bands: Bands) -> Step | None:
    """The step that a banded matrix takes in its interior, if its rows repeat themselves there.

    At the borders it may do something else: leave terms out, repeat or mirror them.
    """
    if not len(bands.index):
        return None
    advance = bands.advance or Fraction(bands.size, len(bands.index))
    rise, run = advance.numerator, advance.denominator
    terms = [frozenset(row[used].tolist()) for row, used in zip(bands.index, bands.support)]
    pattern: dict[int, frozenset[int]] = {}
    for o in sorted(range(len(terms)), key=lambda o: (-len(terms[o]), abs(2 * o - len(terms)))):
        pattern.setdefault(o % run, frozenset(i - o // run * rise for i in terms[o]))
    if len(pattern) < run:
        return None

    def sees(o: int) -> list[int]:
        return [i + o // run * rise for i in pattern[o % run]]

    for o, found in enumerate(terms):
        expected = sees(o)
        if set(expected) != found and all(0 <= i < bands.size for i in expected):
            return None
    return Step(sees, rise, run)


@dataclass(frozen=True)
class Periodic:
    """Position q·period + r sees the samples of cells[r], q·advance further on; period = len(cells)."""

    cells: tuple[Samples, ...]
    advance: int

    @property
    def period(self) -> int:
        """After how many positions the pattern of fields repeats."""
        return len(self.cells)

    @property
    def stride(self) -> Fraction:
        """Samples of the input per position."""
        return Fraction(self.advance, self.period)

    def at(self, position: int) -> Samples:
        """What a position sees, be it inside an image or not."""
        q, r = divmod(position, self.period)
        start, bits = self.cells[r]
        return (start + q * self.advance, bits) if bits else (0, 0)

    def through(self, step: Step) -> Periodic | None:
        """The map of the layer above; None where its period is out of all proportion."""
        times = self.period // math.gcd(self.period, step.rise)
        period = times * step.run
        if period > LONGEST_PERIOD:
            return None
        cells = tuple(union(self.at(i) for i in step.sees(o)) for o in range(period))
        return Periodic(cells, times * step.rise * self.advance // self.period).reduced()

    def __or__(self, other: Periodic) -> Periodic | None:
        """What either of two branches sees; None where their strides differ, so that no pattern repeats."""
        period = math.lcm(self.period, other.period)
        if self.stride != other.stride or period > LONGEST_PERIOD:
            return None
        cells = tuple(union((self.at(o), other.at(o))) for o in range(period))
        return Periodic(cells, int(period * self.stride)).reduced()

    def repeated(self, times: int) -> Periodic:
        """Every position `times` times in a row: nearest-neighbour up-sampling."""
        return self.through(Step(lambda o: [o // times], run=times)) or self

    def reduced(self) -> Periodic:
        """The same map with its shortest period."""
        for period in range(1, self.period):
            advance = self.advance * period // self.period
            if self.period % period or self.advance * period % self.period:
                continue
            shorter = Periodic(self.cells[:period], advance)
            if all(shorter.at(o) == cell for o, cell in enumerate(self.cells)):
                return shorter
        return self

    # ---- what is read off it --------------------------------------------------------------------

    @cached_property
    def sizes(self) -> list[int]:
        """The field's extent at each position of a period, its holes included."""
        return [bits.bit_length() for _, bits in self.cells]

    @property
    def affine(self) -> bool:
        """Whether all positions have the same field, only moved."""
        return self.period == 1

    @property
    def holes(self) -> int:
        """The largest number of samples that a field leaves out between its ends."""
        return max(bits.bit_length() - bits.bit_count() for _, bits in self.cells)

    @cached_property
    def shifts(self) -> list[float]:
        """How far the field's centre stands from stride·o, at each position of a period that sees anything.

        Both are measured in cells of the input: the middle of sample i is at i + 1/2, that of position o at
        stride·(o + 1/2).
        """
        s = self.stride
        return [
            float(start + Fraction(bits.bit_length(), 2) - s * (o + Fraction(1, 2)))
            for o, (start, bits) in enumerate(self.cells)
            if bits
        ]

    @property
    def halo(self) -> tuple[int, int]:
        """(before, after): positions a .. b need the samples stride·a - before .. stride·b + after."""
        s = self.stride
        ends = [
            (s * o - start, start + bits.bit_length() - 1 - s * o)
            for o, (start, bits) in enumerate(self.cells)
            if bits
        ]
        before, after = (max(end) for end in zip(*ends)) if ends else (0, 0)
        return math.ceil(before), math.ceil(after)


IDENTITY = Periodic(((0, 1),), 1)
