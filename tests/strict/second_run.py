"""Every op that a test runs on NumPy runs a second time elsewhere, and must find the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from minidl.autograd import Op


@contextmanager
def second_run(xp: ModuleType, fetch: Callable[[Any], np.ndarray]) -> Iterator[None]:
    """Inside, ops on NumPy arrays also run on arrays of `xp`; AssertionError where the results differ.

    Vjps are written with ops, so gradients of every order are compared by the same means.
    """
    forwards = {op: op.forward for op in Op.registry.values() if op.name != "to_device"}  # which leaves `xp`
    try:
        for op, forward in forwards.items():
            op.forward = _twice(op.name, forward, xp, fetch)
        yield
    finally:
        for op, forward in forwards.items():
            op.forward = forward


def _twice(name: str, forward: Callable, xp: ModuleType, fetch: Callable) -> Callable:
    def run(module: ModuleType, *arrays: Any, **static: Any) -> Any:
        if module is not np:
            return forward(module, *arrays, **static)
        sent = [_sent(x, xp) for x in arrays], {k: _sent(v, xp) for k, v in static.items()}
        here = forward(np, *arrays, **static)
        there = forward(xp, *sent[0], **sent[1])
        assert type(there) is xp.ndarray or np.isscalar(there), f"{name}: a {type(there)} came back"
        _compare(name, np.asarray(here), fetch(there))
        return here

    return run


def _sent(x: Any, xp: ModuleType) -> Any:
    if isinstance(x, np.ndarray):
        return xp.asarray(x)
    if isinstance(x, tuple):
        return tuple(_sent(part, xp) for part in x)
    return [_sent(part, xp) for part in x] if isinstance(x, list) else x


def _compare(name: str, here: np.ndarray, there: np.ndarray) -> None:
    assert (here.shape, here.dtype) == (there.shape, there.dtype), (
        f"{name}: {here.dtype}{here.shape} here, {there.dtype}{there.shape} there"
    )
    if here.dtype.kind in "fc" and here.size:
        finite = abs(here[np.isfinite(here)])
        close = float(np.finfo(here.dtype).eps) * 64
        scale = float(finite.max()) if finite.size else 1.0
        np.testing.assert_allclose(there, here, rtol=close, atol=close * scale, err_msg=name)
    else:
        np.testing.assert_array_equal(there, here, err_msg=name)
