"""The walk through a recorded graph: from what the input's samples see to what the output's positions see."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from minidl.autograd import Node, Tensor
from minidl.nn import Module
from minidl.receptive_field.field import Layer, ReceptiveField
from minidl.receptive_field.reach import Reach
from minidl.receptive_field.trace import Model, Output, Trace, as_input, run
from minidl.recording import shapes_only

IN_PLACE = ("reshape", "permute", "expand", "cast", "to_device")  # ops that show no row of their own


def analyze(model: Model, input_shape: Sequence[int] | Tensor, output: Output = None) -> ReceptiveField:
    """What each position of a model's output sees of its input.

    model: a Module, or any function of a Tensor. It is run once on random numbers of `input_shape`, (N, C,
    *S) with one or more axes *S, or on the tensor given in its place. `output` chooses among several results:
    a key, an index, or a function of what the model returned.

    Every op that was recorded says how it moves positions, so any `forward` will do. What values decide is
    taken as if any value were possible: a maximum sees its whole window, a chosen element the whole axis. As
    a gradient does, the walk passes only where derivatives are defined: what a comparison or `detach` lets
    through is not seen. The weights do not matter; a model in training mode normalises with the batch's
    statistics.
    """
    x = as_input(model, input_shape, "analyze")
    with shapes_only():
        trace = run(model, x, output, "analyze")
    walk = _Walk(trace)
    modules = dict(model.named_modules()) if isinstance(model, Module) else {}
    found = ReceptiveField.of(
        walk.reach[trace.nodes[-1]], x.shape[2:], layers=tuple(walk.rows(modules)), whole=tuple(walk.whole)
    )
    return replace(found, warnings=tuple(walk.warnings(found)))


@dataclass
class _Walk:
    """What every node of a trace sees, in the order of the run, and what was met on the way."""

    trace: Trace
    reach: dict[Node | Tensor, Reach] = field(default_factory=dict)
    whole: dict[str, None] = field(default_factory=dict)  # names, in order, of what sees whole axes
    without_rule: dict[str, None] = field(default_factory=dict)
    unequal: dict[str, list[Fraction]] = field(default_factory=dict)  # where branches meet: their strides
    misaligned: dict[str, float] = field(default_factory=dict)  # and how far apart their centres are

    def __post_init__(self) -> None:
        shape = self.trace.input.shape
        self.axes = range(2, len(shape))
        self.reach[self.trace.input] = Reach.of_input(shape, self.axes)
        for node in self.trace.nodes:
            self.reach[node] = self._through(node, self._inputs(node))

    def _inputs(self, node: Node) -> list[Reach]:
        """What the inputs of a node see; parameters and constants see nothing."""
        return [
            self.reach[parent] if parent is not None and parent in self.reach else Reach(shape)
            for parent, shape in zip(node.parents, node.saved)
        ]

    def _through(self, node: Node, inputs: list[Reach]) -> Reach:
        if not any(inputs):
            return Reach(node.shape)
        name = self.trace.name_of(node)
        if node.op.reach is None:
            self.without_rule[name] = None
            found = Reach(node.shape)
            for x in inputs:
                found = found | x.everywhere(node.shape)
        else:
            found = node.op.reach(*inputs, **node.static)
        if found.shape != node.shape:
            raise RuntimeError(
                f"analyze: the rule of {node.op.name} gives shape {found.shape}, the op {node.shape}"
            )
        local = [x.local() for x in inputs] if any(whole for x in inputs for _, whole in x.tables) else []
        again = node.op.reach(*local, **node.static) if local and node.op.reach else found
        if any(whole for _, whole in again.tables):  # it is this op that forgets positions
            self.whole[name] = None
        if node.op.name == "cat" or node.op.law == "pointwise":
            self._compare(name, [x for x in inputs if x])
        return found

    def _compare(self, name: str, branches: list[Reach]) -> None:
        """Note where the branches that meet do not lie over each other."""
        for a in self.axes if len(branches) > 1 else ():
            lines = [x.lines[a] for x in branches if a in x.lines]
            if len({dim for dim, _ in lines}) != 1:
                continue
            strides = sorted({line.stride for _, line in lines})
            centres = [sum(line.shifts) / len(line.shifts) for _, line in lines if line.shifts]
            if len(strides) > 1:
                self.unequal[name] = strides
            elif centres and max(centres) - min(centres) > self.misaligned.get(name, 1e-9):
                self.misaligned[name] = max(centres) - min(centres)

    # ---- what is told of it -----------------------------------------------------------------------

    def rows(self, modules: dict[str, Module]) -> list[Layer]:
        """A row for each module that moves positions, and for each such op outside of modules."""
        rows = []
        moving: set[str] = set()
        for node in self.trace.nodes:
            label = self.trace.labels.get(node)
            inner = self.trace.inner.get(node)
            found = self.reach[node]
            if not found or (self.trace.name_of(node) in self.whole and found.local()):
                continue  # a normalisation: it is named beside the table
            if node.op.law != "pointwise" and node.op.name not in IN_PLACE:
                moving.add(label or inner or "")
                shown = label is not None or inner is None
            else:
                shown = label in moving
            if shown:
                module = modules.get(label or "")
                kind = type(module).__name__ if label and module else node.op.name
                field = ReceptiveField.of(found, self.trace.input.shape[2:])
                rows.append(Layer(label or node.op.name, kind, field))
        return rows

    def warnings(self, field: ReceptiveField) -> list[str]:
        """Sentences about what a reader of the numbers may not expect."""
        said = []
        size = field.input_size or ()
        larger = [i for i, line in enumerate(field.lines) if line and max(line[1].sizes) > size[i]]
        if larger:
            said.append(f"the field, {_by(field.size)} samples, is larger than the input, {_by(size)}")
        if self.whole:
            said.append(
                f"whole axes are seen through {_list(self.whole)}: the rest tells of the local field, and "
                "tiles cannot reproduce the image's statistics"
            )
        if self.without_rule:
            said.append(f"ops without a rule are taken to see everything: {_list(self.without_rule)}")
        holes = [line[1].holes if line else 0 for line in field.lines]
        if any(holes):
            said.append(f"the field has holes: up to {_by(holes)} samples between its ends are not seen")
        if any(line and not all(bits for _, bits in line[1].cells) for line in field.lines):
            said.append(
                "some positions see nothing: a transposed convolution's stride is larger than its kernel"
            )
        idle = self._idle()
        if idle:
            said.append(
                f"layers that see nothing new, since every position saw the whole image: {_list(idle)}"
            )
        for name, strides in self.unequal.items():
            said.append(
                f"branches of strides {' and '.join(map(str, strides))} meet at {name}: no pattern repeats"
            )
        if self.misaligned:
            said.append(
                f"the branches that meet at {_list(self.misaligned)} do not lie over each other: their "
                f"centres are up to {max(self.misaligned.values()):g} samples apart"
            )
        return said

    def _idle(self) -> dict[str, None]:
        """The layers whose window is larger than 1 although their inputs see all of the image already."""
        names: dict[str, None] = {}
        for node in self.trace.nodes:
            inputs = [x for x in self._inputs(node) if x]
            if node.op.name not in ("conv", "conv_input", "take_in_windows", "resample") or not inputs:
                continue
            before, after = inputs[0], self.reach[node]
            grown = any(
                a in after.lines and a in before.lines
                and max(after.lines[a][1].sizes) > max(before.lines[a][1].sizes)
                for a in self.axes
            )  # fmt: skip
            full = all(
                (a, False) in before.tables
                and (before.tables[a, False] == (1 << self.trace.input.shape[a]) - 1).all()
                for a in self.axes
            )
            if grown and full:
                names[self.trace.name_of(node)] = None
        return names


def _by(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))


def _list(names: Collection[str], most: int = 6) -> str:
    shown = list(names)[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
