"""The checks themselves: each planted bug must be found, and named."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import minidl
from minidl.autograd import Tensor, op
from minidl.ops import bilinear, linear
from minidl.testing import GradcheckError, dot_test, gradcheck, gradgradcheck, triple_test

GEOMETRY = dict(stride=(2,), padding=(1,), dilation=(1,), groups=1)


def planted(*vjps):
    return op(*vjps, law="planted")


def square(*vjps):
    """x² with the given vjp."""

    @planted(*vjps)
    def square(xp, x):
        return x * x

    return square


@planted(lambda g, x_like, index: Tensor(_overwritten(g.array, index, x_like.shape)))
def gather(xp, x, *, index):
    return x[index]


def _overwritten(g, index, shape):
    y = np.zeros(shape)
    y[index] = g  # must be +=
    return y


def leaf(*values, dtype=np.float64):
    return minidl.tensor(np.array(values, dtype), requires_grad=True)


POINT = leaf(0.5, 2.0)
RIGHT = square(lambda g, x: g * (x * 2.0))
RED = [  # the bug, the function, inputs, the order at which it shows, message
    ("wrong sign", square(lambda g, x: -(g * x * 2.0)), [POINT], 1, r"input 0, index \(0,\): gradient"),
    ("wrong factor", square(lambda g, x: g * x), [POINT], 1, r"input 0, index \(0,\)"),
    ("wrong at one point", square(lambda g, x: g * x * x), [POINT], 1, r"input 0, index \(0,\)"),
    ("no gradient", square(None), [POINT], 1, r"gradient [-0.]+, finite difference"),
    ("wrong shape", square(lambda g, x: (g * x * 2.0).sum()), [POINT], 1, r"\(\) float64, input \(2,\)"),
    ("wrong dtype", square(lambda g, x: (g * x * 2.0).float()), [POINT], 1, "float32, input .* float64"),
    ("second input", lambda a, b: RIGHT(a) * square(lambda g, x: g)(b), [POINT, leaf(3.0)], 1, "input 1"),
    ("missing +=", lambda x: gather(x, index=np.array([1, 1])), [POINT], 1, r"index \(1,\)"),
    ("graph cut in x", square(lambda g, x: g * (x.detach() * 2.0)), [POINT], 2, r"one order up.*input 0"),
    ("graph cut", square(lambda g, x: Tensor(g.array * x.array * 2)), [POINT], 2, "cut off from the graph"),
]  # fmt: skip


@pytest.mark.parametrize("bug, function, inputs, order, message", RED, ids=[row[0] for row in RED])
def test_gradcheck_finds(bug, function, inputs, order, message):
    for lower in range(1, order):
        assert gradcheck(function, inputs, order=lower)
    with pytest.raises(GradcheckError, match=message):
        gradcheck(function, inputs, order=order)


def test_the_message_names_input_index_and_both_numbers():
    wrong = square(lambda g, x: g * x * 3.0)
    with pytest.raises(GradcheckError, match=r"input 1, index \(0,\): gradient") as caught:
        gradcheck(lambda a, b: a * 1.0 + wrong(b).sum(), [leaf(1.0), leaf(2.0)])
    found, expected = re.findall(r"(?:gradient|difference) ([-+.\de]+)", str(caught.value))
    assert float(found) / float(expected) == pytest.approx(1.5)


def test_right_functions_pass():
    assert gradcheck(RIGHT, [POINT], order=3)
    assert gradgradcheck(lambda x: x.max(0), [POINT])
    assert gradcheck(lambda a, b: a.exp(), [POINT, leaf(1.0)], order=2)  # b does not matter
    assert gradcheck(lambda x: (x > 1, x * 2, minidl.ones(2, dtype=np.float64)), [POINT], order=2)


def test_the_inputs_are_left_as_they_were():
    x = leaf(0.1, 0.2)
    gradcheck(RIGHT, [x], order=2)
    np.testing.assert_array_equal(x.array, [0.1, 0.2])
    assert x.grad is None


def test_float32_is_warned_of():
    with pytest.warns(UserWarning, match=r"inputs \[1\] are not float64"):
        gradcheck(lambda a, b: b * 2, [POINT, leaf(1.0, dtype=np.float32)], eps=1e-2, atol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradcheck(RIGHT, [POINT])


def test_inputs_without_a_gradient_are_refused():
    with pytest.raises(ValueError, match="no input requires a gradient"):
        gradcheck(RIGHT, [minidl.ones(1)])


# ---- the exact laws ----------------------------------------------------------------------------


@planted(lambda g, x_like: linear.expand(g * 2.0, shape=x_like.shape))
def wrong_sum(xp, x):
    return x.sum(0, keepdims=True)


@planted(lambda g: g * 3.0)
def affine(xp, x):
    return x * 3.0 + 1.0


@planted(lambda g: cut(g))
def thrice(xp, x):
    return x * 3.0


@planted(lambda g: g * 2.0)  # the adjoint's own adjoint is wrong
def cut(xp, x):
    return x * 3.0


DOTS = [
    (wrong_sum, r"<Ax, v> = <x, A'v>"),
    (lambda x: gather(x, index=np.array([0, 0])), r"<Ax, v> = <x, A'v>"),
    (affine, r"<Ax, v> = <x, A'v>|A\(x \+ 2z\)"),
    (lambda x: x * x, r"<Ax, v> = <x, A'v>|A\(x \+ 2z\)"),
    (thrice, "adjoint's adjoint"),
]


@pytest.mark.parametrize("function, message", DOTS, ids=[row[1] for row in DOTS])
def test_dot_test_finds_wrong_adjoints_and_functions_that_are_not_linear(function, message):
    with pytest.raises(GradcheckError, match=message):
        dot_test(function, leaf(0.3, -1.2, 2.5))


def test_dot_test_passes_linear_functions():
    assert dot_test(lambda x: x * 3.0, leaf(1.0, 2.0))
    assert dot_test(lambda x, y: minidl.cat([y, x.flip(0)]).cumsum(0), leaf(1.0, 2.0), leaf(3.0))


def test_triple_test_finds_a_wrong_member_of_the_trio():
    rng = np.random.default_rng(0)
    x, w = Tensor(rng.standard_normal((2, 1, 7))), Tensor(rng.standard_normal((2, 1, 3)))
    conv = lambda x, w: bilinear.conv(x, w, **GEOMETRY)
    conv_input = lambda u, w: bilinear.conv_input(u, w, size=(7,), **GEOMETRY)
    conv_weight = lambda x, u: bilinear.conv_weight(x, u, size=(3,), **GEOMETRY)
    assert triple_test(conv, conv_input, conv_weight, x, w)
    flipped = lambda u, w: conv_input(u, w.flip(2))
    with pytest.raises(GradcheckError, match="input's slot"):
        triple_test(conv, flipped, conv_weight, x, w)
    with pytest.raises(GradcheckError, match="weight's slot"):
        triple_test(conv, conv_input, lambda x, u: conv_weight(x, u) * 1.001, x, w)
