"""The self-checks of exercises: what they print about right, wrong, missing and broken answers."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import check


@pytest.mark.parametrize(
    "found, expected, words",
    [
        (3, 3.0, "✓ it: right"),
        ([1, 2], np.array([1.0, 2.0]), "✓ it: right"),
        (minidl.tensor([1.0, 2.0]), [1, 2], "✓ it: right"),
        (None, 3, "✗ it: there is no answer yet"),
        (..., 3, "✗ it: there is no answer yet"),
        (2, 3, "✗ it: found 2, expected 3"),
        ([1, 2, 4], [1, 2, 3], "✗ it: 1 of 3 numbers are wrong, first at index 2: found 4, expected 3"),
        ([[1, 5], [7, 4]], [[1, 2], [3, 4]],
         "✗ it: 2 of 4 numbers are wrong, first at index (0, 1): found 5, expected 2; largest difference 4"),
        ([1, 2], [1, 2, 3], "✗ it: shape (2,), expected (3,)"),
        ("five", 5, "✗ it: expected numbers, found 'five'"),
        (np.nan, 1.0, "✗ it: found nan, expected 1"),
        (True, True, "✓ it: right"),
        ("yes", "no", "✗ it: found 'yes', expected something else"),
        (np.ones(2), True, "✗ it: found ndarray of shape (2,), expected something else"),
        ("5", 5, "✗ it: expected numbers, found '5'"),
        (1 + 2j, 1, "✗ it: expected numbers, found (1+2j)"),
        (10**400, 1, f"✗ it: expected numbers, found 1{'0' * 59}"),
        ([1, None], [1, 2], "✗ it: 1 of 2 numbers are wrong, first at index 1: found nan, expected 2"),
        ([np.nan, np.inf], [1, -np.inf],
         "✗ it: 2 of 2 numbers are wrong, first at index 0: found nan, expected 1; largest difference inf"),
        (lambda: 3, 3, "✓ it: right"),
        (lambda: None, 3, "✗ it: there is no answer yet"),
        (lambda: None + 1, 3,
         "✗ it: raised TypeError: unsupported operand type(s) for +: 'NoneType' and 'int'"),
        (lambda missing: 3, 3,
         "✗ it: raised TypeError: <lambda>() missing 1 required positional argument: 'missing'"),
        (1, (np.ones(2), np.ones(3)), "✗ it: expected 2 results, found 1"),
        ((np.ones(2), np.zeros(3)), (np.ones(2), np.ones(3)),
         "✗ it: result 1: 3 of 3 numbers are wrong, first at index 0: found 0, expected 1; "
         "largest difference 1"),
    ],
)  # fmt: skip
def test_values(found, expected, words, capsys):
    check.value("it", found, expected)
    assert capsys.readouterr().out.strip() == words
    assert check.results[-1] == ("it", words.startswith("✓"))


def test_functions(capsys):
    check.function("double", lambda x: 2 * x, lambda x: x + x, (1,), (np.ones(3),))
    check.function("double", lambda x: x * x, lambda x: x + x, (2,), (np.full(2, 3.0),))
    check.function("double", lambda x: x.missing, lambda x: x + x, (2,))
    assert check.results[-3:] == [("double", True), ("double", False), ("double", False)]
    right, wrong, broken = capsys.readouterr().out.splitlines()
    assert right == "✓ double: right in 2 cases"
    assert wrong.startswith(
        "✗ double: double(ndarray of shape (2,)): 2 of 2 numbers are wrong, first at index 0"
    )
    assert "double(2) raised AttributeError: 'int' object has no attribute 'missing'" in broken


def test_gradients(capsys):
    x = minidl.tensor([1.0, 2.0], requires_grad=True)
    check.function("square", lambda x: x * x, lambda x: x**2, (x,), gradients=True)
    check.function("square", lambda x: x * x.detach(), lambda x: x**2, (x,), gradients=True)
    check.function("square", lambda x: x.detach() ** 2, lambda x: x**2, (x,), gradients=True)
    assert check.results[-3:] == [("square", True), ("square", False), ("square", False)]
    lines = capsys.readouterr().out.splitlines()
    assert "the gradient of argument 0: 2 of 2 numbers are wrong" in lines[1]
    assert "the result does not depend on the inputs" in lines[2]
    assert x.grad is None


def test_a_gradient_that_raises_is_wrong(capsys):
    def impatient(x):
        y = (x**2).sum()
        y.backward()  # which frees what it has walked
        return y

    x = minidl.tensor([1.0, 2.0], requires_grad=True)
    check.function("square", impatient, lambda x: (x**2).sum(), (x,), gradients=True)
    assert "the gradient raised RuntimeError" in capsys.readouterr().out and not check.results[-1][1]


def test_answers_cannot_change_the_question():
    question = np.ones(3)
    check.function("spoil", lambda x: x.fill(0), lambda x: x, (question,))
    assert question.tolist() == [1, 1, 1]
