"""The networks: sizes, parameters, odd inputs, gradients everywhere."""

from __future__ import annotations

import pytest

import minidl
from minidl.models import UNet, UNet3d2016, unet2015
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
