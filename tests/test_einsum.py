"""Products of matrices and einsum, against PyTorch, NumPy and numbers worked out by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl.ops.einsum import merge
from minidl.testing import gradcheck


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape))


def same(call, *arrays):
    from oracle import assert_matches_torch, torch

    assert_matches_torch(partial(call, minidl), partial(call, torch), *arrays)


# ---- einsum --------------------------------------------------------------------------------------

EQUATIONS = [  # equation, shapes
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ik,jk->ij", (2, 3), (4, 3)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)), ("bij,bjk->ik", (2, 3, 4), (2, 4, 2)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("nc,c->nc", (2, 3), (3,)), ("i,j->ij", (2,), (3,)),
    ("i,i->", (3,), (3,)), ("i,i->i", (3,), (3,)), ("ij->ji", (2, 3)), ("ji", (2, 3)), ("ij->", (2, 3)),
    ("ij->j", (2, 3)), ("ii", (3, 3)), ("ii->i", (3, 3)), ("iij->ij", (2, 2, 3)), ("iji->j", (2, 3, 2)),
    ("iii->i", (2, 2, 2)), ("ii,i->i", (3, 3), (3,)), ("...", (2, 3)), ("...ij->...ji", (2, 3, 4)),
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 2)), ("...ij,...jk->...ik", (5, 1, 2, 3), (2, 3, 4)),
    ("...c,c->...", (2, 2, 3), (3,)), ("...i,...i", (2, 3), (2, 3)), ("b...,b...->...", (2, 3), (2, 3)),
    ("i...->...", (2, 3, 4)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("i,j,k->kji", (2,), (3,), (2,)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 2), (2, 2)), ("ij,ij,ij->ij", (2, 3), (2, 3), (2, 3)),
    ("ij,j->i", (2, 1), (3,)), ("ij,jk->ik", (2, 1), (3, 4)), ("ij,ij->", (1, 3), (2, 3)),
    (",i->i", (), (3,)), (",", (), ()), ("ij,k->i", (2, 3), (4,)), (" i j , j k -> i k ", (2, 3), (3, 2)),
    ("Ab,bC->AC", (2, 3), (3, 2)), ("ij,jk->ik", (2, 0), (0, 3)), ("ij->i", (0, 2)),
]  # fmt: skip


@pytest.mark.parametrize("equation, shapes", [(row[0], row[1:]) for row in EQUATIONS], ids=str)
def test_einsum_is_pytorchs_to_the_second_gradient(equation, shapes):
    same(lambda m, *xs: m.einsum(equation, *xs), *(normal(*s, seed=i) for i, s in enumerate(shapes)))


@examples(40)
@given(
    terms=st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3),
    kept=st.permutations("abcd"),
    count=st.integers(0, 4),
)
def test_einsum_of_any_subscripts_is_numpys(terms, kept, count):
    sizes = dict(zip("abcd", (2, 3, 1, 2)))
    output = "".join(c for c in kept[:count] if any(c in term for term in terms))
    arrays = [normal(*(sizes[c] for c in term), seed=i) for i, term in enumerate(terms)]
    equation = ",".join(terms) + "->" + output
    y = minidl.einsum(equation, *map(minidl.tensor, arrays))
    np.testing.assert_allclose(y.numpy(), np.einsum(equation, *arrays), rtol=1e-12, atol=1e-12)
    assert gradcheck(
        lambda *xs: minidl.einsum(equation, *xs), [minidl.tensor(a, requires_grad=True) for a in arrays]
    )


def test_einsum_by_hand():
    a = minidl.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert minidl.einsum("ii", a).item() == 5
    assert minidl.einsum("ij,jk", a, a).tolist() == [[7, 10], [15, 22]]
    assert minidl.einsum("ij->j", a).tolist() == [4, 6]
    assert minidl.einsum("ba", a).tolist() == [[1, 3], [2, 4]]
    assert minidl.einsum("ij,jk", [a, a]).tolist() == [[7, 10], [15, 22]]


EINSUM_ERRORS = [
    ("ij,jk", [(2, 3)], ValueError, "names 2 operands, got 1"),
    ("ij", [(2, 3, 4)], ValueError, r"'ij' does not name the dims of operand 0, of shape \(2, 3, 4\)"),
    ("ijk", [(2, 3)], ValueError, r"does not name the dims of operand 0"),
    ("ij,jk->ik", [(2, 3), (4, 2)], ValueError, r"'j' has sizes 3 and 4 in .* shapes \(2, 3\), \(4, 2\)"),
    ("ii->i", [(2, 3)], ValueError, r"'i' has sizes 2 and 3"),
    ("ii->i", [(1, 3)], ValueError, r"'i' has two sizes in one operand of shape \(1, 3\)"),
    ("ij->ik", [(2, 3)], ValueError, "the result 'ik' of 'ij->ik' repeats a name or has one of no operand"),
    ("ij->ii", [(2, 3)], ValueError, "the result 'ii'"),
    ("i1", [(2, 3)], ValueError, "cannot read 'i1'"),
    ("...i...", [(2,)], ValueError, "cannot read"),
    ("", [], TypeError, "expected Tensors, got none"),
]


@pytest.mark.parametrize("equation, shapes, kind, message", EINSUM_ERRORS, ids=[r[3] for r in EINSUM_ERRORS])
def test_mistakes_in_einsum_are_named(equation, shapes, kind, message):
    with pytest.raises(kind, match=message):
        minidl.einsum(equation, *(minidl.ones(*s) for s in shapes))


def test_einsum_refuses_mixed_dtypes():
    with pytest.raises(TypeError, match="einsum: dtypes differ: float32, float64"):
        minidl.einsum("i,i", minidl.ones(2), minidl.ones(2, dtype=minidl.float64))
    with pytest.raises(TypeError, match="einsum: expected Tensors, got Tensor, ndarray"):
        minidl.einsum("i,i", minidl.ones(2), np.ones(2))


def test_a_merge_is_one_matrix_product():
    from minidl.ops.einsum import _Named

    a = _Named(minidl.ones(2, 3, 4), ("b", "i", "j"))
    b = _Named(minidl.ones(2, 4, 5), ("b", "j", "k"))
    y = merge(a, b, {"b", "i", "k"})
    assert y.labels == ("b", "i", "k") and y.tensor.shape == (2, 3, 5) and (y.tensor.numpy() == 4).all()


# ---- matrix products -----------------------------------------------------------------------------

PRODUCTS = [
    ("matmul", (2, 3), (3, 4)), ("matmul", (3,), (3,)), ("matmul", (2, 3), (3,)), ("matmul", (3,), (3, 4)),
    ("matmul", (5, 2, 3), (3, 4)), ("matmul", (2, 3), (5, 3, 4)), ("matmul", (5, 1, 2, 3), (2, 3, 4)),
    ("matmul", (3,), (2, 3, 4)), ("matmul", (2, 2, 3), (3,)), ("matmul", (2, 0), (0, 3)),
    ("matmul", (0, 2, 3), (3, 4)), ("mm", (2, 3), (3, 4)), ("bmm", (2, 3, 4), (2, 4, 2)),
    ("mv", (2, 3), (3,)),    ("dot", (4,), (4,)), ("outer", (2,), (3,)), ("tensordot", (2, 3, 4), (3, 4, 2)),
]  # fmt: skip


@pytest.mark.parametrize("name, a, b", PRODUCTS, ids=str)
def test_products_are_pytorchs_to_the_second_gradient(name, a, b):
    same(lambda m, x, y: getattr(m, name)(x, y), normal(*a), normal(*b, seed=1))


def test_sums_of_small_integers_are_int64_and_products_keep_their_dtype():
    x = minidl.tensor(np.full((2, 3), 100, np.uint8))
    rows, products = minidl.einsum("ij->i", x), minidl.einsum("ij,ij->ij", x, x)
    assert rows.tolist() == [300, 300] and rows.dtype == minidl.int64
    assert products.tolist() == [[16] * 3] * 2 and products.dtype == minidl.uint8
    assert minidl.einsum("ij,ij->ij", x > 1, x > 1).dtype == minidl.bool


def test_tensordot_over_a_dim_of_size_1():
    a, b = minidl.tensor([[[2.0]]]), minidl.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    assert minidl.tensordot(a, b, ([0, 1], [2, 1])).tolist() == [[6, 14]]
    same(lambda m, x, y: m.tensordot(x, y, ([2, 0], [0, 1])), normal(1, 2, 3), normal(1, 4, 2))


def test_tensordot_over_chosen_dims():
    same(lambda m, x, y: m.tensordot(x, y, ([1, 0], [0, -1])), normal(2, 3, 4), normal(3, 5, 2))
    same(lambda m, x, y: m.tensordot(x, y, dims=0), normal(2), normal(3))


PRODUCT_ERRORS = [
    (lambda: minidl.ones(2, 3) @ minidl.ones(2, 3), ValueError, r"inner sizes differ: \(2, 3\) @ \(2, 3\)"),
    (lambda: minidl.ones(2, 2, 3) @ minidl.ones(5, 3, 2), ValueError, "batch dims do not broadcast"),
    (lambda: minidl.ones(2, 3) @ minidl.tensor(2.0), ValueError, r"shapes \(2, 3\) and \(\)"),
    (lambda: minidl.ones(2) @ minidl.tensor([1, 2]), TypeError, "dtypes differ: float32 and int64"),
    (lambda: minidl.ones(2) @ 2, TypeError, "expected Tensors, got Tensor and int"),
    (lambda: minidl.eye(2).bool() @ minidl.eye(2).bool(), TypeError, "matmul: not defined for booleans"),
    (lambda: minidl.einsum("ij,jk", *[minidl.eye(2).bool()] * 2), TypeError, "einsum: products of booleans"),
    (lambda: minidl.tensordot(minidl.ones(2), 2), TypeError, "tensordot: expected a Tensor, got int"),
    (lambda: minidl.mm(minidl.ones(2, 2, 2), minidl.ones(2, 2)), ValueError, "mm: expected two matrices"),
    (lambda: minidl.bmm(minidl.ones(2, 3, 4), minidl.ones(1, 4, 2)), ValueError, r"bmm: .* \(2, 3, 4\)"),
    (lambda: minidl.mm(minidl.ones(2, 3), minidl.ones(2, 3)), ValueError, "mm: inner sizes differ"),
    (lambda: minidl.dot(minidl.ones(2), minidl.ones(3)), ValueError, r"dot: inner sizes differ: \(2,\) and"),
    (lambda: minidl.outer(minidl.ones(2, 2), minidl.ones(3)), ValueError, "outer: expected two vectors"),
    (lambda: minidl.tensordot(minidl.ones(2, 3), minidl.ones(2, 3), 1), ValueError, "tensordot: dims 1"),
]


@pytest.mark.parametrize("call, kind, message", PRODUCT_ERRORS, ids=[row[2] for row in PRODUCT_ERRORS])
def test_mistakes_in_products_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---- diagonals and triangles -----------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-4, -2, -1, 0, 1, 3, 5])
def test_diagonals_and_triangles_are_pytorchs(offset):
    x = normal(3, 4)
    same(lambda m, x: m.diag(x, offset), x)
    same(lambda m, x: m.tril(x, offset), x)
    same(lambda m, x: m.triu(x, offset), x)
    same(lambda m, x: x.diagonal(offset), normal(3, 3, 2))
    same(lambda m, x: m.diagonal(x, offset, -1, 0), normal(4, 2, 3))
    same(lambda m, v: m.diag(v, offset), normal(3))


def test_triangles_keep_the_dtype_and_hide_what_they_drop():
    assert minidl.ones(2, 2, dtype=minidl.bool).tril().tolist() == [[True, False], [True, True]]
    assert minidl.full((2, 2), 3).triu(1).tolist() == [[0, 3], [0, 0]]
    assert minidl.full((2, 2), np.inf).tril(-1).tolist() == [[0, 0], [np.inf, 0]]


def test_mistakes_in_diagonals_are_named():
    with pytest.raises(ValueError, match=r"diagonal: dims 0 and -2 of shape \(2, 3\) are the same"):
        minidl.ones(2, 3).diagonal(0, 0, -2)
    with pytest.raises(ValueError, match=r"diag: expected a vector or a matrix, got shape \(1, 1, 1\)"):
        minidl.diag(minidl.ones(1, 1, 1))
    with pytest.raises(ValueError, match=r"tril: expected at least 2 dims, got shape \(3,\)"):
        minidl.ones(3).tril()
