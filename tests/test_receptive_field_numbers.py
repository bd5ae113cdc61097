"""Known receptive fields: of published networks, of U-Nets, and of the small nets of
google/receptive_field."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

import minidl
from minidl import models, nn
from minidl.receptive_field import (
    add,
    analyze,
    chain,
    conv,
    conv_transpose,
    crop,
    depth_for,
    dilations_for,
    pool,
    upsample,
)

C3 = conv(3, padding=1)


def numbers(field, axis=0):
    """(size, stride, padding) along one axis, after Araujo, Norris and Sim 2019."""
    return field.size[axis], field.stride[axis], field.padding[axis]


# ---- classification networks ---------------------------------------------------------------------


def vgg(*convolutions):
    return [layer for n in convolutions for layer in [C3] * n + [pool(2)]]


def mobilenet(padding):
    """TF-Slim's; "same" pads an even axis by 0 on the left of a strided convolution, an odd one by 1."""
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    layers = [conv(3, 2, padding)]
    for s in strides:
        layers += [conv(3, s, 1 if s == 1 else padding), conv(1)]
    return layers


def bottleneck(stride, on, project):
    """A residual unit 1x1, 3x3, 1x1 whose stride is on one of the first two."""
    main = [conv(1, stride if on == 0 else 1), conv(3, stride if on == 1 else 1, 1), conv(1)]
    return add([conv(1, stride)] if project or stride > 1 else [], main)


def resnet(units, pool_padding, last=False, on=1):
    """The stride of a block is in its first unit, or (TF-Slim) in the last unit of all blocks but one."""
    layers = [conv(7, 2, 3), pool(3, 2, pool_padding)]
    for block, n in enumerate(units):
        for unit in range(n):
            strided = unit == n - 1 and block < 3 if last else unit == 0 and block > 0
            layers.append(bottleneck(2 if strided else 1, on, unit == 0))
    return layers


ALEXNET = [conv(11, 4), pool(3, 2), conv(5, padding=2), pool(3, 2), C3, C3, C3, pool(3, 2)]
RESNETS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
SHIFTED = [crop(-1), conv(3, 2)]  # the tests of google/receptive_field: one sample of padding on the left
NET1 = [add([conv(1, 4)], [*SHIFTED, conv(1, 2)])]

PUBLISHED = {
    "alexnet_v2 pool5": (ALEXNET, (195, 32, 64)),
    "vgg_a pool5": (vgg(1, 1, 2, 2, 2), (150, 32, 59)),
    "vgg_16 pool1": (vgg(2), (6, 2, 2)),
    "vgg_16 pool2": (vgg(2, 2), (16, 4, 6)),
    "vgg_16 pool3": (vgg(2, 2, 3), (44, 8, 18)),
    "vgg_16 pool4": (vgg(2, 2, 3, 3), (100, 16, 42)),
    "vgg_16 conv5_2": ([*vgg(2, 2, 3, 3), C3, C3], (164, 16, 74)),
    "vgg_16 pool5": (vgg(2, 2, 3, 3, 3), (212, 32, 90)),
    "mobilenet_v1 at 224": (mobilenet(0), (315, 32, 126)),
    "mobilenet_v1 at 321": (mobilenet(1), (315, 32, 157)),
    "resnet_50 block1": (resnet((3,), 0, last=True), (35, 8, 15)),
    "resnet_50 block2": (resnet((3, 4), 0, last=True), (99, 16, 47)),
    "resnet_50 block3": (resnet((3, 4, 6), 0, last=True), (291, 32, 143)),
    "resnet_50 block4": (resnet(RESNETS[50], 0, last=True), (483, 32, 239)),
    "resnet_50 block4, pool padded": (resnet(RESNETS[50], 1, last=True), (483, 32, 241)),
    "resnet_101 block4": (resnet(RESNETS[101], 0, last=True), (1027, 32, 511)),
    "resnet_152 block4": (resnet(RESNETS[152], 0, last=True), (1507, 32, 751)),
    "resnet_200 block4": (resnet(RESNETS[200], 0, last=True), (1763, 32, 879)),
    "torchvision resnet50": (resnet(RESNETS[50], 1), (427, 32, 213)),
    "two 3-taps": ([conv(3), conv(3)], (5, 1, 0)),
    "dilations 1, 2, 4, 8": ([conv(3, dilation=d, padding=d) for d in (1, 2, 4, 8)], (31, 1, 15)),
    "net1": (NET1, (3, 4, 1)),
    "net8": ([*NET1, add([conv(1, 2)], SHIFTED)], (11, 8, 5)),
}


@pytest.mark.parametrize("layers, expected", PUBLISHED.values(), ids=PUBLISHED)
def test_published_numbers(layers, expected):
    assert numbers(chain(layers)) == expected


@pytest.mark.parametrize("depth, size", [(101, 971), (152, 1451)])
def test_deeper_resnets_of_torchvision(depth, size):
    assert chain(resnet(RESNETS[depth], 1)).size == (size,)


def test_the_original_resnet_has_its_stride_on_the_first_convolution():
    assert numbers(chain(resnet(RESNETS[50], 1, on=0))) == (427 + 56, 32, 241)


def test_axes_may_differ():
    field = chain([conv((3, 5), 2), conv((3, 1), 2)])
    assert (field.size, field.stride, field.padding) == ((7, 5), (4, 4), (0, 0))


def test_branches_of_different_strides_are_refused():
    with pytest.raises(ValueError, match=r"strides 2 and 1"):
        chain([add([crop(-2), conv(5, 2)], [conv(3), conv(3)])])


# ---- the same as graphs --------------------------------------------------------------------------


class Bottleneck(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 1, 1), nn.BatchNorm2d(1)
        self.conv2, self.bn2 = nn.Conv2d(1, 1, 3, stride, 1), nn.BatchNorm2d(1)
        self.conv3, self.bn3 = nn.Conv2d(1, out, 1), nn.BatchNorm2d(out)
        self.downsample = nn.Conv2d(channels, out, 1, stride) if stride > 1 or channels != out else None

    def forward(self, x):
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(nn.functional.relu(self.bn2(self.conv2(y)))))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet_module(units):
    layers, channels = [nn.Conv2d(1, 1, 7, 2, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 1
    for block, n in enumerate(units):
        for unit in range(n):
            layers.append(Bottleneck(channels, 2, 2 if unit == 0 and block > 0 else 1))
            channels = 2
    return nn.Sequential(*layers).eval()


def test_resnet_50_as_a_graph_whose_field_is_larger_than_the_image():
    field = analyze(resnet_module(RESNETS[50]), (1, 1, 64, 96))
    assert numbers(field, 0) == numbers(field, 1) == (427, 32, 213)
    assert any("larger than the input" in warning for warning in field.warnings)
    assert any("see nothing new" in warning for warning in field.warnings)
    assert field.interval((0, 0)) == ((0, 63), (0, 95))
    assert field.interval((0, 1), clipped=False) == ((-213, 213), (-181, 245))


def test_alexnet_and_vgg_as_graphs():
    alexnet = nn.Sequential(
        nn.Conv2d(1, 2, 11, 4), nn.MaxPool2d(3, 2), nn.Conv2d(2, 1, 5, padding=2), nn.MaxPool2d(3, 2),
        *[nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)], nn.MaxPool2d(3, 2),
    )  # fmt: skip
    assert numbers(analyze(alexnet, (1, 1, 224, 224))) == (195, 32, 64)
    vgg16 = [
        layer for n in (2, 2, 3, 3, 3) for layer in [nn.Conv2d(1, 1, 3, padding=1)] * n + [nn.MaxPool2d(2)]
    ]
    field = analyze(nn.Sequential(*vgg16), (1, 1, 224, 64))
    assert numbers(field) == (212, 32, 90)
    seen = {(row.field.size[0], row.field.stride[0], row.field.padding[0]) for row in field.per_layer()}
    assert {(6, 2, 2), (16, 4, 6), (44, 8, 18), (100, 16, 42), (164, 16, 74)} <= seen


# ---- U-Nets --------------------------------------------------------------------------------------


def unet(depth, up, strided=False):
    """The layers of a U-Net with same padding."""

    def level(i):
        down = [conv(3, 2, 1), C3] if strided and i else [C3, C3] if not i else [pool(2), C3, C3]
        return [*down, add([], [*level(i + 1), up]), C3, C3] if i < depth else down

    return level(0)


UP = conv_transpose(2, 2)


@pytest.mark.parametrize(
    "layers, least, most, period",
    [
        (unet(4, UP), 188, 204, 16),
        (unet(4, upsample(2)), 188, 204, 16),
        (unet(4, upsample(2, "linear")), 220, 236, 16),
        (unet(3, UP), 92, 100, 8),
        (unet(5, UP, strided=True), 287, 319, 32),
    ],
)
def test_unets_have_periodic_fields(layers, least, most, period):
    field = chain(layers)
    assert (min(field.sizes[0]), field.size, field.period) == (least, (most,), (period,))
    assert field.stride == field.size[:0] + (1,) and field.padding == (None,)


def test_the_unet_of_2015_in_full_size():
    """188 or 204 samples, period 16, centres up to 5.5 pixels off; quick, and in little memory."""
    model = models.build("unet2015", base=2)
    x = minidl.randn(1, 1, 572, 572)
    with minidl.no_grad():
        start = time.perf_counter()
        model(x)
        forward = time.perf_counter() - start
    tracemalloc.start()
    start = time.perf_counter()
    field = analyze(model, x)
    beyond = time.perf_counter() - start - forward
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert beyond < 3
    assert memory < 25e6, "what backward would need is kept"
    assert field.positions == (388, 388) and field.stride == (1, 1) and field.period == (16, 16)
    expected = [188, 188] + [204] * 12 + [188, 188]
    middle = [
        field.interval((190, u))[1] for u in range(176 + 2, 192 + 2)
    ]  # a period as the reference has it
    assert [b - a + 1 for a, b in middle] == expected
    centres = [(a + b) / 2 - u - 92 for u, (a, b) in zip(range(178, 194), middle)]
    assert centres == [-0.5, -1.5, 5.5, 4.5, 3.5, 2.5, 1.5, 0.5, -0.5, -1.5, -2.5, -3.5, -4.5, -5.5, 1.5, 0.5]
    bottleneck = next(row for row in field.per_layer() if row.name == "encoder.4.1.conv")
    assert bottleneck.field.size == (140, 140) and bottleneck.field.positions == (28, 28)
    assert not field.whole


def test_the_3d_unet_of_2016():
    field = analyze(models.build("unet3d2016", base=1).eval(), (1, 1, 92, 92, 92))
    assert {min(s) for s in field.sizes} == {92} and field.size == (100,) * 3 and field.period == (8,) * 3
    assert not field.whole


def test_a_strided_unet_of_six_stages():
    model = models.UNet(1, 2, [1, 1, 1, 1, 1, 2], dims=1)
    field = analyze(model, (1, 1, 96))
    assert (min(field.sizes[0]), field.size) == (287, (319,))
    bottleneck = next(row for row in field.per_layer() if row.name == "encoder.5.1.conv")
    assert bottleneck.field.size == (191,) and bottleneck.field.stride == (32,)
    assert "encoder.0.0.norm" in field.whole and all(
        row.field.sees_whole_axes for row in field.per_layer()[1:]
    )


# ---- backwards -----------------------------------------------------------------------------------


def test_what_reaches_a_wanted_field():
    assert depth_for(31, [conv(3)]) == 15 and chain([conv(3)] * 15).size == (31,)
    assert depth_for(1, [conv(3)]) == 0
    n = depth_for(100, [C3, pool(2)])
    assert chain([C3, pool(2)] * n).size[0] >= 100 > chain([C3, pool(2)] * (n - 1)).size[0]
    assert dilations_for(31) == (1, 2, 4, 8)
    assert chain([conv(3, dilation=d) for d in dilations_for(100)]).size[0] >= 100
    with pytest.raises(ValueError, match="never reach 3 samples: they stay at 1"):
        depth_for(3, [conv(1)])


def test_per_layer_rows_of_a_chain():
    rows = chain([conv(3), pool(2), conv(3, dilation=2), conv_transpose(2, stride=2)]).per_layer()
    assert [(row.kind, row.field.size) for row in rows] == [
        ("conv(3)", (3,)),
        ("pool(2)", (4,)),
        ("conv(3, dilation=2)", (12,)),
        ("conv_transpose(2, stride=2)", (12,)),
    ]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upsampling_of_a_chain_is_that_of_interpolate(mode, scale):
    name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    model = lambda x: nn.functional.interpolate(x, scale_factor=scale, mode=name)
    field, ours = analyze(model, (1, 1, 8, 8)), chain([upsample(scale, mode)])
    assert field.sizes[0] == ours.sizes[0]
    assert np.isclose(field.shifts[0], ours.shifts[0]).all()
