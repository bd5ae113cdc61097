"""Where the ops of a test run: on NumPy; once more on a stand-in for CuPy; on CuPy, on a CUDA machine."""

from __future__ import annotations

import signal

import pytest

# Their tests run on every array library, one after another: the tables of the laws, and the functions.
ON_ALL = {
    "test_pointwise", "test_linear", "test_bilinear", "test_fused", "test_elementary", "test_indexing",
    "test_shaping", "test_reductions", "test_einsum", "test_pool", "test_padding", "test_resize",
    "test_activation", "test_norm", "test_loss", "test_segmentation_loss",
}  # fmt: skip
LIBRARIES = [
    "numpy",
    pytest.param("strict", marks=pytest.mark.slow),
    pytest.param("cupy", marks=pytest.mark.gpu),
]


def pytest_configure() -> None:
    # Tests press Ctrl-C, also where the tests themselves run in the background of a script, which ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ in ON_ALL:
        metafunc.parametrize("xp", LIBRARIES, indirect=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        from minidl.backend import why_no_cuda

        if (reason := why_no_cuda()) is not None:
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def xp(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The array module on which ops run, beside NumPy where it is another."""
    library = getattr(request, "param", "numpy")
    if library == "numpy":
        import numpy

        yield numpy
        return
    from strict.second_run import second_run

    if library == "strict":
        from strict import stand_in

        with second_run(stand_in.install(monkeypatch), lambda array: array._array):
            yield stand_in.xp
        return
    from minidl import backend

    with second_run(backend.cupy(), backend.cupy().asnumpy):
        yield backend.cupy()
