"""Checkerboards: geometry, weights and images tell one story, and the remedies do what they promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minidl
from minidl import checkerboard as cb
from minidl import nn
from minidl.nn import functional as F

OVERLAPS = {
    (2, 2): [1, 1], (3, 2): [2, 1], (4, 2): [2, 2], (5, 2): [3, 2], (3, 3): [1, 1, 1], (4, 3): [2, 1, 1],
    (5, 3): [2, 2, 1], (6, 3): [2, 2, 2], (1, 3): [1, 0, 0], (3, 1): [3],
}  # fmt: skip


# ---- geometry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel, stride", OVERLAPS)
def test_overlap_counts_taps_per_phase(kernel, stride):
    assert cb.overlap(kernel, stride).tolist() == OVERLAPS[kernel, stride]


def test_overlap_multiplies_over_axes():
    assert cb.overlap(3, 2, rank=2).tolist() == [[4, 2], [2, 1]]
    assert cb.overlap((3, 4), (2, 3), rank=2).tolist() == [[4, 2, 2], [2, 1, 1]]
    assert cb.overlap(3, 2, rank=3).max() == 8 and cb.overlap(3, 2, rank=3).min() == 1


@pytest.mark.parametrize("rank", (1, 2, 3))
def test_overlap_is_what_ones_become_and_the_gradient_of_a_strided_convolution(rank):
    kernel, stride, size = (3, 5, 4)[:rank], (2, 3, 2)[:rank], (9, 11, 8)[:rank]
    weight = minidl.ones(1, 1, *kernel)
    up = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    y = up(minidl.ones(1, 1, *size), weight, stride=stride).numpy()[0, 0]
    inner = tuple(slice(2 * s, 3 * s) for s in stride)  # one whole period away from the border
    assert (y[inner] == cb.overlap(kernel, stride, rank)).all()

    down = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    x = minidl.rand(1, 1, *(4 * s + k for s, k in zip(stride, kernel)))
    gradient = cb.input_gradient(lambda x: down(x, weight, stride=stride), x).numpy()[0, 0]
    assert (gradient[inner] == cb.overlap(kernel, stride, rank)).all()
    assert not x.requires_grad and x.grad is None


# ---- weights -----------------------------------------------------------------------------------


def response(layer, channel, size, upscale=None):
    """One period of the layer's output to a constant 1 in one channel, in the interior, without bias."""
    x = np.zeros((2, layer.in_channels, *size))
    x[0, channel] = 1
    y = layer(minidl.tensor(x))
    y = F.pixel_shuffle(y, upscale) if upscale else y
    y = (y[0] - y[1]).detach().numpy()
    stride = layer.stride if upscale is None else (upscale,) * layer.rank
    return y[(slice(None), *(slice(3 * s, 4 * s) for s in stride))]


@pytest.mark.parametrize(
    "layer, size",
    [
        (nn.ConvTranspose1d(2, 3, 4, 3, padding=1), (9,)),
        (nn.ConvTranspose2d(2, 3, (3, 5), (2, 3), padding=(1, 2)), (9, 8)),
        (nn.ConvTranspose2d(1, 2, 3, 3, padding=2, dilation=2), (12, 13)),
        (nn.ConvTranspose2d(1, 1, 2, 3), (8, 8)),  # a kernel smaller than the stride leaves holes
        (nn.ConvTranspose3d(2, 1, (1, 3, 2), (1, 2, 2)), (7, 7, 7)),
    ],
    ids=repr,
)
def test_gain_of_a_transposed_convolution_is_its_response_to_a_constant(layer, size):
    layer.double()
    gain = cb.polyphase_gain(layer).reshape(layer.in_channels, layer.out_channels, *layer.stride)
    for c in range(layer.in_channels):
        np.testing.assert_allclose(gain[c], response(layer, c, size), atol=1e-12)


def test_gain_of_a_sub_pixel_convolution_is_its_response_to_a_constant():
    layer = nn.Conv2d(2, 3 * 9, (3, 5), padding=2).double()
    gain = cb.polyphase_gain(layer, upscale_factor=3).reshape(3, 2, 3, 3)
    for c in range(2):
        np.testing.assert_allclose(gain[:, c], response(layer, c, (9, 9), upscale=3), atol=1e-12)


def test_gain_knows_groups():
    layer = nn.ConvTranspose1d(4, 6, 3, 2, groups=2).double()
    gain = cb.polyphase_gain(layer).reshape(4, 3, 2)
    for c in range(4):
        mine = slice(3 * (c // 2), 3 * (c // 2) + 3)  # the outputs of the channel's own group
        np.testing.assert_allclose(gain[c], response(layer, c, (9,))[mine], atol=1e-12)


def test_gain_of_a_strided_convolution_is_that_of_its_gradient():
    layer = nn.Conv2d(1, 1, (3, 4), (2, 3), padding=(1, 2)).double()
    gradient = cb.input_gradient(layer, minidl.rand(1, 1, 20, 31, dtype=np.float64)).numpy()[0, 0]
    np.testing.assert_allclose(cb.polyphase_gain(layer)[0], gradient[6:8, 9:12], atol=1e-12)


def test_spread_of_one_pair_is_deviation_over_mean():
    layer = nn.ConvTranspose1d(1, 1, 2, 2)
    layer.weight.array[...] = [1, 3]
    assert cb.gain_spread(layer) == pytest.approx(1 / 2)
    layer.weight.array[...] = [-2, -2]
    assert cb.gain_spread(layer) == 0
    layer.weight.array[...] = [2, -2]
    assert cb.gain_spread(layer) == np.inf
    layer.weight.array[...] = 0
    assert cb.gain_spread(layer) == 0


def test_rounding_is_no_checkerboard():
    layer = nn.ConvTranspose2d(4, 4, 6, 2)
    layer.weight.array[...] = minidl.rand(4, 4, 1, 1).array  # equal taps, of which each phase adds nine
    assert cb.gain_spread(layer) == 0
    assert cb.phase_variance_ratio(layer(minidl.ones(1, 4, 12, 12)), 2, border=6) == 0


# ---- images ------------------------------------------------------------------------------------


def test_pure_patterns_and_pure_images():
    board = np.indices((12, 12)).sum(0) % 2.0
    assert cb.phase_variance_ratio(board[None, None], 2) == pytest.approx(1)
    assert cb.phase_variance_ratio(np.full((1, 1, 9, 9), 7.0), 2) == 0
    columns = np.repeat(board[:1] + 5, 12, axis=0)[None, None]
    assert cb.phase_variance_ratio(columns, (1, 2)) == pytest.approx(1)
    assert cb.phase_variance_ratio(columns, (2, 1)) == pytest.approx(0)
    noise = np.random.default_rng(0).standard_normal((1, 4, 96, 96))
    assert cb.phase_variance_ratio(noise, 2) < 0.01


@pytest.mark.parametrize("stride", (1, 2, 3, (2, 3)))
@pytest.mark.parametrize("shape", ((1, 2, 12, 18), (3, 1, 13, 19), (1, 1, 3, 3)))
def test_both_measures_agree(shape, stride):
    image = np.random.default_rng(0).standard_normal(shape) + 3
    assert cb.phase_variance_ratio(image, stride) == pytest.approx(cb.spectral_ratio(image, stride))
    assert cb.phase_variance_ratio(image[..., ::-1], stride, border=0) >= 0  # a view is an image too


def test_the_measure_looks_at_the_interior_alone():
    image = np.zeros((1, 1, 14, 14))
    image[..., :2, :] = image[..., -2:, :] = 9
    image[..., 2:12, 2:12] = np.indices((10, 10)).sum(0) % 2
    assert cb.phase_variance_ratio(image, 2) < 0.1
    assert cb.phase_variance_ratio(image, 2, border=2) == pytest.approx(1)


@pytest.mark.parametrize("rank", (1, 3))
def test_every_rank_is_measured(rank):
    minidl.manual_seed(0)
    up = cb.upsampler("transpose", 4, 4, dims=rank)
    y = up(cb.smooth_probe(4, 16, rank))
    assert y.shape == (1, 4, *(32,) * rank)
    assert cb.phase_variance_ratio(y, 2, border=4) > 0.1
    assert cb.spectral_ratio(y, 2, border=4) == pytest.approx(cb.phase_variance_ratio(y, 2, border=4))


REFERENCE = {2: 0.58, 3: 0.60, 4: 0.56, 5: 0.57}  # kernel -> ratio; random weights, 8 channels, stride 2


@pytest.mark.parametrize("kernel", REFERENCE)
def test_random_transposed_convolutions(kernel):
    minidl.manual_seed(0)
    ratios = []
    for seed in range(40):
        layer = nn.ConvTranspose2d(8, 8, kernel, 2, bias=False)
        nn.init.normal_(layer.weight)
        ratios.append(cb.phase_variance_ratio(layer(cb.smooth_probe(8, 32, seed=seed)), 2, border=4))
    assert np.mean(ratios) == pytest.approx(REFERENCE[kernel], abs=0.05)
    assert cb.phase_variance_ratio(layer(minidl.ones(1, 8, 16, 16)), 2, border=4) == pytest.approx(1)
    noise = minidl.randn(1, 8, 64, 64)
    assert cb.phase_variance_ratio(layer(noise), 2, border=4) < 0.01


# ---- remedies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, dims, factor", [*itertools.product(("transpose", "divisible", "interpolate"), (1, 2, 3), (2, 3))]
)
def test_upsamplers_multiply_the_size(kind, dims, factor):
    layer = cb.upsampler(kind, 2, 3, factor, dims)
    assert layer(minidl.rand(1, 2, *(5, 4, 3)[:dims])).shape == (
        1,
        3,
        *(n * factor for n in (5, 4, 3)[:dims]),
    )


@pytest.mark.parametrize("kind", ("subpixel", "icnr"))
def test_sub_pixel_upsamplers_multiply_the_size(kind):
    assert cb.upsampler(kind, 2, 3, 3)(minidl.rand(1, 2, 5, 4)).shape == (1, 3, 15, 12)


def measured(kind):
    minidl.manual_seed(0)
    layer = cb.upsampler(kind, 8, 8)
    probe, constant = cb.smooth_probe(8, 32), minidl.ones(1, 8, 16, 16)
    return (
        cb.phase_variance_ratio(layer(probe), 2, border=4),
        cb.phase_variance_ratio(layer(constant), 2, border=4),
    )


@pytest.mark.parametrize("kind", ("interpolate", "icnr"))
def test_these_remedies_leave_no_pattern(kind):
    smooth, constant = measured(kind)
    assert smooth < 0.005 and constant == 0


@pytest.mark.parametrize("kind", ("transpose", "divisible", "subpixel"))
def test_these_make_one_at_first(kind):
    smooth, constant = measured(kind)
    assert smooth > 0.3 and constant == pytest.approx(1)


def test_icnr_is_a_convolution_and_nearest_neighbour():
    layer = cb.upsampler("icnr", 2, 3, factor=2)
    conv = nn.Conv2d(2, 3, 3, padding=1)
    conv.weight.array[...], conv.bias.array[...] = layer[0].weight.array[::4], 0
    x = minidl.rand(1, 2, 6, 5)
    np.testing.assert_allclose(
        layer(x).detach().numpy(), F.interpolate(conv(x), scale_factor=2).detach().numpy(), atol=1e-6
    )
    assert cb.gain_spread(layer[0], upscale_factor=2) == 0


def test_training_undoes_a_checkerboard_and_can_make_one():
    """A smooth target takes the pattern out of a transposed convolution; a board puts one into ICNR."""
    probe = cb.smooth_probe(4, 16)
    smooth = F.interpolate(probe, scale_factor=2, mode="bilinear", align_corners=False).mean(1, keepdim=True)
    board = minidl.tensor((np.indices((32, 32)).sum(0) % 2)[None, None].astype(np.float32))

    def ratio_after(layer, target, steps):
        optimizer = minidl.optim.Adam(layer.parameters(), lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            F.mse_loss(layer(probe), target).backward()
            optimizer.step()
        return cb.phase_variance_ratio(layer(probe), 2, border=2)

    minidl.manual_seed(0)
    transposed = cb.upsampler("divisible", 4, 1)
    assert ratio_after(transposed, smooth, 0) > 0.2
    assert ratio_after(transposed, smooth, 150) < 0.02
    tied = cb.upsampler("icnr", 4, 1)
    assert ratio_after(tied, board, 0) < 1e-3
    assert ratio_after(tied, board, 50) > 0.5


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: cb.overlap(0, 2), ValueError, "overlap: kernel_size"),
        (lambda: cb.overlap((3, 3), 2, rank=3), ValueError, "expected one integer or 3"),
        (lambda: cb.polyphase_gain(nn.Linear(2, 2)), TypeError, "Linear"),
        (lambda: cb.polyphase_gain(nn.Conv2d(1, 1, 3, padding="same")), ValueError, "single phase"),
        (lambda: cb.polyphase_gain(nn.Conv2d(1, 6, 3), 2), ValueError, r"6 output channels .* 2\^2"),
        (lambda: cb.polyphase_gain(nn.ConvTranspose2d(1, 4, 3), 2), ValueError, "pixel_shuffle"),
        (lambda: cb.phase_variance_ratio(np.zeros((4, 4)), 2), ValueError, r"picture\[None, None\]"),
        (lambda: cb.phase_variance_ratio(np.zeros((1, 1, 4, 4), int), 2), ValueError, "int64"),
        (lambda: cb.phase_variance_ratio(np.zeros((1, 1, 5, 5)), 2, border=2), ValueError, "no period"),
        (lambda: cb.spectral_ratio(np.zeros((1, 1, 4, 4)), (2, 2, 2)), ValueError, "spectral_ratio: stride"),
        (lambda: cb.upsampler("bilinear", 1, 1), ValueError, "'interpolate'"),
        (lambda: cb.upsampler("transpose", 1, 1, factor=1), ValueError, "factor must be at least 2"),
        (lambda: cb.upsampler("subpixel", 1, 1, dims=3), ValueError, "2-D"),
        (lambda: nn.init.icnr_(minidl.zeros(6, 1, 3, 3), 2), ValueError, r"icnr_: weight \(6, 1, 3, 3\)"),
    ],
)
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
