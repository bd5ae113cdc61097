"""The CPU convolution trio against a tap loop that could not be simpler, in float64, over many geometries."""

import threading
import tracemalloc
from itertools import product

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from minidl.kernels import threads
from minidl.kernels.numpy_conv import conv, conv_input, conv_weight
from minidl.kernels.numpy_conv_plan import WORKSPACE

rng = np.random.default_rng(0)


def tap_loop(x, w, y, stride, padding, dilation, groups):
    """The three derivatives of T(x, w, y), summed tap by tap over the padded input."""
    x, w, y = (a.astype(np.float64) for a in (x, w, y))
    rank = w.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    out = np.zeros_like(y), np.zeros_like(padded), np.zeros_like(w)
    c, o = w.shape[1], len(w) // groups
    for g, k in product(range(groups), np.ndindex(*w.shape[2:])):
        C, O = slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)
        meet = tuple(
            slice(d * i, d * i + s * (q - 1) + 1, s) for i, d, s, q in zip(k, dilation, stride, y.shape[2:])
        )
        wk, yo = w[(O, slice(None), *k)], y[:, O]
        out[0][:, O] += np.einsum("oc,nc...->no...", wk, padded[(slice(None), C, *meet)])
        out[1][(slice(None), C, *meet)] += np.einsum("oc,no...->nc...", wk, yo)
        xk = padded[(slice(None), C, *meet)]
        spatial = tuple(range(2, 2 + rank))
        out[2][(O, slice(None), *k)] = np.tensordot(yo, xk, ((0, *spatial), (0, *spatial)))
    inside = tuple(slice(p, p + n) for p, n in zip(padding, x.shape[2:]))
    return out[0], out[1][(..., *inside)], out[2]


def case(size, kernel, *, n=2, c=2, o=3, stride=1, padding=0, dilation=1, groups=1, dtype=np.float64):
    """Random x, w, y that fit together, and the geometry; c and o are channels of one group."""
    wide = lambda v: (v,) * len(size) if isinstance(v, int) else tuple(v)
    s, p, d = wide(stride), wide(padding), wide(dilation)
    out = [(i + 2 * b - e * (k - 1) - 1) // a + 1 for i, k, a, b, e in zip(size, kernel, s, p, d)]
    if any(i + 2 * b < e * (k - 1) + 1 for i, k, b, e in zip(size, kernel, p, d)):
        return None
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)
    arrays = draw(n, groups * c, *size), draw(groups * o, c, *kernel), draw(n, groups * o, *out)
    return arrays, dict(stride=s, padding=p, dilation=d, groups=groups)


def trio(x, w, y, geo):
    return (
        conv(x, w, **geo),
        conv_input(y, w, size=x.shape[2:], **geo),
        conv_weight(x, y, size=w.shape[2:], **geo),
    )


def check(arrays, geo, rtol=1e-10):
    x, w, y = arrays
    got, expected = trio(x, w, y, geo), tap_loop(x, w, y, **geo)
    for a, b, like in zip(got, expected, (y, x, w)):
        assert a.shape == like.shape and a.dtype == like.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (1 + np.abs(b).max(initial=0)))
    values = [np.vdot(a.astype(float), b.astype(float)) for a, b in zip(got, (y, x, w))]
    np.testing.assert_allclose(values, values[0], rtol=1e3 * rtol, atol=1e3 * rtol)


KERNELS = {1: [(9,), (3,)], 2: [(7, 6), (3, 2)], 3: [(5, 4, 6), (3, 2, 3)]}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_grid(rank, stride, padding, dilation, groups):
    size, kernel = KERNELS[rank]
    geometry = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    for c in (1, 3, 17):  # few channels gather more axes
        built = case(size, kernel, c=c, **geometry)
        if built is not None:
            check(*built)


EDGES = {
    "size-1 axes": case((1, 5, 1), (1, 3, 1), padding=(0, 1, 0)),
    "one pixel": case((1, 1), (1, 1)),
    "kernel = padded input": case((3, 4), (5, 6), padding=1),
    "kernel > input": case((2, 3), (5, 7), padding=(2, 3)),
    "padding > kernel": case((3, 4), (2, 3), padding=(5, 4)),
    "padding > kernel, stride": case((3, 4), (2, 3), padding=(5, 4), stride=(3, 2)),
    "stride remainder": case((10, 11), (3, 2), stride=4),
    "stride > kernel": case((10, 11), (2, 1), stride=(3, 5)),
    "kernel = stride": case((6, 8), (2, 2), stride=2, c=40),
    "kernel = stride, remainder": case((7, 9, 5), (2, 2, 2), stride=2),
    "kernel = stride, several blocks": case((64, 66), (2, 2), stride=2, n=2, c=12, o=70),
    "kernel = stride, groups": case((8, 9, 12), (2, 3, 4), stride=(2, 3, 4), n=3, c=2, o=5, groups=3),
    "kernel = stride, padding": case((8, 9), (2, 3), stride=(2, 3), padding=(1, 2)),
    "kernel < stride on one axis": case((12, 12), (2, 3), stride=(3, 3)),
    "dilation shares a factor with stride": case((17, 15), (3, 3), stride=(4, 2), dilation=(2, 4)),
    "1x1": case((6, 5), (1, 1), c=5, o=4),
    "1x1 stride 2": case((6, 5), (1, 1), stride=2),
    "1x1 padded": case((6, 5), (1, 1), padding=1),
    "one row of taps": case((6, 5), (3, 1), c=40),
    "one column of taps": case((6, 5), (1, 3), c=40, padding=(0, 1)),
    "depthwise": case((6, 5), (3, 3), c=1, o=1, groups=7, padding=1),
    "depthwise, several blocks": case((70, 66), (3, 3), n=1, c=1, o=1, groups=20, padding=1),
    "depthwise, several blocks, stride": case((71, 66), (3, 3), c=1, o=1, groups=40, padding=1, stride=2),
    "depthwise, 3-D, several blocks": case((5, 20, 21), (3, 3, 3), n=1, c=1, o=1, groups=24, padding=1),
    "groups, several blocks": case((50, 41), (3, 3), n=2, c=4, o=5, groups=12, padding=1),
    "groups, narrow image": case((100, 3), (3, 3), n=1, c=2, o=2, groups=9, padding=1),
    "depthwise, 2 out": case((6, 5, 4), (3, 3, 3), c=1, o=2, groups=3, padding=1, stride=2),
    "many blocks": case((130, 140), (3, 3), n=3, c=16, o=8, padding=1),
    "many blocks, stride": case((131, 140), (3, 3), n=2, c=16, o=8, padding=1, stride=2),
    "many blocks, 3-D": case((20, 19, 21), (3, 3, 3), n=1, c=16, o=9, padding=1),
    "long row": case((30000,), (5,), n=1, c=16, o=4, padding=2),
    "large weights": case((3, 4), (3, 3), c=130, o=70, padding=1),
    "large weights, groups": case((3, 4), (3, 3), c=128, o=5, groups=2, padding=1),
    "4-D": case((3, 4, 3, 5), (2, 3, 2, 3), c=12, padding=1),
    "empty batch": case((5, 6), (3, 3), n=0, padding=1),
    "no input channels": case((5, 6), (3, 3), c=0, padding=1),
    "no output channels": case((5, 6), (3, 3), o=0, padding=1),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name):
    check(*EDGES[name])


@examples(60)
@given(st.data())
def test_random_geometry(data):
    rank = data.draw(st.integers(1, 3))
    axis = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(rank))
    built = case(
        axis(1, 9), axis(1, 4), n=data.draw(st.integers(1, 3)), c=data.draw(st.sampled_from([1, 3, 12])),
        o=data.draw(st.integers(1, 4)), groups=data.draw(st.integers(1, 3)),
        stride=axis(1, 4), padding=axis(0, 4), dilation=axis(1, 3),
    )  # fmt: skip
    if built is not None:
        check(*built)


@pytest.mark.parametrize("dtype, rtol", [(np.float16, 2e-3), (np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("stride", [1, 2])
def test_dtypes(dtype, rtol, stride):
    check(*case((9, 8), (3, 3), c=12, o=5, padding=1, stride=stride, dtype=dtype), rtol=rtol)


def test_float16_is_summed_in_float32():
    x = np.ones((1, 1, 5000), np.float16)  # a float16 sum of ones stops at 2048
    w = np.ones((1, 1, 4001), np.float16)
    assert (conv(x, w, stride=(1,), padding=(0,), dilation=(1,), groups=1) == 4000).all()


@pytest.mark.parametrize("layout", ["transposed", "reversed", "every other", "read-only", "broadcast"])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
def test_memory_layouts(layout, kernel):
    arrays, geo = case((9, 8), kernel, c=12, padding=kernel[0] // 2)

    def change(a):
        if layout == "transposed":
            return np.ascontiguousarray(a.T).T
        if layout == "reversed":
            return np.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1]
        if layout == "every other":
            return np.repeat(a, 2, axis=-1)[..., ::2]
        if layout == "broadcast":
            return np.broadcast_to(a[:, :, :1], a.shape)
        a = a.copy()
        a.flags.writeable = False
        return a

    changed = [change(a) for a in arrays]
    before = [a.copy() for a in changed]
    check(changed, geo)
    for a, b in zip(changed, before):
        np.testing.assert_array_equal(a, b)


def test_results_are_fresh_and_writable():
    (x, w, y), geo = case((9, 8), (1, 1))
    for a in trio(x, w, y, geo):
        assert a.flags.writeable and a.flags.c_contiguous
        assert not any(np.shares_memory(a, b) for b in (x, w, y))


@pytest.fixture
def restore_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("name", [
    "many blocks", "many blocks, 3-D", "large weights", "kernel = stride, several blocks",
    "depthwise, several blocks", "depthwise, several blocks, stride", "groups, several blocks",
])  # fmt: skip
def test_threads(name, restore_threads):
    arrays, geo = EDGES[name]
    arrays = [a.astype(np.float32) for a in arrays]
    results = {}
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        results[n] = trio(*arrays, geo)
        for _ in range(3):
            for a, b in zip(results[n], trio(*arrays, geo)):
                np.testing.assert_array_equal(a, b)  # to the last bit
    for n in (2, 3):
        for a, b in zip(results[1], results[n]):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("groups", [1, 32])
def test_workspace_is_bounded(groups, restore_threads):
    """What is allocated beside the result: a block's workspace for each thread, however large the image."""
    arrays, geo = case((32, 32, 32), (3, 3, 3), n=2, c=32 // groups, o=32 // groups, groups=groups, padding=1)
    x, w, y = (a.astype(np.float32) for a in arrays)
    peaks = []

    def measure():
        for run in (
            lambda: conv(x, w, **geo),
            lambda: conv_input(y, w, size=x.shape[2:], **geo),
            lambda: conv_weight(x, y, size=w.shape[2:], **geo),
        ):
            threads.set_num_threads(2)  # a new helper, without a workspace
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            result = run()
            peaks.append(tracemalloc.get_traced_memory()[1] - before - result.nbytes)

    tracemalloc.start()
    caller = threading.Thread(target=measure)  # a new thread, without one either
    caller.start()
    caller.join()
    tracemalloc.stop()
    assert len(peaks) == 3 and max(peaks) < 2 * 1.5 * WORKSPACE + 4 * w.nbytes
    assert max(peaks) < x.nbytes  # im2col takes 27 times as much


def test_callers_in_two_threads():
    arrays, geo = EDGES["many blocks, stride"]
    expected = trio(*arrays, geo)
    wrong = []

    def work():
        for _ in range(5):
            got = trio(*arrays, geo)
            if not all(np.array_equal(a, b) for a, b in zip(got, expected)):
                wrong.append(1)

    callers = [threading.Thread(target=work) for _ in range(3)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert not wrong


def test_parallel(restore_threads):
    for n in (1, 2, 4):
        threads.set_num_threads(n)
        assert threads.parallel(lambda i: i * i, range(50)) == [i * i for i in range(50)]
        assert threads.parallel(str, []) == []
        inner = lambda i: sum(threads.parallel(lambda j: i * j, range(4)))
        nested = threads.parallel(inner, range(6))
        assert nested == [6 * i for i in range(6)]
        with pytest.raises(ZeroDivisionError):
            threads.parallel(lambda i: 1 // (i - 3), range(8))


def test_blas_setting_comes_back(restore_threads):
    from threadpoolctl import ThreadpoolController

    threads.set_num_threads(2)
    blas = ThreadpoolController().select(user_api="blas")
    with blas.limit(limits=2):
        before = [library["num_threads"] for library in blas.info()]
        inside = threads.parallel(lambda i: [m["num_threads"] for m in blas.info()], range(3))
        assert all(set(numbers) <= {1} for numbers in inside)
        assert [library["num_threads"] for library in blas.info()] == before


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, None])
def test_number_of_threads_is_checked(n):
    with pytest.raises(ValueError, match="positive integer"):
        threads.set_num_threads(n)
