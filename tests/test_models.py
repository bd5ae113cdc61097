"""The networks: sizes, parameters, odd inputs, gradients everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl.models import (
    NETWORKS,
    EncoderDecoder,
    PlannedUNet,
    SegNet,
    UNet,
    UNet3d2016,
    build,
    unet2015,
)
from minidl.testing import gradcheck


def count(model, without: str = "-") -> int:
    return sum(p.numel() for name, p in model.named_parameters() if without not in name)


def test_the_unet_of_2015_has_its_parameters_and_sizes():
    assert count(unet2015(1, 2)) == 31_030_658
    assert count(unet2015(1, 1)) == 31_030_593
    assert count(unet2015(3, 21)) == 31_033_045
    with minidl.no_grad():
        assert unet2015(base=1)(minidl.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_the_3d_unet_of_2016_has_its_parameters_and_sizes():
    assert count(UNet3d2016(3, 3), without="norm") == 19_069_955
    with minidl.no_grad():
        assert UNet3d2016(base=1).eval()(minidl.zeros(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)


@pytest.mark.parametrize(
    ("features", "dims", "parameters"),
    [
        ((32, 64, 128, 256, 512), 2, 7_765_475),
        ((16, 32, 64, 128), 3, 1_402_003),
        ((8, 16, 32, 64), 3, 351_179),
    ],
)
def test_the_planned_kind_has_its_parameters(features, dims, parameters):
    assert count(UNet(1, 3, features, dims=dims)) == parameters


@pytest.mark.parametrize(
    "options", [{}, {"down": "max"}, {"up": "interpolate"}, {"norm": "batch"}, {"norm": None}]
)
@pytest.mark.parametrize("size", [(37,), (8,), (33, 50), (9, 6), (17, 9, 12), (5, 7, 11)])
def test_any_size_comes_back_as_it_was(size, options):
    model = UNet(2, 3, (4, 8, 8), dims=len(size), **options)
    y = model(minidl.randn(2, 2, *size))
    assert y.shape == (2, 3, *size)
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_valid_padding_takes_odd_sizes_too():
    model = UNet(1, 2, (2, 2, 2), padding="valid", norm=None, down="max")
    for n in range(44, 52):
        assert min(model(minidl.zeros(1, 1, n, n + 1)).shape) > 0
    with pytest.raises(ValueError, match="larger than the input"):
        model(minidl.zeros(1, 1, 12, 12))


def test_the_whole_net_passes_a_gradient_check():
    minidl.manual_seed(0)
    model = UNet(1, 2, (2, 2), dims=2).double()
    x = minidl.randn(2, 1, 5, 6, dtype=minidl.float64, requires_grad=True)
    names = [name for name, _ in model.named_parameters()]

    def run(x, *weights):
        for name, weight in zip(names, weights):
            *path, last = name.split(".")
            module = model
            for part in path:
                module = getattr(module, part)
            module._parameters[last] = weight
        return model(x)

    assert gradcheck(run, [x, *model.parameters()])


@pytest.mark.parametrize(
    "options",
    [{"norm": "layer"}, {"activation": "gelu"}, {"padding": "full"}, {"down": "x"}, {"up": "x"}, {"dims": 4}],
)
def test_unknown_options_are_named(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        UNet(1, 2, (2, 2), **options)


def test_the_skip_carries_the_edges():
    """Without the bottleneck's path the output still depends on every input pixel: the skip is there."""
    minidl.manual_seed(0)
    model = UNet(1, 1, (4, 4), norm=None)
    for parameter in model.upsamplers.parameters():
        minidl.nn.init.zeros_(parameter)
    x = minidl.randn(1, 1, 8, 8, requires_grad=True)
    model(x).sum().backward()
    assert bool((x.grad != 0).array.all())


# ---- the other networks --------------------------------------------------------------------------


def test_segnet_has_its_parameters():
    model = SegNet(3, 11)
    assert count(model, without="norm") == 29_433_483
    assert count(model) == 29_449_355
    assert count(model.encoder, without="norm") == 14_714_688


def test_the_planned_nets_have_their_parameters():
    assert count(build("planned_unet3d", 1, 3)) == 31_196_399
    assert count(build("planned_unet2d", 1, 3)) == 33_473_330


STAGES = ((3, 2), (4, 2), (5, 3), (6, 3), (7, 3))  # SegNet's, with few channels


def anisotropic(**options) -> PlannedUNet:
    """Of the kind that is planned for slices: the first axis is neither mixed nor halved at first."""
    kernels = [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    return PlannedUNet(2, 3, (4, 6, 6), kernels, [(1, 1, 1), (1, 2, 2), (2, 2, 1)], **options)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (lambda: SegNet(2, 3, STAGES), (45, 60)),
        (lambda: SegNet(2, 3, STAGES), (1, 33)),
        (lambda: SegNet(2, 3, STAGES[:3], dims=3), (9, 5, 8)),
        (lambda: SegNet(2, 3, STAGES[:2], dims=1), (13,)),
        (lambda: EncoderDecoder(2, 3, (4, 6, 8)), (37, 10)),
        (lambda: EncoderDecoder(2, 3, (4, 6), dims=3), (5, 9, 6)),
        (anisotropic, (5, 13, 10)),
        (anisotropic, (1, 8, 6)),
    ],
)
def test_all_networks_take_any_size(model, size):
    model = model().eval()
    x = minidl.randn(2, 2, *size)
    y = model(x)
    assert y.shape == (2, 3, *size)
    y.square().sum().backward()
    unused = {f"heads.{k}." for k in range(8)}  # coarse heads speak in training alone
    assert all(p.grad is not None or name[:8] in unused for name, p in model.named_parameters())


def test_segnet_pools_camvid_as_its_authors_did():
    """360x480 pixels: 45 rows become 23, and unpooling knows that they were 45."""
    model, sizes = SegNet(3, 11, ((1, 1),) * 5).eval(), []
    pool, unpool = model.pool.forward, model.unpool.forward
    model.pool.forward = lambda x: (sizes.append(x.shape[2:]), pool(x))[1]
    model.unpool.forward = lambda x, indices, size: (sizes.append(tuple(size)), unpool(x, indices, size))[1]
    with minidl.no_grad():
        assert model(minidl.randn(1, 3, 360, 480)).shape == (1, 11, 360, 480)
    down = [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
    assert sizes == down + down[::-1]


def test_segnet_puts_values_back_where_they_were():
    """With one identity convolution a stage, what comes out is the maxima alone, each at its place."""
    model = SegNet(1, 1, ((1, 1),)).eval()
    for convolution in (model.encoder[0][0].conv, model.decoder[0][0]):
        minidl.nn.init.zeros_(convolution.weight)
        convolution.weight.array[..., 1, 1] = 1
        minidl.nn.init.zeros_(convolution.bias)
    x = minidl.tensor([[[[4.0, 1, 0, 2], [3, 2, 7, 1], [5, 5, 1, 9]]]])
    expected = [[4, 0, 0, 0], [0, 0, 7, 0], [5, 0, 0, 9]]  # the first of two equal maxima
    assert np.allclose(model(x).array[0, 0], expected, rtol=1e-4)


def test_the_planned_net_supervises_every_stage():
    model = anisotropic()
    x = minidl.randn(1, 2, 4, 8, 6)
    outputs = model(x)
    assert [y.shape for y in outputs] == [(1, 3, 4, 8, 6), (1, 3, 4, 4, 3)]
    assert np.array_equal(model.eval()(x).array, outputs[0].array)  # no statistics of the batch
    labels = minidl.zeros(1, 4, 8, 6, dtype=minidl.int64)
    loss = minidl.nn.functional.deep_supervision_loss(
        outputs, labels, minidl.nn.functional.cross_entropy, weights=[0.5, 0.5]
    )
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    plain = anisotropic(deep_supervision=False)
    assert plain(x).shape == (1, 3, 4, 8, 6)
    assert len(list(plain.heads)) == 1


def test_the_first_axis_is_not_mixed_where_kernels_are_flat():
    kernels, strides = [(1, 3, 3), (1, 3, 3)], [(1, 1, 1), (1, 2, 2)]
    minidl.manual_seed(0)
    model = PlannedUNet(1, 1, (2, 2), kernels, strides).eval()
    for module in model.modules():  # instance norms see all slices: take them out
        if hasattr(module, "norm"):
            module.norm = None
    x = minidl.randn(1, 1, 3, 8, 8, requires_grad=True)
    model(x)[:, :, 1].sum().backward()
    seen = (x.grad.array != 0).any((0, 1, 3, 4))
    assert seen.tolist() == [False, True, False]


def test_the_skips_are_all_that_a_unet_adds():
    """With the same features an encoder-decoder lacks nothing but the weights that read the skips."""
    features = (4, 8, 16)
    skips = sum(width * width * 9 for width in features[:-1])
    assert count(UNet(1, 2, features)) - count(EncoderDecoder(1, 2, features)) == skips


@pytest.mark.parametrize("name", ["encoder_decoder2d", "encoder_decoder3d", "unet2d", "unet3d"])
def test_networks_are_built_by_name(name):
    model = build(name, in_channels=2, out_channels=3, features=(2, 4))
    assert model(minidl.randn(1, 2, *(6,) * int(name[-2]))).shape[:2] == (1, 3)


def test_mistakes_in_building_are_named():
    with pytest.raises(ValueError, match=r"no network 'unet4d'; there are encoder_decoder2d, .*segnet"):
        build("unet4d")
    with pytest.raises(TypeError, match="width"):
        build("unet2d", width=3)
    with pytest.raises(ValueError, match="2 or more stages, got 2, 1 and 2"):
        PlannedUNet(1, 2, (2, 2), [(3, 3)], [(1, 1), (2, 2)])
    with pytest.raises(ValueError, match="stage 0 the stride 1"):
        PlannedUNet(1, 2, (2, 2), [(3, 3)] * 2, [(2, 2), (2, 2)])
    with pytest.raises(ValueError, match="must have 2 axes"):
        PlannedUNet(1, 2, (2, 2), [(3, 3)] * 2, [(1, 1), (2, 2, 2)])
    assert set(NETWORKS) >= {"segnet", "unet2015", "unet3d2016", "planned_unet2d", "planned_unet3d"}
