"""Checks of gradients: finite differences, and the exact laws of linear and bilinear functions.

gradcheck(lambda x: (x * x).sum(), [x])     compares every derivative with finite differences
dot_test(A, x)                              <Ax, y> = <x, A'y>, exact for a linear A
triple_test(T, ...)                         the three ops of a bilinear trio evaluate one T
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.autograd import Tensor, grad
from minidl.backend import to_numpy
from minidl.recording import enable_grad, no_grad


class GradcheckError(AssertionError):
    """A gradient differs from what the check expects; the message says where."""


def _inner(a: Sequence[Tensor | None], b: Sequence[Tensor]) -> float:
    """Σ <a_k, b_k>; None counts as zero."""
    pairs = ((to_numpy(u.array), to_numpy(v.array)) for u, v in zip(a, b) if u is not None)
    return float(sum(np.sum(u.astype(np.float64) * v.astype(np.float64)) for u, v in pairs))


def _random_like(x: Tensor, rng: np.random.Generator) -> Tensor:
    return Tensor(rng.standard_normal(x.shape).astype(x.dtype))


def _outputs(function: Callable, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The floating-point outputs: indices and masks have no derivative."""
    y = function(*inputs)
    return [output for output in ([y] if isinstance(y, Tensor) else y) if output.dtype.kind == "f"]


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    create_graph: bool = False,
) -> Sequence[Tensor | None]:
    """`grad`, with None for an input that does not influence the outputs."""
    used = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not used:
        return [None] * len(inputs)
    ys, vs = zip(*used)
    return grad(ys, inputs, vs, create_graph=create_graph, allow_unused=True)


def gradcheck(
    function: Callable,
    inputs: Sequence[Tensor],
    *,
    order: int = 1,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    seed: int = 0,
) -> bool:
    """Compare the gradients of `function(*inputs)` with central differences, element by element.

    The outputs are paired with a random cotangent v, and d<f(x), v>/dx_i is compared with
    (<f(x + eps e_i), v> - <f(x - eps e_i), v>) / 2 eps for every element i of every input that requires a
    gradient. With order > 1 the function x, v -> gradient is checked in the same way, and so on.

    Returns True; raises GradcheckError that names the input, the index and the two numbers. Inputs should
    be float64: at lower precision the differences drown in rounding, and a warning says so.
    """
    rng = np.random.default_rng(seed)
    checked = [k for k, x in enumerate(inputs) if x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires a gradient")
    low = [k for k in checked if inputs[k].dtype != np.float64]
    if low:
        warnings.warn(
            f"gradcheck: inputs {low} are not float64; finite differences need double precision",
            stacklevel=2,
        )
    with no_grad():
        cotangents = [_random_like(y, rng) for y in _outputs(function, inputs)]

    def value() -> float:
        with no_grad():
            return _inner(_outputs(function, inputs), cotangents)

    with enable_grad():
        analytic = _gradients(_outputs(function, inputs), [inputs[k] for k in checked], cotangents)
    for k, g in zip(checked, analytic):
        x = inputs[k].array
        if g is not None and (g.shape != x.shape or g.dtype != x.dtype):
            raise GradcheckError(
                f"gradcheck: gradient of input {k} is {g.shape} {g.dtype}, input {x.shape} {x.dtype}"
            )
        for index in np.ndindex(x.shape):
            before = x[index].copy()
            x[index] = before + eps
            up = value()
            x[index] = before - eps
            down = value()
            x[index] = before
            numeric, found = (up - down) / (2 * eps), 0.0 if g is None else float(g.array[index])
            if not abs(found - numeric) <= atol + rtol * abs(numeric):
                raise GradcheckError(
                    f"gradcheck: input {k}, index {index}: "
                    f"gradient {found:.8g}, finite difference {numeric:.8g}"
                )
    if order > 1:
        _check_next_order(
            function,
            inputs,
            checked,
            cotangents,
            order,
            dict(eps=eps, atol=atol, rtol=rtol, seed=seed),
        )
    return True


def _check_next_order(function, inputs, checked, cotangents, order, options):
    """gradcheck of (x, v) -> d<f(x), v>/dx."""

    def gradient(*arguments: Tensor) -> list[Tensor]:
        xs, vs = arguments[: len(inputs)], arguments[len(inputs) :]
        with enable_grad():
            wanted = [xs[k] for k in checked]
            found = _gradients(_outputs(function, xs), wanted, vs, create_graph=True)
        return [x * 0.0 if g is None else g for g, x in zip(found, wanted)]

    for v in cotangents:
        v.requires_grad_()
    gradients = gradient(*inputs, *cotangents)
    if not any(g.requires_grad for g in gradients):
        if any(to_numpy(g.array).any() for g in gradients):
            raise GradcheckError(
                "gradcheck: the gradient is cut off from the graph; a vjp must be made of ops"
            )
        return  # it is 0 everywhere
    try:
        gradcheck(gradient, [*inputs, *cotangents], order=order - 1, **options)
    except GradcheckError as error:
        raise GradcheckError(f"one order up, inputs (x, cotangent): {error}") from None


def gradgradcheck(function: Callable, inputs: Sequence[Tensor], order: int = 2, **options: Any) -> bool:
    """`gradcheck` up to the given order."""
    return gradcheck(function, inputs, order=order, **options)


def dot_test(function: Callable, *inputs: Tensor, seed: int = 0, tol: float = 1e-12) -> bool:
    """<A x, v> = <x, A' v> for a function linear in all inputs jointly, A' its vjp: exact, no step size.

    Also checks linearity itself, A(x + 2z) = A x + 2 A z, and that A' is linear too: <A' v, z> = <v, A z>.
    """
    rng = np.random.default_rng(seed)
    xs = [Tensor(x.array, requires_grad=True) for x in inputs]
    y = function(*xs)
    v = _random_like(y, rng).requires_grad_()
    back = grad(y, xs, v, create_graph=True, allow_unused=True)
    _close("dot_test: <Ax, v> = <x, A'v>", _inner([y], [v]), _inner(back, xs), _size(y, v), tol)
    zs = [_random_like(x, rng) for x in xs]
    with no_grad():
        az = function(*zs)
        both = function(*(x + z * 2.0 for x, z in zip(xs, zs)))
    _close(
        "dot_test: A(x + 2z) = Ax + 2Az",
        _inner([both], [v]),
        _inner([y + az * 2.0], [v]),
        _size(y, v),
        tol,
    )
    used = [(b, z) for b, z in zip(back, zs) if b is not None and b.requires_grad]
    if used:
        twice = grad([b for b, _ in used], [v], [z for _, z in used])
        _close(
            "dot_test: the adjoint's adjoint is A",
            _inner(twice, [v]),
            _inner([az], [v]),
            _size(az, v),
            tol,
        )
    return True


def triple_test(
    conv: Callable,
    conv_input: Callable,
    conv_weight: Callable,
    x: Tensor,
    w: Tensor,
    seed: int = 0,
    tol: float = 1e-11,
) -> bool:
    """<conv(x, w), u> = <x, conv_input(u, w)> = <w, conv_weight(x, u)>: one form, evaluated three ways."""
    rng = np.random.default_rng(seed)
    with no_grad():
        y = conv(x, w)
        u = _random_like(y, rng)
        form = _inner([y], [u])
        size = _size(y, u)
        _close("triple_test: T in the input's slot", _inner([conv_input(u, w)], [x]), form, size, tol)
        _close("triple_test: T in the weight's slot", _inner([conv_weight(x, u)], [w]), form, size, tol)
    return True


def _size(a: Tensor, b: Tensor) -> float:
    """|a|·|b|: the scale against which rounding is measured."""
    return float(np.linalg.norm(to_numpy(a.array).ravel()) * np.linalg.norm(to_numpy(b.array).ravel()))


def _close(what: str, found: float, expected: float, size: float, tol: float) -> None:
    if not abs(found - expected) <= tol * (1 + size):
        raise GradcheckError(f"{what}: {found!r} against {expected!r}")
