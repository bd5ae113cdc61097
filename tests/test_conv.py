"""Convolution and transposed convolution by PyTorch's names: random geometries, edge cases, messages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.nn import functional as F
from minidl.testing import gradcheck


@st.composite
def geometries(draw, transposed: bool):
    """Rank, arrays (input, weight, bias) and options of a (transposed) convolution that has an output."""
    rank = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    ins, outs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    options = dict(stride=stride, dilation=dilation, groups=groups)
    if transposed:
        padding = tuple(draw(st.integers(0, s // 2)) for s in span)
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
        size = tuple(draw(st.integers(1, 4)) + (2 * p >= s) for p, s in zip(padding, span))
        options |= dict(padding=padding, output_padding=extra)
        channels = (ins, outs // groups)
    else:
        padding = draw(st.sampled_from(["valid", "same", "int", "tuple"]))
        if padding == "same":
            options["stride"] = 1
        amount = each(0, 2) if padding == "tuple" else (1,) * rank if padding == "int" else (0,) * rank
        options["padding"] = 1 if padding == "int" else amount if padding == "tuple" else padding
        size = tuple(max(s - 2 * p, 1) + draw(st.integers(0, 4)) for s, p in zip(span, amount))
        channels = (outs, ins // groups)
    batch = draw(st.sampled_from([(), (1,), (2,), (0,)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.standard_normal((*batch, ins, *size))
    if draw(st.booleans()):
        x = np.asfortranarray(x)
    w = rng.standard_normal((*channels, *kernel))
    arrays = [x, w] + ([rng.standard_normal(outs)] if draw(st.booleans()) else [])
    return rank, arrays, options


def _compare(name: str, case) -> None:
    from oracle import assert_matches_torch, torch

    rank, arrays, options = case
    ours, theirs = getattr(F, f"{name}{rank}d"), getattr(torch.nn.functional, f"{name}{rank}d")
    assert_matches_torch(
        lambda *t: ours(*t, **options),
        lambda *t: theirs(*t, **options),
        *arrays,
        order=2 if all(a.size for a in arrays) else 1,
    )


@pytest.mark.filterwarnings("ignore:Using padding='same'")
class TestAgainstPyTorch:
    @examples(60)
    @given(geometries(transposed=False))
    def test_conv(self, case):
        _compare("conv", case)

    @examples(60)
    @given(geometries(transposed=True))
    def test_conv_transpose(self, case):
        _compare("conv_transpose", case)


# ---- numbers that can be checked by hand ------------------------------------------------------------


def signal(values) -> minidl.Tensor:
    return minidl.tensor(np.array(values, np.float32)).reshape(1, 1, -1)


def test_the_lectures_numbers():
    kernel = signal([-1, 2, 1])
    x = signal([1, 3, 2, 1, 0, 0, 1])
    assert F.conv1d(x, kernel, padding=1).flatten().tolist() == [5, 7, 2, 0, -1, 1, 2]
    y = F.conv1d(x, kernel, padding=1, stride=2)
    assert y.flatten().tolist() == [5, 2, -1, 2]
    assert F.conv_transpose1d(y, kernel, padding=1, stride=2).flatten().tolist() == [10, 3, 4, 3, -2, -3, 4]


def test_up_convolution_is_zero_insertion_and_the_flipped_kernel():
    with_zeros, flipped = signal([5, 0, 2, 0, -1, 0, 2]), signal([1, 2, -1])
    assert F.conv1d(with_zeros, flipped, padding=1).flatten().tolist() == [10, 3, 4, 3, -2, -3, 4]


def test_the_transposed_convolution_is_the_transposed_matrix():
    kernel, eye = signal([-1, 2, 1]), minidl.eye(7).reshape(7, 1, 7)
    matrix = F.conv1d(eye, kernel, padding=1, stride=2).reshape(7, 4).numpy().T
    y = np.array([5, 2, -1, 2], np.float32)
    np.testing.assert_array_equal(
        F.conv_transpose1d(signal(y), kernel, padding=1, stride=2).flatten().numpy(), matrix.T @ y
    )


def test_layers_pad_with_what_is_there():
    x = minidl.tensor([[[1.0, 2.0, 3.0]]])
    for mode, expected in [("reflect", [5, 6, 7]), ("replicate", [4, 6, 8]), ("circular", [6, 6, 6])]:
        layer = nn.Conv1d(1, 1, 3, padding="same", bias=False, padding_mode=mode)
        layer.weight.array[...] = 1
        assert layer(x).tolist() == [[expected]]
        assert repr(layer).endswith(f"padding=same, bias=False, padding_mode={mode})")
    with pytest.raises(ValueError, match="ConvTranspose1d: padding_mode must be one of zeros; got 'reflect'"):
        nn.ConvTranspose1d(1, 1, 3, padding_mode="reflect")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padded_layers_are_pytorchs(rank):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 7, 6, 8)[: rank + 1])
    for mode, padding in itertools.product(("reflect", "replicate", "circular"), (2, "same", "valid")):
        options = dict(kernel_size=4, padding=padding, padding_mode=mode)
        theirs = getattr(torch.nn, f"Conv{rank}d")(2, 3, **options, dtype=torch.float64)
        ours = getattr(nn, f"Conv{rank}d")(2, 3, **options).double()
        ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        expected = theirs(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(ours(minidl.tensor(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_modules_reach_every_size_of_output(rank):
    """Sizes 2n - 1 and 2n shrink to n under stride 2: output_size says which one comes back."""
    up = getattr(nn, f"ConvTranspose{rank}d")(2, 3, 3, stride=2, padding=1)
    x = minidl.randn(1, 2, *(4,) * rank)
    for n in (7, 8):
        assert up(x, output_size=(n,) * rank).shape == (1, 3, *(n,) * rank)
    with pytest.raises(ValueError, match=r"output_size .*between .*7.* and .*8"):
        up(x, output_size=(9,) * rank)


def test_a_frozen_weight_still_passes_the_gradient_on():
    """The defect of a peer: with padding the input's gradient had the size without it."""
    w = minidl.randn(2, 3, 3, 3, dtype=minidl.float64)
    x = minidl.randn(1, 2, 5, 5, dtype=minidl.float64, requires_grad=True)
    assert gradcheck(lambda x: F.conv_transpose2d(x, w, stride=2, padding=1), [x])
    F.conv_transpose2d(x, w, stride=2, padding=1).sum().backward()
    assert x.grad.shape == (1, 2, 5, 5) and w.grad is None


def test_float16_sums_in_float32():
    """4096 ones of 0.25 each: a float16 sum would stop growing at 512."""
    x, w = (
        minidl.ones(1, 4096, 2, dtype=minidl.float16),
        minidl.full((1, 4096, 1), 0.25, dtype=minidl.float16),
    )
    y = F.conv1d(x, w)
    assert y.dtype == minidl.float16 and y.tolist() == [[[1024.0, 1024.0]]]


# ---- messages ---------------------------------------------------------------------------------------

X, W = minidl.zeros(8, 3, 32, 32), minidl.zeros(16, 4, 3, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.conv2d(X, W, groups=2), ValueError,
         ["conv2d", "3 channels", "groups * 4 = 8", "(8, 3, 32, 32)", "(16, 4, 3, 3)"]),
        (lambda: F.conv2d(X, W[:, :3].double()), TypeError, ["conv2d", "float32", "float64"]),
        (lambda: F.conv2d(X.bool(), W[:, :3].bool()), TypeError, ["conv2d", "booleans"]),
        (lambda: F.conv2d(X, W[:, :3, 0]), ValueError, ["conv2d", "weight", "(16, 3, 3)"]),
        (lambda: F.conv2d(X[0, 0], W), ValueError, ["conv2d", "(32, 32)", "(N, C, H, W)"]),
        (lambda: F.conv3d(X, minidl.zeros(1, 8, 1, 1, 1), stride=0), ValueError, ["conv3d", "stride", "0"]),
        (lambda: F.conv2d(X, W[:, :3], padding=-1), ValueError, ["conv2d", "padding", "-1"]),
        (lambda: F.conv2d(X, W[:, :3], padding="full"), ValueError, ["conv2d", "'same'", "'full'"]),
        (lambda: F.conv2d(X, W[:, :3], padding="same", stride=2), ValueError, ["same", "stride"]),
        (lambda: F.conv2d(X, W[:, :3], stride=(1, 2, 3)), ValueError, ["conv2d", "stride", "(1, 2, 3)"]),
        (lambda: F.conv2d(X, W[:, :3], dilation=0), ValueError, ["conv2d", "dilation", "0"]),
        (lambda: F.conv2d(X, W[:, :3], groups=0), ValueError, ["conv2d", "groups", "0"]),
        (lambda: F.conv2d(X, minidl.zeros(16, 1, 3, 3), groups=3), ValueError, ["16", "3 groups"]),
        (lambda: F.conv2d(X, minidl.zeros(1, 3, 40, 3)), ValueError, ["kernel (40, 3)", "(32, 32)"]),
        (lambda: F.conv2d(X, W[:, :3], minidl.zeros(3)), ValueError, ["conv2d", "bias", "(16,)", "(3,)"]),
        (lambda: F.conv2d(np.zeros((1, 3, 4, 4)), W), TypeError, ["conv2d", "input", "ndarray"]),
        (lambda: F.conv_transpose2d(X, W), ValueError, ["conv_transpose2d", "3 channels", "16"]),
        (lambda: F.conv_transpose2d(X, W[:3], output_padding=1), ValueError,
         ["output_padding (1, 1)", "stride (1, 1)"]),
        (lambda: F.conv_transpose2d(X[..., :1, :1], W[:3], padding=2), ValueError,
         ["conv_transpose2d", "padding (2, 2)"]),
        (lambda: nn.Conv2d(3, 5, 3, groups=2), ValueError, ["Conv2d", "3 input", "5 output", "2 groups"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_numbers(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
