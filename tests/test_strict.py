"""The stand-in for CuPy: what it refuses and counts."""

from __future__ import annotations

import numpy as np
import pytest
from strict.second_run import second_run
from strict.stand_in import install, no_synchronisation, synchronisations, xp

import minidl
from minidl.autograd import Op, op

host = np.ones(3, np.float32)


@pytest.fixture
def a():
    return xp.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))


def read(array):
    return array._array.tolist()


def test_what_cupy_allows(a):
    assert read(a + 1) == [[1, 2, 3], [4, 5, 6]] and read(np.exp(a * 0)) == [[1] * 3] * 2
    assert a.sum().shape == () and type(a.sum()) is type(a)
    assert xp.einsum("ij,kj->ik", a, a).shape == (2, 2) and np.concatenate([a, a]).shape == (4, 3)
    assert read(a[[0, 5]]) == read(a[[0, 1]])  # wraps round
    assert read(a[..., [0, 5]]) == [[0, 2], [3, 5]]
    assert xp.lib.stride_tricks.sliding_window_view(a, 2, axis=1).shape == (2, 2, 2)
    xp.add.at(a, [0, 0], xp.ones(3, dtype=np.float32))
    assert read(a[0]) == [2, 3, 4]
    b = a
    b @= xp.ones((3, 3), dtype=np.float32)
    assert b is not a and read(a[0]) == [2, 3, 4]


@pytest.mark.parametrize("refused", [
    lambda a: a + host, lambda a: host + a, lambda a: np.asarray(a), lambda a: xp.matmul(a, host),
    lambda a: xp.vecdot(a, a), lambda a: xp.insert(a, 0, 1), lambda a: xp.maximum([1, 2, 3], a),
    lambda a: np.maximum.reduce(a), lambda a: range(a.sum()), lambda a: xp.linalg.multi_dot, lambda a: {a: 1},
    lambda a: np.zeros((2, 3)) + a, lambda a: a.__setitem__(0, host), lambda a: xp.errstate,
    lambda a: xp.clip(a, min=0), lambda a: xp.var(a, correction=1), lambda a: a.max(initial=0),
    lambda a: a.sum(where=a > 0), lambda a: xp.sort(a, stable=True), lambda a: xp.asarray(["x"]) + a,
    lambda a: a.setflags, lambda a: a.__array_interface__, lambda a: xp.take(a, [0], mode="clip"),
])  # fmt: skip
def test_what_cupy_refuses(a, refused):
    with pytest.raises((TypeError, AttributeError, NotImplementedError, ValueError)):
        refused(a)


@pytest.mark.parametrize("waits", [
    float, bool, str, lambda a: a.get(), lambda a: a.item(), lambda a: a.tolist(), lambda a: f"{a:.2f}",
    lambda a: a < 1 or None, int,
])  # fmt: skip
def test_copies_to_the_host_are_counted(a, waits):
    before = synchronisations[0]
    with no_synchronisation():
        total = a.sum()
    waits(total)
    assert synchronisations[0] > before
    with pytest.raises(AssertionError, match="waited for the device"), no_synchronisation():
        waits(total)


@pytest.mark.parametrize("counts", [
    lambda a: a[a > 1], lambda a: xp.flatnonzero(a), lambda a: xp.nonzero(a), lambda a: a.nonzero(),
    lambda a: xp.unique(a),
], ids=["mask", "flatnonzero", "function", "method", "unique"])  # fmt: skip
def test_what_the_device_counts_is_waited_for(a, counts):
    with pytest.raises(AssertionError, match="waited for the device"), no_synchronisation():
        counts(a)


def test_any_of_several_values_for_one_place_may_win():
    winners = set()
    for _ in range(20):
        a = xp.zeros(2)
        a[xp.asarray([0, 0])] = xp.asarray([1.0, 2.0])
        winners.add(read(a)[0])
    assert winners == {1.0, 2.0}


def test_new_arrays_lie_in_either_order(a):
    b = xp.asarray(np.ones((3, 4)))
    assert {(b + i).flags.c_contiguous for i in range(20)} == {True, False}


# ---- the second run --------------------------------------------------------------------------------


def test_the_second_run_finds_what_only_numpy_can(monkeypatch):
    registry = dict(Op.registry)
    try:

        @op(law="linear")
        def host_array(xp, x):
            return np.ones(2) * x

        @op(law="linear")
        def missing_name(xp, x):
            return xp.insert(x, 0, 1)

        @op(law="linear")
        def missing_keyword(xp, x):
            return xp.clip(x, min=0)

        @op(law="linear")
        def another_number(xp, x):
            return x + (xp is not np)

        @op(law="linear")
        def another_dtype(xp, x):
            return x.astype(np.float64) if xp is not np else x

        wrongs = {
            host_array: TypeError, missing_name: AttributeError, missing_keyword: TypeError,
            another_number: AssertionError, another_dtype: AssertionError,
        }  # fmt: skip
        for wrong, error in wrongs.items():
            with pytest.raises(error), second_run(install(monkeypatch), lambda array: array._array):
                wrong(minidl.tensor([1.0, 2.0]))
    finally:
        Op.registry.clear()
        Op.registry.update(registry)
