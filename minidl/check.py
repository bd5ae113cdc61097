"""Self-checks for exercises: they say what is wrong with an answer, and never stop a notebook.

    check.value("the padded signal", found, expected)
    check.value("the mean", lambda: answer.mean(), expected)
    check.function("convolve", yours, theirs, ([1, 3, 2], [-1, 2, 1]), ([4.0], [1, 0, 2]))

Each prints one line. An answer that raises is wrong, not an error. `results` keeps what was checked:
(name, whether it was right).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.autograd import Tensor, grad
from minidl.backend import to_numpy

results: list[tuple[str, bool]] = []


def value(name: str, found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Compare an answer (a number, array, Tensor, or a sequence of them) with what it should be.

    What must be computed from an answer comes as a function of nothing, which may fail.
    """
    try:
        found = found() if callable(found) else found
    except Exception as error:
        problem = _raised(error)
    else:
        problem = _difference(found, expected, tolerance)
    _report(name, problem)


def function(
    name: str,
    yours: Callable,
    theirs: Callable,
    *cases: Sequence,
    gradients: bool = False,
    tolerance: float = 1e-5,
) -> None:
    """Call both functions with the arguments of each case and compare what they return.

    With `gradients`, the arguments that are Tensors and require one get theirs compared, too.
    """
    problems = (_case_problem(name, yours, theirs, case, gradients, tolerance) for case in cases)
    _report(name, next(filter(None, problems), ""), f" in {len(cases)} cases" if len(cases) > 1 else "")


def _case_problem(
    name: str, yours: Callable, theirs: Callable, arguments: Sequence, gradients: bool, tolerance: float
) -> str:
    call = f"{name}({', '.join(_what(a) for a in arguments)})"
    try:
        found = yours(*copy.deepcopy(arguments))
    except Exception as error:
        return f"{call} {_raised(error)}"
    problem = _difference(found, theirs(*copy.deepcopy(arguments)), tolerance)
    if not problem and gradients:
        problem = _gradient_difference(yours, theirs, arguments, tolerance)
    return problem and f"{call}: {problem}"


def _report(name: str, problem: str, note: str = "") -> None:
    results.append((name, not problem))
    print(f"✗ {name}: {problem}" if problem else f"✓ {name}: right{note}")


def _difference(found: Any, expected: Any, tolerance: float) -> str:
    """What is wrong, in words; nothing where all is right."""
    if found is None or found is Ellipsis or found is NotImplemented:
        return "there is no answer yet"
    if isinstance(expected, (str, bool)) or expected is None:
        right = np.array_equal(found, np.asarray(expected))
        return "" if right else f"found {_what(found)}, expected something else"
    if isinstance(expected, (tuple, list)) and any(isinstance(e, (Tensor, np.ndarray)) for e in expected):
        if not isinstance(found, (tuple, list)) or len(found) != len(expected):
            return f"expected {len(expected)} results, found {_what(found)}"
        problems = (_difference(f, e, tolerance) for f, e in zip(found, expected))
        return next((f"result {k}: {p}" for k, p in enumerate(problems) if p), "")
    try:
        a, b = _numbers(found), _numbers(expected)
    except (TypeError, ValueError, OverflowError):
        return f"expected numbers, found {_what(found)}"
    if a.shape != b.shape:
        return f"shape {a.shape}, expected {b.shape}"
    wrong = ~np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = f" first at index {first if len(first) > 1 else first[0]}:" if first else ""
    text = f"{wrong.sum()} of {wrong.size} numbers are wrong," if wrong.size > 1 else ""
    farthest = np.fmax.reduce(abs(a[wrong] - b[wrong]))
    largest = f"; largest difference {farthest:.3g}" if wrong.sum() > 1 else ""
    return f"{text}{where} found {a[first]:.6g}, expected {b[first]:.6g}{largest}".strip()


def _gradient_difference(yours: Callable, theirs: Callable, arguments: Sequence, tolerance: float) -> str:
    gradients = []
    for f in (yours, theirs):
        inputs = copy.deepcopy(arguments)
        leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        y = f(*inputs)
        if not isinstance(y, Tensor) or not y.requires_grad:
            return f"the result does not depend on the inputs: {_what(y)}"
        weights = Tensor(np.cos(np.arange(y.array.size)).reshape(y.shape).astype(y.dtype))
        try:
            gradients.append(grad(y, leaves, weights, allow_unused=True))
        except Exception as error:
            return f"the gradient {_raised(error)}"
    for k, (a, b) in enumerate(zip(*gradients)):
        problem = _difference(0 * b if a is None else a, b, tolerance) if b is not None else ""
        if problem:
            return f"the gradient of argument {k}: {problem}"
    return ""


def _numbers(x: Any) -> np.ndarray:
    numbers = np.asarray(to_numpy(x.array) if isinstance(x, Tensor) else x)
    if numbers.dtype.kind in "USc":
        raise TypeError("NumPy would read text, and drop imaginary parts")
    return numbers.astype(np.float64)


def _raised(error: Exception) -> str:
    return f"raised {type(error).__name__}: {error}"


def _what(x: Any) -> str:
    shape = f" of shape {tuple(x.shape)}" if hasattr(x, "shape") else ""
    return f"{type(x).__name__}{shape}" if shape else repr(x)[:60]
