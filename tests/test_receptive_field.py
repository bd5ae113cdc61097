"""Receptive fields: what the result tells, what is measured, and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import minidl
from minidl import Tensor, models, nn
from minidl.autograd import Op, op
from minidl.nn import functional as F
from minidl.ops import bilinear
from minidl.receptive_field import analyze, chain, conv, effective, gradient, layer_table, reachability


class Flatten(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def conv2d(*args, **options):
    return nn.Conv2d(*args, **options).double()


# ---- one position ----------------------------------------------------------------------------------


def test_interval_centre_and_region_of_a_position():
    field = analyze(nn.Sequential(conv2d(1, 2, (3, 5), padding=(1, 2)), nn.MaxPool2d(2)), (1, 1, 9, 12))
    assert (field.size, field.stride, field.padding) == ((4, 6), (2, 2), (1, 2))
    assert field.positions == (4, 6)
    assert field.interval((0, 5)) == ((0, 2), (8, 11))
    assert field.interval((0, -1)) == ((0, 2), (8, 11))
    assert field.interval((0, 5), clipped=False) == ((-1, 2), (8, 13))
    assert field.center((0, 5)) == (0.5, 10.5)
    assert field.region((0, 5)) == (slice(0, 3), slice(8, 12))
    with pytest.raises(ValueError, match="expected 2 integers"):
        field.interval((1, 2, 3))
    with pytest.raises(IndexError, match=r"\(4, 0\) is outside the output, whose last axes are \(4, 6\)"):
        field.interval((4, 0))


def test_the_middle_of_a_dilated_field_is_not_seen():
    field = analyze(lambda x: F.conv1d(x, minidl.ones(1, 1, 2), dilation=3), (1, 1, 8))
    assert field.size == (4,) and any("holes: up to 2" in w for w in field.warnings)
    np.testing.assert_array_equal(np.flatnonzero(field.matrix(0)[1]), [1, 4])


def test_positions_between_the_taps_of_a_transposed_convolution_see_nothing():
    field = analyze(lambda x: F.conv_transpose2d(x, minidl.ones(1, 1, 1, 1), stride=2), (1, 1, 3, 3))
    assert field.interval((1, 2)) == (None, None)  # a row without samples has no columns either
    assert field.interval((2, 2)) == ((1, 1), (1, 1)) and field.center((1, 1)) == (None, None)
    assert field.region((1, 2)) == (slice(0, 0), slice(0, 0))
    assert any("see nothing" in w for w in field.warnings)


def test_axes_that_change_places():
    field = analyze(lambda x: F.conv2d(x, minidl.ones(1, 1, 3, 1)).transpose(2, 3), (1, 1, 6, 5))
    assert field.positions == (5, 4) and field.size == (3, 1)
    assert field.interval((4, 0)) == ((0, 2), (4, 4))
    assert field.interval((4, 0), clipped=False) == ((0, 2), (4, 4))


def test_channels_of_groups_are_kept_apart():
    w = minidl.ones(2, 1, 2)

    def model(x):
        both = minidl.cat([x[..., :-2], x[..., 2:]], dim=1)
        return F.conv1d(both, w, groups=2)[:, 1:]

    assert analyze(model, (1, 1, 8)).interval(0) == ((2, 3),)


def test_space_in_channels_and_back():
    field = analyze(lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2), (1, 1, 6, 4))
    np.testing.assert_array_equal(field.matrix(0), np.eye(6, dtype=bool))
    field = analyze(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 1)), (1, 1, 6, 4))
    assert field.size == (2, 2) and field.interval((1, 1)) == ((2, 3), (2, 3))
    field = analyze(nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2)), (1, 1, 8, 8))
    assert (field.size, field.stride[0], field.sizes[0]) == ((3, 3), 0.5, (3, 3))


def test_repeated_samples_and_repeated_images():
    field = analyze(lambda x: F.interpolate(x, scale_factor=3), (1, 1, 4))
    assert (field.size, field.stride, field.sizes) == ((1,), (Fraction(1, 3),), ((1, 1, 1),))
    field = analyze(lambda x: x.tile(2), (1, 1, 4))  # the pattern of the second half begins anew
    assert field.stride == (None,) and [field.interval(u)[0][0] for u in range(8)] == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    "model",
    [
        lambda x: bilinear.local_sum(minidl.ones(1, 3, 5, 6, 7), x),
        lambda x: bilinear.local_spread(minidl.ones(1, 3, 5, 6, 7), x),
        lambda x: bilinear.local_sum(bilinear.local_dot(x * 1.0, x, window=(3, 1)), x),
    ],
)
def test_weights_for_every_neighbourhood(model):
    field = analyze(model, (1, 2, 6, 7))
    for axis, true in enumerate(reachability(model, (1, 2, 6, 7))):
        np.testing.assert_array_equal(field.matrix(axis), true)


def test_a_classifier_sees_the_image_through_its_mean():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(2, 3))
    field = analyze(net, (2, 1, 7, 6))
    assert field.positions == () and field.interval(()) == ((0, 6), (0, 5)) and field.size == (7, 6)
    assert field.whole == ("1",) and field.stride == (None, None)
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), Flatten(), nn.Linear(40, 3))
    assert analyze(flat, (2, 1, 7, 6)).interval(()) == ((0, 6), (0, 5))


# ---- what sees whole axes --------------------------------------------------------------------------


def test_batch_norm_is_global_in_training_alone_and_its_statistics_stay():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5))
    before = {name: tensor.array.copy() for name, tensor in net.named_buffers()}
    minidl.manual_seed(3)
    field = analyze(net, (2, 1, 8, 8))
    drawn = minidl.rand(3).numpy()
    minidl.manual_seed(3)
    np.testing.assert_array_equal(minidl.rand(3).numpy(), drawn)
    assert field.whole == ("1",) and field.size == (3, 3)
    assert field.interval((0, 0)) == ((0, 2), (0, 2)) and field.matrix(0).all()
    assert field.matrix(0, local=True).sum() == 6 * 3
    for name, tensor in net.named_buffers():
        np.testing.assert_array_equal(tensor.array, before[name])
    assert analyze(net.eval(), (2, 1, 8, 8)).whole == ()
    assert "forward" not in net[0].__dict__


@pytest.mark.parametrize(
    "norm",
    [nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 8])],
)
def test_a_normalisation_leaves_the_local_field_visible(norm):
    field = analyze(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm), (1, 1, 8, 8))
    assert (field.size, field.stride, field.padding) == ((3, 3), (1, 1), (1, 1))
    assert field.whole == ("1",) and field.matrix(1).all()


def test_group_norm_of_a_large_image_stays_local():
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16))
    assert analyze(net, (1, 1, 300, 300)).size == (3, 3)


def test_attention_is_global_beside_the_residual():
    def model(x):
        y = F.conv2d(x, minidl.ones(2, 2, 3, 3), padding=1)
        flat = y.flatten(2)
        return y + (flat @ F.softmax(flat.mT @ flat, -1)).reshape(y.shape)

    field = analyze(model, (1, 2, 5, 4))
    assert field.size == (3, 3) and field.whole and field.matrix(0).all() and field.matrix(1).all()


def test_an_op_without_a_rule_is_named_and_sees_everything():
    @op(lambda g: g, law="linear")
    def odd(xp, x):
        return x[..., ::-1]

    try:
        field = analyze(lambda x: odd(x), (1, 1, 5))
        assert field.matrix(0).all() and any("without a rule" in w and "odd" in w for w in field.warnings)
    finally:
        del Op.registry["odd"]


def test_every_op_of_networks_has_a_rule():
    own = [op for op in Op.registry.values() if op.__module__.startswith("minidl.")]  # other tests make some
    without = {op.name for op in own if (any(op.vjps) or op.law == "fused") and op.reach is None}
    assert without <= {"conv_weight", "softmax_sums"}  # of backward passes, and of losses


def test_elements_chosen_by_values_may_come_from_anywhere_along_their_axis():
    field = analyze(lambda x: x.sort(2).values, (1, 1, 4, 5))
    assert field.matrix(0).all() and field.size[1] == 1 and field.whole
    grid = minidl.zeros(1, 3, 3, 2)
    assert analyze(lambda x: F.grid_sample(x, grid), (1, 1, 4, 5)).matrix(0).all()


def test_unpooling_at_places_outside_of_the_windows_sees_everything():
    index = Tensor(np.array([[[7, 2]]]))
    field = analyze(lambda x: F.max_unpool1d(F.max_pool1d(x, 4), index, 4), (1, 1, 8))
    assert field.matrix(0).all()


# ---- branches --------------------------------------------------------------------------------------


def test_branches_that_do_not_lie_over_each_other():
    def model(x):
        return F.conv1d(x, minidl.ones(1, 1, 3))[..., :4] + x[..., :4]

    (note,) = (w for w in analyze(model, (1, 1, 8)).warnings if "centres" in w)
    assert "at add" in note and "1 samples apart" in note
    padded = lambda x: F.conv1d(x, minidl.ones(1, 1, 3), padding=1) + x
    assert not analyze(padded, (1, 1, 8)).warnings


def test_branches_of_different_strides_have_no_pattern():
    def model(x):
        return x[..., :4] + x[..., ::2]

    field = analyze(model, (1, 1, 8))
    assert (
        field.stride == (None,)
        and field.halo == (None,)
        and any("strides 1 and 2" in w for w in field.warnings)
    )
    assert [field.interval(u)[0] for u in range(4)] == [(0, 0), (1, 2), (2, 4), (3, 6)]
    assert field.size == (4,)
    with pytest.raises(ValueError, match="no pattern repeats"):
        field.interval(0, clipped=False)


# ---- the model's side ------------------------------------------------------------------------------


def test_one_of_several_outputs():
    def model(x):
        return {"fine": x * 2.0, "coarse": F.avg_pool2d(x, 4)}

    assert analyze(model, (1, 1, 8, 8), output="coarse").size == (4, 4)
    assert analyze(model, (1, 1, 8, 8), output=lambda found: found["fine"]).size == (1, 1)
    with pytest.raises(TypeError, match="returned a dict"):
        analyze(model, (1, 1, 8, 8))


def test_models_that_do_not_depend_on_their_input():
    with pytest.raises(ValueError, match="no gradient flows"):
        analyze(lambda x: x.detach() * 2.0, (1, 1, 8))
    with pytest.raises(ValueError, match=r"\(N, C, \*S\)"):
        analyze(lambda x: x, (3, 8))
    weight = nn.Parameter(minidl.ones(1, 1, 8))
    field = analyze(lambda x: x.detach() * weight, (1, 1, 8))
    assert field.interval(3) == (None,) and field.size == (0,)


def test_frozen_and_double_models_and_given_inputs():
    net = conv2d(1, 1, 3).requires_grad_(False)
    assert analyze(net, (1, 1, 5, 5)).size == (3, 3) and not net.weight.requires_grad
    seen = []

    def model(x):
        seen.append(x.numpy() if not x.requires_grad else x.detach().numpy())
        return x[..., ::2]

    x = minidl.arange(6.0).reshape(1, 1, 6)
    analyze(model, x)
    np.testing.assert_array_equal(seen[0], x.numpy())


def test_checkpointed_networks_are_seen_through():
    plain, thrifty = (models.UNet(1, 2, [2, 2, 2], dims=1, checkpoint=c) for c in (False, True))
    a, b = (analyze(net, (1, 1, 16)) for net in (plain, thrifty))
    assert a.size == b.size == (35,)
    np.testing.assert_array_equal(a.matrix(0, local=True), b.matrix(0, local=True))


def test_a_trained_network_s_segnet():
    field = analyze(models.SegNet(1, 2, ((2, 1), (2, 1))).eval(), (1, 1, 13, 18))
    assert (min(field.sizes[0]), field.size) == (14, (18, 18)) and not field.whole


# ---- measured --------------------------------------------------------------------------------------


def test_a_changed_sample_changes_what_sees_it():
    """No derivative and no rule: each sample in turn becomes NaN, and NaN goes wherever it can."""
    net = nn.Sequential(
        nn.Conv1d(1, 2, 3, dilation=2, padding=1), nn.ReLU(), nn.MaxPool1d(2, ceil_mode=True),
        nn.ConvTranspose1d(2, 1, 3, 2, 1),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((1, 1, 11)).astype(np.float32)
    reached = []
    for i in range(11):
        y = x.copy()
        y[..., i] = np.nan
        reached.append(np.isnan(net(Tensor(y)).detach().numpy()[0, 0]))
    np.testing.assert_array_equal(analyze(net, (1, 1, 11)).matrix(0), np.array(reached).T)


def test_reachability_of_a_position():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.InstanceNorm2d(1))
    assert reachability(net, (1, 1, 5, 5), (0, 0)).all()
    assert reachability(net[0], (1, 1, 5, 6), (0, 0)).sum() == 4
    with pytest.raises(IndexError, match="outside the output"):
        reachability(net, (1, 1, 5, 5), (5, 0))


def test_the_gradient_is_where_the_field_is():
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1))
    found = gradient(net, (1, 1, 9, 8))
    assert found.shape == (9, 8)
    inside = np.zeros((9, 8), bool)
    inside[analyze(net, (1, 1, 9, 8)).region((4, 4))] = True
    np.testing.assert_array_equal(found > 0, inside)


def stack_of(depth):
    layers = [nn.Conv1d(1, 1, 3, bias=False) for _ in range(depth)]
    for layer in layers:
        layer.weight.array[...] = 1
    return nn.Sequential(*layers)


@pytest.mark.parametrize("depth, count", [(5, 9), (10, 13), (20, 19), (40, 25)])
def test_the_effective_field_grows_as_the_square_root_of_depth(depth, count):
    field = effective(stack_of(depth), (1, 1, 2 * depth + 1), samples=1)
    assert math.isclose(field.sigma[0], math.sqrt(depth * (3**2 - 1) / 12), rel_tol=1e-5)
    assert field.count() == count and field.size() == count
    assert math.isclose(field.center[0], depth, rel_tol=1e-5)
    assert math.isclose(field.profile(0).sum(), 1, rel_tol=1e-9) and field.misfit(0) < 0.03


def test_the_effective_field_over_initialisations():
    field = effective((nn.Conv2d(1, 1, 3) for _ in range(20)), (1, 1, 3, 3), samples=1)
    assert field.map.shape == (3, 3) and (field.map > 0).all() and field.size() == 3
    with pytest.raises(ValueError, match="0 everywhere in 0 runs"):
        effective([], (1, 1, 3, 3))
    images = [minidl.rand(1, 1, 5, 5) for _ in range(2)]
    assert effective(nn.Conv2d(1, 1, 3), images, (0, 0)).count(0) == 9


# ---- tiles -----------------------------------------------------------------------------------------


def tiled(net, image, field, tile=16):
    """The output at stride 1, computed tile by tile with the field's halo around each."""
    size, step = image.shape[-1], field.alignment[0]
    before, after = field.halo[0]
    before = -(-before // step) * step  # tiles begin where the pattern does
    parts = []
    for start in range(0, size, tile):
        low, high = max(start - before, 0), min(start + tile + after, size)
        parts.append(net(image[..., low:high]).detach().numpy()[..., start - low : start - low + tile])
    return np.concatenate(parts, -1)


def unet(norm):
    minidl.manual_seed(0)
    return models.UNet(1, 2, [4, 6, 8], dims=1, norm=norm, down="max").double().eval()


def test_tiles_with_a_halo_give_the_image_s_output():
    image = minidl.randn(1, 1, 160, dtype=np.float64)
    for norm in (None, "batch"):
        net = unet(norm)
        field = analyze(net, image)
        whole = net(image).detach().numpy()
        np.testing.assert_allclose(tiled(net, image, field), whole, rtol=0, atol=1e-12)
        narrow = analyze(nn.Conv1d(1, 1, 3, padding=1), image)
        assert abs(tiled(net, image, narrow) - whole).max() > 1e-3


def test_an_instance_norm_cannot_be_tiled():
    image = minidl.randn(1, 1, 160, dtype=np.float64)
    net = unet("instance")
    field = analyze(net, image)
    assert field.whole and any("statistics" in w for w in field.warnings)
    assert abs(tiled(net, image, field) - net(image).detach().numpy()).max() > 1e-2


# ---- in words --------------------------------------------------------------------------------------


def test_the_summary_and_the_table():
    field = analyze(models.UNet(1, 2, [2, 2, 2], dims=2, norm=None), (1, 1, 64, 64))
    text = str(field)
    assert "receptive field  35" in text and "halo             20 before, 17 after" in text
    table = layer_table(field.per_layer()).splitlines()
    assert table[1].split() == ["encoder.0.0.conv", "Conv2d", "64", "3", "1", "1"]
    assert any(line.split()[0] == "cat" for line in table)
    assert "receptive field  5" in str(chain([conv(3), conv(3)]))


def test_chains_check_their_layers():
    with pytest.raises(ValueError, match="kernel must be one positive integer or 1, got 0"):
        conv(0)
    with pytest.raises(ValueError, match="has 2 axes, other layers have 3"):
        chain([conv((3, 3, 3)), conv((3, 3))])
    with pytest.raises(ValueError, match="no ends"):
        chain([conv(3)]).matrix(0)
