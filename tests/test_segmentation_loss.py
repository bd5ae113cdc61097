"""The losses that segmentation adds: golden numbers, definitions in NumPy, identities between them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.autograd import grad
from minidl.testing import gradcheck

Z = np.array([
    [[[2.0, 0, -1, 0.5], [0, 1, 0, -0.5]], [[0, 1, 0, 0], [1, -1, 2, 0]], [[-1, 0, 1, 1], [0, 0, -1, 1]]],
    [[[1, 1, 1, 1], [2, 2, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 1]], [[0, -1, 0, -1], [0, 0, 0, 0]]],
])  # fmt: skip
Y = np.array([[[0, 1, 2, 2], [1, 0, 1, 2]], [[0, 0, 0, 0], [0, 0, 1, 1]]])
ONEHOT = np.eye(3)[Y].transpose(0, 3, 1, 2)
SOFTMAX = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
CE = 0.4314070104797405


def leaf(array, dtype=np.float64):
    return minidl.tensor(np.asarray(array, dtype), requires_grad=True)


def constant(array):
    return minidl.tensor(np.asarray(array))


def random_case(seed=0, shape=(2, 3, 4)):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))


# ---- golden numbers ------------------------------------------------------------------------------

MINUS_DICE = {  # nnU-Net's, by (batch, background, smooth)
    (0, 0, 0.0): -0.4669879726716051, (0, 0, 1e-5): -0.4669905513637618, (0, 0, 1.0): -0.6254423614115607,
    (0, 1, 0.0): -0.5500658867577954, (0, 1, 1e-5): -0.5500677660211825, (0, 1, 1.0): -0.6691785522736283,
    (1, 0, 0.0): -0.5754328641989976, (1, 0, 1e-5): -0.5754333970409418, (1, 0, 1.0): -0.6226008916320911,
    (1, 1, 0.0): -0.629917558238069, (1, 1, 1e-5): -0.6299179712401619, (1, 1, 1.0): -0.6667807026308482,
}  # fmt: skip
MONAI = [
    ({}, 0.4499322339788175),
    ({"squared": True}, 0.2785405216375837),
    ({"alpha": 1.0, "beta": 1.0}, 0.5855522947781558),
    ({"batch": True}, 0.3700820287598381),
    ({"include_background": False}, 0.5330094486362382),
]


@pytest.mark.parametrize("batch, background, smooth", MINUS_DICE)
def test_dice_is_nnunets(batch, background, smooth):
    options = dict(batch=bool(batch), include_background=bool(background), smooth_nr=smooth, smooth_dr=smooth)
    expected = 1 + MINUS_DICE[batch, background, smooth]
    for target in (Y, Y.astype(np.uint8), ONEHOT, ONEHOT.astype(bool)):
        assert F.dice_loss(leaf(Z), constant(target), **options).item() == pytest.approx(expected, abs=1e-12)
    given = F.dice_loss(leaf(SOFTMAX), constant(Y), activation="none", **options)
    assert given.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options, expected", MONAI, ids=[str(row[0]) for row in MONAI])
def test_dice_is_monais(options, expected):
    assert F.dice_loss(leaf(Z), constant(Y), **options).item() == pytest.approx(expected, abs=1e-12)


def test_the_loss_of_training_is_nnunets_plus_one():
    x, y = leaf(Z), constant(Y)
    assert F.dice_ce_loss(x, y).item() == pytest.approx(CE + 1 - 0.4669905513637618, abs=1e-12)
    assert F.dice_ce_loss(x, y, batch=True).item() == pytest.approx(CE + 1 - 0.5754333970409418, abs=1e-12)
    weighted = F.dice_ce_loss(x, y, weight_dice=0.5, weight_ce=3.0)
    assert weighted.item() == pytest.approx(3 * CE + 0.5 * (1 - 0.4669905513637618), abs=1e-12)
    assert F.dice_ce_loss(x, constant(ONEHOT)).item() == pytest.approx(F.dice_ce_loss(x, y).item(), abs=1e-12)


# ---- overlap -------------------------------------------------------------------------------------


def test_tversky_index_by_hand():
    p, y = constant([[[1.0, 0.5, 0.0, 0.5]]]), constant([[[1.0, 1.0, 1.0, 0.0]]])  # TP 1.5, FP 0.5, FN 1.5
    exact = dict(smooth_nr=0.0, smooth_dr=0.0)
    assert F.tversky_index(p, y, **exact).item() == pytest.approx(3 / 5)
    assert F.tversky_index(p, y, alpha=1, beta=1, **exact).item() == pytest.approx(1.5 / 3.5)
    assert F.tversky_index(p, y, alpha=0.2, beta=0.6, **exact).item() == pytest.approx(
        1.5 / (1.5 + 0.1 + 0.9)
    )
    assert F.tversky_index(p, y, squared=True, **exact).item() == pytest.approx(3 / 4.5)
    assert F.tversky_index(p, y, smooth_nr=1.0, smooth_dr=3.0).item() == pytest.approx(4 / 8)
    soft = constant([[[0.5, 0.5, 0.0, 0.0]]])  # TP 0.75, P 1.5, Y 0.5
    assert F.tversky_index(p, soft, squared=True, **exact).item() == pytest.approx(1.5 / 2)
    mask = constant([[[1.0, 1.0, 0.0, 0.0]]])
    assert F.tversky_index(p, y, mask=mask, **exact).item() == pytest.approx(3 / 3.5)


@examples(15)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    samples=st.integers(1, 3),
    classes=st.integers(2, 4),
    batch=st.booleans(),
    background=st.booleans(),
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    smooth_nr=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 99),
)
def test_dice_is_its_definition(shape, samples, classes, batch, background, alpha, smooth_nr, seed):
    z, y = random_case(seed, (samples, classes, *shape))
    w = np.random.default_rng(seed).random(classes) + 0.1
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    t = np.moveaxis(np.eye(classes)[y], -1, 1)
    axes = (*((0,) if batch else ()), *range(2, z.ndim))
    tp, fp, fn = (v.sum(axes) for v in (p * t, p * (1 - t), (1 - p) * t))
    index = (2 * tp + smooth_nr) / (2 * (tp + alpha * fp + (1 - alpha) * fn) + 0.1)
    first = 0 if background else 1
    losses, w = 1 - index[..., first:], w[first:]
    options = dict(alpha=alpha, beta=1 - alpha, batch=batch, include_background=background,
                   smooth_nr=smooth_nr, smooth_dr=0.1)  # fmt: skip
    found = F.dice_loss(leaf(z), constant(y), reduction="none", **options)
    np.testing.assert_allclose(found.detach().numpy(), losses, rtol=1e-10, atol=1e-12)
    assert F.dice_loss(leaf(z), constant(y), reduction="sum", **options).item() == pytest.approx(losses.sum())
    weight = constant(np.concatenate([[7.0] * first, w]))  # the background's weight is not used
    mean = F.dice_loss(leaf(z), constant(y), weight=weight, **options).item()
    assert mean == pytest.approx((losses * w).sum(-1).mean() / w.sum())


def test_names_for_two_special_cases():
    x, y = leaf(Z), constant(Y)
    jaccard, tversky = F.jaccard_loss(x, y, batch=True), F.tversky_loss(x, y, include_background=False)
    assert jaccard.item() == F.dice_loss(x, y, alpha=1, beta=1, batch=True).item()
    assert tversky.item() == F.dice_loss(x, y, alpha=0.3, beta=0.7, include_background=False).item()
    dice = F.dice_loss(x, y, reduction="none", smooth_nr=0, smooth_dr=0).detach().numpy()
    jaccard = F.jaccard_loss(x, y, reduction="none", smooth_nr=0, smooth_dr=0).detach().numpy()
    np.testing.assert_allclose(1 - jaccard[0], (1 - dice[0]) / (1 + dice[0]))  # J = D / (2 - D)


def test_one_channel_is_the_foreground():
    z, y = random_case(1, (2, 1, 5))
    y = np.random.default_rng(2).integers(0, 2, (2, 5))
    p = 1 / (1 + np.exp(-z[:, 0]))
    dice = (2 * (p * y).sum(1) + 1e-5) / (p.sum(1) + y.sum(1) + 1e-5)
    for target in (y, y[:, None]):
        found = F.dice_loss(leaf(z), constant(target), activation="sigmoid")
        assert found.item() == pytest.approx(1 - dice.mean())


def test_sigmoid_channels_are_regions_of_their_own():
    z, regions = (
        np.random.default_rng(3).normal(size=(2, 3, 4)),
        np.random.default_rng(4).random((2, 3, 4)) < 0.5,
    )
    found = F.dice_loss(leaf(z), constant(regions), activation="sigmoid", reduction="none")
    for c in range(3):
        alone = F.dice_loss(
            leaf(z[:, c : c + 1]), constant(regions[:, c] * 1), activation="sigmoid", reduction="none"
        )
        np.testing.assert_allclose(found.detach().numpy()[:, c], alone.detach().numpy()[:, 0])


@pytest.mark.parametrize("ignore", [255, -1, 1])
@pytest.mark.parametrize("batch", [False, True])
def test_ignored_pixels_count_nowhere(ignore, batch):
    z, y = random_case(5, (2, 3, 8))
    y[y == ignore] = 0
    y[:, 5:] = ignore
    y = y.astype(np.uint8) if ignore > 0 else y
    cut, x = leaf(z[:, :, :5]), leaf(z)
    for loss in (F.dice_loss, F.dice_ce_loss, F.generalized_dice_loss):
        found = loss(x, constant(y), ignore_index=ignore, batch=batch)
        expected = loss(cut, constant(y[:, :5]), batch=batch)
        assert found.item() == pytest.approx(expected.item(), abs=1e-12)
        np.testing.assert_allclose(
            grad(found, x)[0].numpy()[:, :, :5], grad(expected, cut)[0].numpy(), atol=1e-15
        )
        assert not grad(loss(x, constant(y), ignore_index=ignore, batch=batch), x)[0].numpy()[:, :, 5:].any()


def test_with_every_pixel_ignored_there_is_nothing_to_learn():
    x, y = leaf(Z), constant(np.full_like(Y, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (F.dice_loss, F.dice_ce_loss, F.generalized_dice_loss):
            found = loss(x, y, ignore_index=255)
            assert found.item() == pytest.approx(0) and not grad(found, x)[0].numpy().any()


def test_an_absent_class_costs_what_is_predicted_of_it():
    y = constant(np.zeros((1, 4), np.int64))
    sure = np.array([1e4, -1e4])[None, :, None] * np.ones((1, 2, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for smooth, second in ((1e-5, 0), (0.0, 1)):  # 0 / 0 is no overlap
            options = dict(reduction="none", smooth_nr=smooth, smooth_dr=smooth)
            right = F.dice_loss(leaf(sure), y, **options).detach().numpy()
            np.testing.assert_allclose(right, [[0, second]], atol=1e-12)
        wrong = F.dice_loss(leaf(-sure), y, reduction="none").detach().numpy()
    np.testing.assert_allclose(wrong, [[1, 1]], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_saturated_logits_and_large_images(dtype):
    z = np.zeros((1, 2, 300, 300))
    z[:, 0, :150], z[:, 1, 150:] = 1e4, 1e4
    y = np.zeros((1, 300, 300), np.int64)
    y[:, 150:] = 1
    x = leaf(z, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (F.dice_loss, F.dice_ce_loss, F.generalized_dice_loss, F.jaccard_loss, F.focal_loss):
            for target, expected in ((y, 0.0), (1 - y, None)):
                found = loss(x, constant(target))
                assert found.dtype == dtype and np.isfinite(grad(found, x)[0].numpy()).all()
                assert (
                    found.item() == pytest.approx(expected, abs=1e-3) if expected == 0 else found.item() > 0.9
                )


OVERLAP = [
    F.dice_loss, F.dice_ce_loss, F.generalized_dice_loss, F.tversky_loss,
    lambda x, y: F.dice_loss(x, y, squared=True, batch=True, weight=constant([1.0, 2.0, 3.0])),
    lambda x, y: F.dice_loss(x, y, activation="sigmoid", include_background=False),
    lambda x, y: F.dice_ce_loss(x, y, ignore_index=2),
    lambda x, y: F.generalized_dice_loss(x, y, batch=True, activation="sigmoid"),
    lambda x, y: F.focal_loss(x, y, constant([1.0, 2.0, 3.0]), ignore_index=2),
    lambda x, y: F.focal_loss(x, y, gamma=0.5),
    lambda x, y: F.sigmoid_focal_loss(x, F.one_hot(y, 3).movedim(-1, 1), gamma=1.5),
    lambda x, y: F.weighted_cross_entropy(x, y, constant(np.arange(6.0).reshape(2, 3)), ignore_index=1),
]  # fmt: skip


@pytest.mark.parametrize("loss", OVERLAP, ids=range(len(OVERLAP)))
def test_two_orders_of_gradients_against_differences(loss):
    z, y = random_case(6, (2, 3, 3))
    assert gradcheck(lambda x: loss(x, constant(y)), [leaf(z)], order=2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_rank_and_an_empty_batch(rank):
    z, y = random_case(7, (2, 3, *(3, 2, 4)[:rank]))
    flat_z, flat_y = z.reshape(2, 3, -1), y.reshape(2, -1)
    for loss in (F.dice_loss, F.dice_ce_loss, F.generalized_dice_loss, F.focal_loss):
        assert loss(leaf(z), constant(y)).item() == pytest.approx(loss(leaf(flat_z), constant(flat_y)).item())
        assert math.isnan(loss(leaf(z[:0]), constant(y[:0])).item())


# ---- generalised Dice ----------------------------------------------------------------------------


def test_generalized_dice_is_sudres():
    tp, p, y = ((v).sum((2, 3)) for v in (SOFTMAX * ONEHOT, SOFTMAX, ONEHOT))
    w = 1 / y[0] ** 2  # every class is in the first sample
    expected = 1 - 2 * (w * tp[0]).sum() / (w * (p + y)[0]).sum()
    exact = dict(smooth_nr=0.0, smooth_dr=0.0)
    found = F.generalized_dice_loss(leaf(Z), constant(Y), reduction="none", **exact).detach().numpy()
    assert found.shape == (2,) and found[0] == pytest.approx(expected, abs=1e-12)
    w = np.array([1 / 6**2, 1 / 2**2, 1 / 2**2])  # class 2 is absent: it counts as the smallest class does
    assert found[1] == pytest.approx(1 - 2 * (w * tp[1]).sum() / (w * (p + y)[1]).sum(), abs=1e-12)
    w = 1 / y.sum(0) ** 2
    whole = 1 - 2 * (w * tp.sum(0)).sum() / (w * (p + y).sum(0)).sum()
    assert F.generalized_dice_loss(leaf(Z), constant(Y), batch=True, **exact).item() == pytest.approx(whole)


def test_generalized_dice_does_not_depend_on_the_size_of_the_image():
    large_z, large_y = (np.repeat(np.repeat(a, 20, -1), 20, -2) for a in (Z, Y))
    small, large = (
        F.generalized_dice_loss(leaf(Z), constant(Y)),
        F.generalized_dice_loss(leaf(large_z), constant(large_y)),
    )
    assert small.item() == pytest.approx(large.item(), abs=1e-5)


# ---- focal loss ----------------------------------------------------------------------------------


def test_focal_loss_by_hand():
    x = leaf(np.log([[0.5, 0.25, 0.25], [0.05, 0.9, 0.05]]))
    y, losses = constant([0, 1]), np.array([0.25 * math.log(2), -0.01 * math.log(0.9)])
    np.testing.assert_allclose(F.focal_loss(x, y, reduction="none").detach().numpy(), losses)
    w = constant([1.0, 3.0, 9.0])
    assert F.focal_loss(x, y, w).item() == pytest.approx((losses[0] + 3 * losses[1]) / 4)
    assert F.focal_loss(x, y, ignore_index=1).item() == pytest.approx(losses[0])


def test_focal_loss_without_focus_is_cross_entropy():
    z, y = random_case(8, (2, 4, 3, 2))
    y[0, 0] = 255
    w = constant(np.random.default_rng(9).random(4))
    for reduction in ("none", "mean", "sum"):
        options = dict(ignore_index=255, reduction=reduction)
        ours, ce = (
            F.focal_loss(leaf(z), constant(y), w, gamma=0, **options),
            F.cross_entropy(leaf(z), constant(y), w, **options),
        )
        np.testing.assert_allclose(ours.detach().numpy(), ce.detach().numpy(), rtol=1e-12)
    x, t = leaf(z), constant(np.random.default_rng(1).random(z.shape))
    ours = F.sigmoid_focal_loss(x, t, alpha=None, gamma=0)
    assert ours.item() == pytest.approx(F.binary_cross_entropy_with_logits(x, t).item(), rel=1e-12)


def test_sigmoid_focal_loss_by_hand():
    x, y = leaf([0.0, math.log(3), math.log(3)]), constant([1, 1, 0])
    losses = [0.25 * 0.25 * math.log(2), 0.25 / 16 * -math.log(0.75), 0.75 * 9 / 16 * math.log(4)]
    np.testing.assert_allclose(F.sigmoid_focal_loss(x, y, reduction="none").detach().numpy(), losses)
    plain = F.sigmoid_focal_loss(x, y, alpha=None, gamma=1.0, reduction="sum")
    assert plain.item() == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(0.75) + 0.75 * math.log(4))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.5, 2.0])
def test_focal_losses_of_sure_logits_have_finite_derivatives_of_two_orders(gamma):
    for far in (40.0, 800.0, 1e4):
        x = leaf([[far, -far], [-far, far]])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for loss in (
                F.focal_loss(x, constant([0, 0]), gamma=gamma),
                F.sigmoid_focal_loss(x, constant([[1, 0]] * 2), gamma=gamma),
            ):
                (g,) = grad(loss, x, create_graph=True)
                (h,) = grad(g.sum(), x)
                assert all(np.isfinite(a.detach().numpy()).all() for a in (loss, g, h))


# ---- weight maps ---------------------------------------------------------------------------------


def test_weighted_cross_entropy():
    x, y = leaf(Z), constant(Y)
    w = np.random.default_rng(2).random(Y.shape)
    losses = F.cross_entropy(x, y, reduction="none").detach().numpy() * w
    np.testing.assert_allclose(
        F.weighted_cross_entropy(x, y, constant(w), reduction="none").detach().numpy(), losses
    )
    assert F.weighted_cross_entropy(x, y, constant(w)).item() == pytest.approx(losses.sum() / w.sum())
    counted = Y != 2
    found = F.weighted_cross_entropy(x, y, constant(w), ignore_index=2)
    assert found.item() == pytest.approx(losses[counted].sum() / w[counted].sum())
    assert F.weighted_cross_entropy(x, y, constant(np.full(Y.shape, 7.0))).item() == pytest.approx(CE)
    per_class = constant([1.0, 2.0, 0.5])
    found = F.weighted_cross_entropy(x, y, constant(per_class.numpy()[Y]))
    assert found.item() == pytest.approx(F.cross_entropy(x, y, per_class).item())


def test_unet_weight_map_by_hand():
    label = np.array([[1, 0, 0, 0, 0, 2]])
    w = F.unet_weight_map(label, w0=10, sigma=2)
    border = 10 * np.exp(-(5**2) / 8)  # between the cells d1 + d2 is 1 + 4 or 2 + 3
    assert w.dtype == np.float32
    np.testing.assert_allclose(w[0], [1.5, *[0.75 + border] * 4, 1.5], rtol=1e-6)


def test_unet_weight_map_is_largest_in_the_narrowest_gap():
    label = np.zeros((20, 30), np.uint8)
    label[2:12, 2:10], label[2:12, 11:20], label[14:20, 2:20] = 1, 2, 3
    w = F.unet_weight_map(label)
    assert w.argmax() in [r * 30 + 10 for r in range(12)] and w.max() > 6
    assert (w[label > 0] == w[3, 3]).all()  # in cells nothing but the balance
    balance = F.unet_weight_map(label, w0=0.0)
    assert balance.mean() == pytest.approx(1, abs=1e-6)
    assert balance[label == 0].sum() == pytest.approx(balance[label > 0].sum(), rel=1e-5)


@pytest.mark.parametrize("label", [np.zeros((3, 4), int), np.ones((3, 4), int), np.zeros((0, 4), int)])
def test_unet_weight_map_of_one_class_or_nothing_is_one(label):
    np.testing.assert_array_equal(F.unet_weight_map(label), np.ones(label.shape))


def test_one_cell_has_no_gap():
    label = np.pad(np.ones((2, 2, 2), int), 1)
    w = F.unet_weight_map(label)
    assert set(np.round(w[label == 0], 4)) == {np.float32(0.5714)}  # 64 voxels, 56 of them background


# ---- deep supervision ----------------------------------------------------------------------------


def test_weights_of_deep_supervision_are_nnunets():
    np.testing.assert_allclose(F.deep_supervision_weights(5), [8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])
    assert F.deep_supervision_weights(2) == [1, 0] and F.deep_supervision_weights(1) == [1]


@pytest.mark.parametrize(
    "size, out", [((4, 6), (2, 3)), ((5, 6), (2, 6)), ((3, 3), (1, 1)), ((2, 3), (4, 6))]
)
def test_labels_are_resized_to_the_nearest(size, out):
    y = np.random.default_rng(3).integers(0, 9, (2, *size)).astype(np.uint8)
    found = F.resize_labels(constant(y), out)
    rows, columns = (np.floor(np.arange(q) * n / q).astype(int) for n, q in zip(size, out))
    np.testing.assert_array_equal(found.numpy(), y[:, rows][:, :, columns])
    assert found.dtype == np.uint8
    as_image = F.interpolate(constant(y.astype(np.float64))[:, None], out, mode="nearest")
    np.testing.assert_array_equal(as_image.numpy()[:, 0], y[:, rows][:, :, columns])


def test_deep_supervision_adds_up_the_levels():
    rng = np.random.default_rng(4)
    outputs = [leaf(rng.normal(size=(2, 3, n, 2 * n))) for n in (8, 4, 2)]
    y = constant(rng.integers(0, 3, (2, 8, 16)))
    parts = [F.cross_entropy(x, F.resize_labels(y, x.shape[2:])).item() for x in outputs]
    for module in (nn.DeepSupervisionLoss(nn.CrossEntropyLoss()), nn.DeepSupervisionLoss(F.cross_entropy)):
        loss = module(outputs, y)
        assert loss.item() == pytest.approx((2 * parts[0] + parts[1]) / 3)
        assert [g is None for g in grad(loss, outputs, allow_unused=True)] == [False, False, True]
    weights = (0.5, 0.0, 2.0)
    found = F.deep_supervision_loss(outputs, y, F.cross_entropy, weights)
    assert found.item() == pytest.approx(0.5 * parts[0] + 2 * parts[2])


# ---- modules and errors --------------------------------------------------------------------------


def test_modules():
    x, y, w = leaf(Z), constant(Y), constant([1.0, 2.0, 3.0])
    pairs = [
        (
            nn.DiceLoss(include_background=False, weight=w),
            F.dice_loss(x, y, include_background=False, weight=w),
        ),
        (nn.GeneralizedDiceLoss(batch=True), F.generalized_dice_loss(x, y, batch=True)),
        (nn.DiceCELoss(weight_ce=2.0), F.dice_ce_loss(x, y, weight_ce=2.0)),
        (nn.FocalLoss(w, gamma=1.0), F.focal_loss(x, y, w, gamma=1.0)),
    ]
    for module, expected in pairs:
        assert module(x, y).item() == expected.item()
    assert list(pairs[0][0].state_dict()) == ["weight"]


X, T = minidl.zeros(2, 3, 4), minidl.zeros(2, 4, dtype=np.int64)
ONE = minidl.zeros(2, 1, 4)
ERRORS = [
    (lambda: F.dice_loss(X, T + 3), IndexError, "dice_loss: .*3 to 3.*3 classes"),
    (lambda: F.dice_loss(X, T - 1, ignore_index=255), IndexError, "dice_loss: .*-1"),
    (lambda: F.dice_loss(X, T.float()), TypeError, "dice_loss: .*integers.*float32"),
    (lambda: F.dice_loss(X, T[:, :3]), ValueError, r"dice_loss: .*\(2, 3, 4\).*\(2, 4\).*\(2, 3\)"),
    (lambda: F.dice_loss(X, T.unsqueeze(1)), ValueError, r"dice_loss: .*\(2, 4\).*\(2, 3, 4\).*\(2, 1, 4\)"),
    (lambda: F.dice_loss(X, X, ignore_index=1), ValueError, "dice_loss: ignore_index 1"),
    (lambda: F.dice_loss(X[0], T), ValueError, r"dice_loss: .*\(N, C, \*S\).*\(3, 4\)"),
    (lambda: F.dice_loss(X.long(), T), TypeError, "dice_loss: .*int64"),
    (lambda: F.dice_loss(X, T.numpy()), TypeError, "dice_loss: target must be a Tensor"),
    (lambda: F.dice_loss(X, T, activation="relu"), ValueError, "dice_loss: activation.*'relu'"),
    (lambda: F.dice_loss(X, T, reduction="x"), ValueError, "dice_loss: reduction.*'x'"),
    (lambda: F.dice_loss(X, T, weight=minidl.ones(2)), ValueError, r"dice_loss: weight .*\(3,\).*\(2,\)"),
    (lambda: F.dice_loss(ONE, T), ValueError, "dice_loss: .*one channel.*sigmoid"),
    (lambda: F.dice_loss(ONE, T + 2, activation="sigmoid"), IndexError, "dice_loss: .*2 classes"),
    (lambda: F.dice_loss(ONE, T, activation="sigmoid", include_background=False), ValueError,
     "dice_loss: .*no background"),
    (lambda: F.generalized_dice_loss(X, T + 3), IndexError, "generalized_dice_loss: .*3 classes"),
    (lambda: F.dice_ce_loss(X, T + 3), IndexError, "3 classes"),
    (lambda: F.focal_loss(X, T + 3), IndexError, "focal_loss: .*3 classes"),
    (lambda: F.focal_loss(X, T, gamma=-1), ValueError, "focal_loss: gamma.*-1"),
    (lambda: F.focal_loss(ONE, T), ValueError, "focal_loss: .*sigmoid_focal_loss"),
    (lambda: F.sigmoid_focal_loss(X, X, alpha=2), ValueError, "sigmoid_focal_loss: alpha.*2"),
    (lambda: F.sigmoid_focal_loss(X, T), ValueError, r"sigmoid_focal_loss: .*\(2, 3, 4\).*\(2, 4\)"),
    (lambda: F.weighted_cross_entropy(X, T, X), ValueError, r"weighted_.*\(2, 4\).*\(2, 3, 4\)"),
    (lambda: F.unet_weight_map(T), TypeError, "unet_weight_map: .*numpy.ndarray, got Tensor"),
    (lambda: F.unet_weight_map(np.zeros(3)), TypeError, "unet_weight_map: .*float64"),
    (lambda: F.unet_weight_map(np.zeros(3, int), sigma=0), ValueError, "unet_weight_map: sigma.*0"),
    (lambda: F.deep_supervision_weights(0), ValueError, "deep_supervision_weights: .*0"),
    (lambda: F.deep_supervision_loss(X, T, F.cross_entropy), TypeError, "deep_supervision_loss: .*list"),
    (lambda: F.deep_supervision_loss([X], T, F.cross_entropy, [1, 2]), ValueError, "deep_.*: 1 .*2"),
    (lambda: F.deep_supervision_loss([X], T, F.cross_entropy, [0]), ValueError, "deep_supervision_loss: all"),
    (lambda: nn.DiceLoss(gamma=1), TypeError, r"DiceLoss\(.*gamma"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
