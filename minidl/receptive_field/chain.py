"""The calculator without a model: layers one after another, on axes without ends.

    chain([conv(3), pool(2), conv(3, dilation=2), conv_transpose(2, stride=2)]).size

It gives the same object as `analyze`. Sizes, strides and paddings are integers, or tuples with one per axis.
Of a padding only what stands before sample 0 matters here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from minidl.receptive_field.field import Layer, ReceptiveField
from minidl.receptive_field.periodic import IDENTITY, Periodic, Step, shift, transposed_window, window

Sizes = int | tuple[int, ...]


@dataclass(frozen=True)
class ChainLayer:
    """A layer as `chain` takes it: a step along each axis (or one for all), or branches that are added."""

    text: str
    steps: tuple[Step, ...] = ()
    branches: tuple[tuple[ChainLayer, ...], ...] = ()

    @property
    def rank(self) -> int:
        """How many axes it names; 1 where it is the same along all."""
        return max([len(self.steps), *(layer.rank for branch in self.branches for layer in branch)])

    def __repr__(self) -> str:
        return self.text

    def apply(self, lines: tuple[Periodic, ...]) -> tuple[Periodic, ...]:
        """What its output sees, given what its input sees."""
        if self.branches:
            ends = [_run(branch, lines)[-1] for branch in self.branches]
            joined = ends[0]
            for end in ends[1:]:
                joined = tuple(_known(a | b, self, (a, b)) for a, b in zip(joined, end))
            return joined
        steps = self.steps if len(self.steps) > 1 else self.steps * len(lines)
        if len(steps) != len(lines):
            raise ValueError(f"chain: {self.text} has {len(steps)} axes, other layers have {len(lines)}")
        return tuple(_known(line.through(step), self, (line,)) for line, step in zip(lines, steps))


def _known(line: Periodic | None, layer: ChainLayer, before: tuple[Periodic, ...]) -> Periodic:
    if line is None:
        strides = " and ".join(str(b.stride) for b in before)
        raise ValueError(f"chain: at {layer.text} no pattern repeats: strides {strides}")
    return line


def _run(layers: Iterable[ChainLayer], lines: tuple[Periodic, ...]) -> list[tuple[Periodic, ...]]:
    """What is seen before the first layer and after each."""
    found = [lines]
    for layer in layers:
        found.append(layer.apply(found[-1]))
    return found


# ---- layers --------------------------------------------------------------------------------------


def _layer(name: str, make: Callable[..., Step], defaults: dict[str, int], **sizes: Sizes) -> ChainLayer:
    """A layer with its sizes spread over the axes; its text shows what differs from the defaults."""
    rank = max(len(v) if isinstance(v, tuple) else 1 for v in sizes.values())
    spread = {key: v if isinstance(v, tuple) else (v,) * rank for key, v in sizes.items()}
    for key, values in spread.items():
        least = -math.inf if key == "padding" else 1
        if len(values) != rank or not all(isinstance(v, int) and v >= least for v in values):
            raise ValueError(f"{name}: {key} must be one positive integer or {rank}, got {sizes[key]}")
    shown = [
        f"{v}" if key not in defaults else f"{key}={v}" for key, v in sizes.items() if v != defaults.get(key)
    ]
    steps = tuple(make(**dict(zip(spread, values))) for values in zip(*spread.values()))
    return ChainLayer(f"{name}({', '.join(shown)})", steps)


_DEFAULTS = dict(stride=1, padding=0, dilation=1)


def conv(kernel: Sizes, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1) -> ChainLayer:
    """A convolution: position o sees stride·o + dilation·k - padding."""
    return _layer("conv", window, _DEFAULTS, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def pool(kernel: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1) -> ChainLayer:
    """A pooling, whose stride is its kernel unless another is given."""
    every = kernel if stride is None else stride
    defaults = _DEFAULTS if stride is not None else {**_DEFAULTS, "stride": every}
    return _layer("pool", window, defaults, kernel=kernel, stride=every, padding=padding, dilation=dilation)  # type: ignore[arg-type]


def conv_transpose(kernel: Sizes, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1) -> ChainLayer:
    """A transposed convolution: o sees those i for which stride·i + dilation·k - padding = o."""
    return _layer(
        "conv_transpose", transposed_window, _DEFAULTS,
        kernel=kernel, stride=stride, padding=padding, dilation=dilation,
    )  # fmt: skip


_SUPPORT = {"nearest": (0, 0), "linear": (0, 1), "cubic": (-1, 2)}


def upsample(scale: Sizes, mode: str = "nearest") -> ChainLayer:
    """Interpolation by an integer factor as in `F.interpolate`; mode "nearest", "linear" or "cubic"."""
    if mode not in _SUPPORT:
        raise ValueError(f"upsample: mode must be one of {tuple(_SUPPORT)}, got {mode!r}")
    first, last = _SUPPORT[mode]

    def step(scale: int) -> Step:
        def sees(o: int) -> Sequence[int]:
            if mode == "nearest":
                return [o // scale]
            low, rest = divmod(2 * o + 1 - scale, 2 * scale)  # it lies at (o + 1/2) / scale - 1/2
            return range(low + first, low + last + 1) if rest else [low]

        return Step(sees, run=scale)

    made = _layer("upsample", step, {}, scale=scale)
    return ChainLayer(made.text if mode == "nearest" else f"{made.text[:-1]}, {mode!r})", made.steps)


def crop(before: int) -> ChainLayer:
    """The first samples cut off; a negative number adds as many."""
    return ChainLayer(f"crop({before})", (shift(before),))


def add(*branches: Sequence[ChainLayer]) -> ChainLayer:
    """Branches from the same input whose results are added or concatenated; [] is a skip connection."""
    return ChainLayer(f"add({', '.join(map(repr, branches))})", (), tuple(map(tuple, branches)))


# ---- forwards and backwards -----------------------------------------------------------------------


def chain(layers: Sequence[ChainLayer], rank: int | None = None) -> ReceptiveField:
    """The receptive field of layers one after another; `rank` axes, by default as many as a layer names.

    Errors: ValueError where branches of different strides meet.
    """
    rank = rank or max((layer.rank for layer in layers), default=1)
    lines = _run(layers, (IDENTITY,) * rank)
    fields = [ReceptiveField(rank, tuple(enumerate(line))) for line in lines]
    rows = (Layer(str(i), repr(layer), field) for i, (layer, field) in enumerate(zip(layers, fields[1:])))
    return replace(fields[-1], layers=tuple(rows))


def depth_for(field: int, layers: Sequence[ChainLayer]) -> int:
    """How often the layers must follow each other until the field is at least that many samples, on each
    axis.

    `depth_for(31, [conv(3)])` is 15, `depth_for(31, [conv(3), pool(2)])` is 4.
    """
    lines = (IDENTITY,) * max((layer.rank for layer in layers), default=1)
    depth, size = 0, 1
    while size < field:
        lines, before = _run(layers, lines)[-1], size
        depth, size = depth + 1, min(max(line.sizes) for line in lines)
        if size <= before:
            raise ValueError(f"depth_for: {list(layers)} never reach {field} samples: they stay at {size}")
    return depth


def dilations_for(field: int, kernel: int = 3, growth: int = 2) -> tuple[int, ...]:
    """Dilations 1, g, g², ... of so many convolutions that the field is at least that many samples.

    `dilations_for(31)` is (1, 2, 4, 8) (Yu and Koltun 2016, arXiv 1511.07122). A growth up to the kernel
    leaves no holes.
    """
    if kernel < 2 or growth < 1:
        raise ValueError(
            f"dilations_for: kernel must be 2 or more and growth positive, got {kernel}, {growth}"
        )
    dilations: tuple[int, ...] = ()
    while 1 + (kernel - 1) * sum(dilations) < field:
        dilations += (growth ** len(dilations),)
    return dilations
