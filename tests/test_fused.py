"""Fused ops: each equals its composition in values and in gradients of every order; so do its kernels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import minidl
from minidl.autograd import Op
from minidl.kernels import Numpy, reference
from minidl.nn import functional as F
from minidl.ops.fused import norm_leaky_relu
from minidl.testing import gradcheck

SHAPES = [(2, 3, 7), (3, 4, 5, 6), (1, 2, 3, 4, 2), (2, 1, 1, 9), (2, 70, 40, 41)]
FUSED = {
    "norm_leaky_relu": [
        (norm_leaky_relu, dict(per_sample=per_sample, eps=1e-5, slope=slope))
        for per_sample, slope in product((True, False), (1, 0.01, 0.0))
    ]
}
ROWS = [pytest.param(*row, id=f"{name}-{row[1]}") for name, rows in FUSED.items() for row in rows]


def draw(shape: tuple[int, ...], dtype: str = "float64") -> list[minidl.Tensor]:
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal(shape) + 0.5, rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    return [minidl.tensor(a.astype(dtype), requires_grad=True) for a in arrays]


def test_the_table_holds_every_fused_op():
    assert set(FUSED) == {name for name, op in Op.registry.items() if op.law == "fused"}


@pytest.mark.parametrize(("op", "options"), ROWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_the_composition(op, options, shape):
    inputs = draw(shape)
    y, z = op(*inputs, **options), op.composition(*inputs, **options)
    np.testing.assert_allclose(y.array, z.array, rtol=1e-12, atol=1e-12)
    g = minidl.tensor(np.random.default_rng(1).standard_normal(y.shape))
    for a, b in zip(minidl.autograd.grad(y, inputs, g), minidl.autograd.grad(z, inputs, g)):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("op", "options"), ROWS)
def test_gradients_of_the_second_order(op, options):
    assert gradcheck(lambda *inputs: op(*inputs, **options), draw((2, 2, 3, 2)), order=2)


def test_a_weight_that_also_made_the_input_gets_both_parts():
    """With create_graph the derivative goes through the composition, and must not follow the way from w to
    x.
    """
    x, w, b = draw((2, 3, 4))
    run = lambda w: norm_leaky_relu(x * w.reshape(1, 3, 1), w, b, per_sample=True, eps=1e-2, slope=0.1)
    assert gradcheck(run, [w], order=2)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_inputs_get_none(frozen):
    inputs = draw((2, 3, 4, 4))
    inputs[frozen].requires_grad_(False)
    norm_leaky_relu(*inputs, per_sample=True, eps=1e-5, slope=0.01).sum().backward()
    assert [x.grad is None for x in inputs] == [k == frozen for k in range(3)]


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_kernels_equal_the_clear_version(per_sample, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 8, 14))[..., ::2].astype(dtype)  # not contiguous
    w, b = rng.standard_normal((2, 5)).astype("float32")
    g = rng.standard_normal(x.shape).astype(dtype)
    x.flags.writeable = False
    options = dict(per_sample=per_sample, eps=1e-5, slope=0.2)
    exact = [a.astype(np.float64) for a in (x, w, b)]
    tol = 4e-3 if dtype == "float16" else 2e-5
    y = Numpy.norm_leaky_relu(x, w, b, **options)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, reference.norm_leaky_relu(*exact, **options), rtol=tol, atol=tol)
    found = Numpy.norm_leaky_relu_backward(g, x, w, b, **options)
    expected = reference.norm_leaky_relu_backward(g.astype(np.float64), *exact, **options)
    for a, e in zip(found, expected):
        np.testing.assert_allclose(a, e, rtol=50 * tol, atol=50 * tol)


def test_norms_with_negative_slope_equal_norm_then_leaky_relu():
    x, w, b = draw((3, 4, 5, 5))
    mean, var = minidl.zeros(4, dtype="float64"), minidl.ones(4, dtype="float64")
    calls = [
        lambda **kw: F.instance_norm(x, None, None, w, b, **kw),
        lambda **kw: F.instance_norm(x, **kw),
        lambda **kw: F.batch_norm(x, None, None, w, b, True, **kw),
        lambda **kw: F.batch_norm(x, mean, var, w, b, False, **kw),
    ]
    for call in calls:
        np.testing.assert_allclose(
            call(negative_slope=0.1).array, F.leaky_relu(call(), 0.1).array, rtol=1e-12, atol=1e-12
        )
