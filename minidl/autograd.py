"""Reverse-mode automatic differentiation.

An op computes an output array from input arrays, and it knows one *vjp* (vector-Jacobian product) for each
input: given the cotangent g = dL/dy of its output, the vjp returns the cotangent dL/dx of that input.
`backward` walks the recorded ops from the loss to the leaves and calls the vjps.

The vjps are written with ops. So under `create_graph=True` the walk is itself recorded and can be
differentiated again: gradients of every order follow from the first.

A vjp *names what it needs*, and the engine keeps exactly that alive until backward has used it:

    @op(lambda g, b: g * b,         # d(a*b)/da needs b
        lambda g, a: g * a)         # d(a*b)/db needs a
    def mul(xp, a, b): return a * b

    @op(lambda g, y: g * y)         # d(exp x)/dx needs the output, whose name is always y
    def exp(xp, x): return xp.exp(x)

Positional arguments are arrays, keyword arguments are static (shapes, axes, strides). A vjp that needs only
the shape, dtype or device of an input asks for `x_like` instead of `x`, and no array is kept.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from minidl.backend import Array, array_module, as_array, device, device_of
from minidl.recording import casting, mode, set_grad_enabled

# ---- tensors -----------------------------------------------------------------------------------


if TYPE_CHECKING:
    from minidl.tensor_methods import TensorMethods  # their types; methods.py hangs them on at run time
else:
    TensorMethods = object


class Tensor(TensorMethods):
    """An array that remembers how it was made. `minidl.tensor(...)` makes one from numbers.

    Operators and methods (`+`, `@`, `.sum()`, ...) are hung on this class in `minidl/tensor.py`.
    """

    __slots__ = ("__weakref__", "_requires_grad", "array", "grad", "node")
    __array_priority__ = 1000  # numpy_array * tensor calls Tensor.__rmul__

    def __init__(self, array: Array, requires_grad: bool = False, node: Node | None = None):
        self.array = array
        self.grad: Tensor | None = None
        self.node = node
        self._requires_grad = False
        if requires_grad:
            self.requires_grad_()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def device(self) -> device:
        return device_of(self.array)

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad or self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True for tensors that no recorded op made: their `.grad` is filled by `backward`."""
        return self.node is None

    @property
    def grad_fn(self) -> Node | None:
        """The recorded op that made this tensor."""
        return self.node

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Ask for (or refuse) a gradient of this leaf; returns the tensor itself."""
        if value and self.array.dtype.kind not in "fc":
            raise TypeError(
                f"requires_grad: only floating-point tensors have gradients, got {self.array.dtype}"
            )
        if self.node is not None and not value:
            raise ValueError("requires_grad: this tensor was made by an op; use .detach() instead")
        self._requires_grad = value
        return self

    def detach(self) -> Tensor:
        """The same array, cut off from the graph."""
        return Tensor(self.array)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add d(self)/d(leaf), weighted by `gradient`, to `.grad` of every leaf that asked for it.

        `gradient` has this tensor's shape; it may be left out for a tensor of one element.
        """
        backward([self], [gradient], retain_graph, create_graph)

    __hash__ = object.__hash__  # == compares elements, so identity must be said

    def __repr__(self) -> str:
        values = np.array2string(
            np.asarray(self.array.get() if hasattr(self.array, "get") else self.array),
            separator=", ", precision=4, threshold=200, edgeitems=3, prefix="tensor(",
        )  # fmt: skip
        origin = f", made by {self.node.op.name}" if self.node else ""
        leaf = ", requires_grad=True" if self._requires_grad else ""
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"tensor({values}, {shape} {self.dtype} on {self.device}{origin}{leaf})"


class Like(NamedTuple):
    """What is remembered of an input where its values are not needed."""

    shape: tuple[int, ...]
    dtype: np.dtype
    device: device

    @property
    def ndim(self) -> int:
        return len(self.shape)


# ---- ops ---------------------------------------------------------------------------------------


class Node:
    """One recorded op: where its inputs came from, and what its vjps asked to keep."""

    __slots__ = ("number", "op", "parents", "saved", "shape", "static")
    count = itertools.count()

    def __init__(self, op: Op, parents: tuple, saved: Any, static: dict, shape: tuple[int, ...]):
        self.op = op
        self.parents = parents  # per input: a Node, a leaf Tensor, or None where no gradient is wanted
        self.saved = saved  # name -> Tensor, Like, or the output's array for "y"; None once freed; under
        # shapes_only the shape of each input
        self.static = static
        self.shape = shape  # of the output
        self.number = next(Node.count)  # an op is recorded after those that made its inputs

    @property
    def name(self) -> str:
        return self.op.name

    def __repr__(self) -> str:
        return f"<{self.op.name}>"


class _Vjp:
    """A vjp and what it asks for by name: inputs (x, x_like), the output (y), static arguments."""

    def __init__(self, function: Callable, inputs: Sequence[str]):
        self.function = function
        parameters = list(inspect.signature(function).parameters.values())[1:]  # without g
        names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        arrays = {"y", *inputs, *(f"{name}_like" for name in inputs)}
        self.names = names
        self.kept = [name for name in names if name in arrays]
        self.sources = {  # name -> which input, and whether its shape, dtype and device are enough
            name: (list(inputs).index(name.removesuffix("_like")), name.endswith("_like"))
            for name in self.kept
            if name != "y"
        }
        self.takes_output = "y" in self.kept
        self.takes_all_static = len(names) < len(parameters)

    def __call__(self, g: Tensor, node: Node, k: int) -> Tensor:
        found = {"k": k, **node.saved, **node.static}  # k: which of *xs
        if self.takes_output:  # kept as an array: a Tensor would hold its own node in a cycle
            found["y"] = Tensor(found["y"], node=node if mode.recording else None)
        if self.takes_all_static:
            return self.function(g, *(found[name] for name in self.kept), **node.static)
        return self.function(g, *[found[name] for name in self.names])


class Op:
    """A differentiable function of arrays; calling it on Tensors computes and records."""

    registry: ClassVar[dict[str, Op]] = {}

    def __init__(
        self,
        forward: Callable,
        vjps: Sequence[Callable | None],
        law: str,
        reach: Callable | None = None,
    ):
        parameters = list(inspect.signature(forward).parameters.values())[1:]  # without xp
        arrays = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        self.inputs = [p.name for p in arrays]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in arrays)
        self.forward = forward
        self.law = law
        self.reach = reach
        self.name = self.__name__ = forward.__name__
        self.__doc__, self.__module__ = forward.__doc__, forward.__module__
        self.vjps = [vjp and _Vjp(vjp, self.inputs) for vjp in vjps]
        self.registry[self.name] = self

    def __call__(self, *inputs: Any, **static: Any) -> Tensor:
        """Inputs are Tensors, or Python numbers where the forward takes them."""
        if mode.casts is not None:
            inputs = tuple(mode.casts(self.name, inputs))
        inputs = self.prepared(inputs)
        arrays, parents, recorded, xp = [], [], False, None
        for x in inputs:  # one loop and no property look-ups: this runs for every op
            if isinstance(x, Tensor):
                arrays.append(array := x.array)
                parents.append(parent := x.node or (x if x._requires_grad else None))
                recorded = recorded or parent is not None
                xp = xp or array_module(array)
            else:
                arrays.append(x)
                parents.append(None)
        if xp is None:
            given = ", ".join(type(x).__name__ for x in inputs)
            raise TypeError(f"{self.name}: expected a Tensor, got {given}; minidl.tensor(...) makes one")
        y = as_array(self.forward(xp, *arrays, **static), xp)
        if not (recorded and self.vjps and mode.recording):
            return Tensor(y)
        saved = self._keep(inputs, parents, y) if mode.saving else [getattr(x, "shape", ()) for x in inputs]
        node = Node(self, tuple(parents), saved, static, y.shape)
        if mode.nodes is not None:
            mode.nodes.append(node)
        return Tensor(y, node=node)

    def prepared(self, inputs: tuple) -> tuple:
        """The inputs as the forward takes them: a law may have a step before its ops."""
        return inputs

    def __get__(self, instance: Tensor | None, owner: type | None = None) -> Any:
        """As an attribute of Tensor an op is a method."""
        return self if instance is None else MethodType(self, instance)

    def vjp(self, k: int) -> _Vjp | None:
        """The vjp for the k-th input."""
        return self.vjps[0 if self.variadic else k]

    def pull_back(self, g: Tensor, node: Node, wanted: list[int]) -> Iterator[tuple[int, Tensor]]:
        """The cotangents of the wanted inputs, given that of the output: (which input, its cotangent)."""
        for k in wanted:
            vjp = self.vjp(k)
            if vjp is not None:
                yield k, vjp(g, node, k)

    def _keep(self, inputs: Sequence, parents: Sequence, y: Array) -> dict[str, Any]:
        """What is asked for by the vjps of those inputs that want a gradient."""
        kept: dict[str, Any] = {}
        for k, parent in enumerate(parents):
            vjp = self.vjp(k)
            if parent is None or vjp is None:
                continue
            for name in vjp.kept:
                if name == "y":
                    kept[name] = y
                elif name not in kept:
                    position, like = vjp.sources[name]
                    x: Any = inputs if self.variadic else inputs[position]
                    kept[name] = x if not like else tuple(map(_like, x)) if self.variadic else _like(x)
        return kept

    def __repr__(self) -> str:
        return f"<op {self.name} ({self.law})>"


def _like(x: Tensor) -> Like:
    return Like(x.shape, x.dtype, x.device)


def op(*vjps: Callable | None, law: str, reach: Callable | None = None) -> Callable[[Callable], Op]:
    """Make `forward(xp, *arrays, **static)` a differentiable function of Tensors, one vjp per array.

    `None` in place of a vjp marks an argument without a gradient; an op without vjps has no gradient at all.
    `reach(*inputs, **static)` says which positions of the inputs each position of the output sees, in terms
    of `minidl.receptive_field.Reach`.
    """
    return lambda forward: Op(forward, vjps, law, reach)


# ---- backward ----------------------------------------------------------------------------------


def _latest_first(roots: Iterable[Node]) -> list[Node]:
    """Every node reachable from the roots, each before the nodes that made its inputs. No recursion."""
    found = set(roots)
    stack = list(found)
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Node) and parent not in found:
                found.add(parent)
                stack.append(parent)
    return sorted(found, key=attrgetter("number"), reverse=True)


def _on_the_way(order: list[Node], targets: set) -> set[Node]:
    """The nodes from which a target can be reached: only their vjps are worth computing."""
    useful: set[Node] = set()
    for node in reversed(order):
        if any(p is not None and (p in useful or p in targets) for p in node.parents):
            useful.add(node)
    return useful


def _cotangents(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    targets: set | None,
    retain_graph: bool,
    create_graph: bool,
) -> dict[Any, Tensor]:
    """dL/d(target) for leaves (targets=None: every leaf) and for the nodes named in targets."""
    arrived: dict[Any, Tensor] = {}  # Node or leaf Tensor -> sum of what has arrived
    for output, gradient in zip(outputs, gradients, strict=True):
        place, start = output.node or output, _initial_cotangent(output, gradient)
        arrived[place] = arrived[place] + start if place in arrived else start
    order = _latest_first([output.node for output in outputs if output.node])
    every, named = targets is None, targets or set()
    useful = set(order) if every else _on_the_way(order, named)

    with set_grad_enabled(create_graph), casting(None):  # cotangents have the dtypes of forward
        for node in order:
            g = arrived.get(node) if node in named else arrived.pop(node, None)
            if g is None or node not in useful:
                continue
            if node.saved is None:
                raise RuntimeError(
                    f"backward: the graph behind {node.name} was freed by an earlier backward; "
                    "pass retain_graph=True to the first one to walk it twice"
                )
            wanted = [
                k
                for k, parent in enumerate(node.parents)
                if parent is not None and (every or parent in named or parent in useful)
            ]
            for k, cotangent in node.op.pull_back(g, node, wanted):
                place = node.parents[k]
                arrived[place] = _plus(arrived[place], cotangent) if place in arrived else cotangent
            if node.saved and not retain_graph:
                node.saved = None
    return arrived


def _plus(a: Tensor, b: Tensor) -> Tensor:
    """a + b, recorded only where the gradient is itself to be differentiated."""
    return a + b if mode.recording else Tensor(as_array(a.array + b.array, array_module(a.array)))


def _initial_cotangent(output: Tensor, gradient: Tensor | None) -> Tensor:
    if not output.requires_grad:
        raise ValueError("backward: this tensor does not depend on any tensor with requires_grad=True")
    if gradient is None:
        if output.array.size != 1:
            raise ValueError(
                "backward: a gradient can be left out only for a tensor of one element, this one has "
                f"shape {output.shape}; pass gradient= of that shape, or call .sum() or .mean() first"
            )
        return Tensor(array_module(output.array).ones_like(output.array))
    if gradient.shape != output.shape:
        raise ValueError(f"backward: gradient has shape {gradient.shape}, the tensor has {output.shape}")
    return gradient if gradient.dtype == output.dtype else gradient.to(output.dtype)


def backward(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradient of Σ⟨tensor, gradient⟩ to `.grad` of every leaf with requires_grad=True."""
    gradients = [None] * len(tensors) if gradients is None else gradients
    retain_graph = create_graph if retain_graph is None else retain_graph
    owned = {id(g.array) for g in gradients if g is not None}
    found = _cotangents(tensors, gradients, None, retain_graph, create_graph)
    with set_grad_enabled(create_graph):
        for leaf, g in found.items():
            # A view (of a broadcast, a crop) would keep its base alive; a + b hands both operands one array.
            shared = g.array.base is not None or id(g.array) in owned
            if shared and not g.requires_grad:
                g = Tensor(g.array.copy())
            owned.add(id(g.array))
            leaf.grad = g if leaf.grad is None else _plus(leaf.grad, g)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of Σ⟨output, grad_output⟩ with respect to the inputs; `.grad` stays as it was.

    Errors: ValueError where an input does not influence the outputs, unless `allow_unused` (then None).
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None or isinstance(grad_outputs, Tensor):
        grad_outputs = [grad_outputs] * len(outputs)
    for k, x in enumerate(inputs):
        if not x.requires_grad:
            raise ValueError(f"grad: input {k} of shape {x.shape} does not require a gradient")
    retain_graph = create_graph if retain_graph is None else retain_graph
    places = [x.node or x for x in inputs]
    found = _cotangents(outputs, grad_outputs, set(places), retain_graph, create_graph)
    for k, place in enumerate(places):
        if place not in found and not allow_unused:
            raise ValueError(
                f"grad: input {k} of shape {inputs[k].shape} does not influence the outputs; "
                "allow_unused=True gives None for it"
            )
    return tuple(found.get(place) for place in places)
