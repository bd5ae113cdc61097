"""Planning: nnU-Net's numbers, the limits, the reasons, and plan files that lie."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from minidl.cli import main
from minidl.data import DataError, Image, PhantomDataset
from minidl.data.dataset import Case
from minidl.models import PlannedUNet
from minidl.segment.plan import Plan, command, cost, planner, take_fingerprint
from minidl.segment.plan.fingerprint import Fingerprint, Intensities, nonzero_box
from minidl.segment.plan.planner import ENOUGH, STEPS, WIDTHS, Limits, Planner
from minidl.segment.plan.rules import Grid, first_patch, shrunk, target_grid
from minidl.segment.plan.schema import parse, to_text
from minidl.segment.plan.topology import lecture_topology, nnunet_topology
from minidl.segment.plan.words import amount, bytes_of
from tests.test_segment import write_pictures, write_volumes

GB = 10**9
IN_PLANE = (1, 2, 2)


def fingerprint(shapes, spacings, kept=1.0) -> Fingerprint:
    return Fingerprint(
        tuple(shapes),
        tuple(spacings),
        kept,
        (0.9, 0.05, 0.05),
        (Intensities(-50.0, 40.0, 200.0, 45.0, 60.0),),
    )


def planned(
    shape, spacing, cases=100, memory=8 * GB, minutes=None, speed=60e9, channel="MRI", **options
) -> Plan:
    facts = fingerprint([shape] * cases, [spacing] * cases)
    limits = Limits(memory, minutes, speed=60e9)
    return Planner(facts, [channel], ["background", "a", "b"], limits, **options).plan("data")


# ---- topology --------------------------------------------------------------------------------------


def strides(*levels):
    return tuple(tuple(int(digit) for digit in level) for level in levels)


# spacing, patch -> pools; where worth a look strides after stage 0, kernels; the padded patch if it differs.
# Computed with nnU-Net's own function (dynamic_network_architectures, get_pool_and_conv_props).
VECTORS = [
    ((1, 1), (256, 256), (6, 6), None, None, None),
    ((1, 1), (512, 512), (7, 7), None, None, None),
    ((1, 1), (320, 320), (6, 6), None, None, None),
    ((1, 1), (64, 64), (4, 4), None, None, None),
    ((1, 1), (32, 32), (3, 3), None, None, None),
    ((1, 1), (56, 40), (3, 3), None, None, None),
    ((1, 1), (200, 168), (5, 5), None, None, (224, 192)),
    ((1, 1), (96, 24), (4, 2), "22 22 21 21", "33 33 33 33 33", None),
    ((1, 1, 1), (128,) * 3, (5, 5, 5), None, None, None),
    ((1, 1, 1), (40, 56, 40), (3, 3, 3), None, None, None),
    ((1, 1, 1), (64, 16, 128), (4, 2, 4), "222 222 212 212", None, None),
    ((1, 1, 1), (33, 50, 17), (3, 3, 2), None, None, (40, 56, 20)),
    ((3.6, 0.62, 0.62), (20, 320, 256), (2, 6, 6), "122 122 222 222 122 122",
     "133 133 333 333 333 333 333", None),
    ((5, 1.56, 1.56), (20, 256, 224), (2, 5, 5), "122 222 222 122 122", "133 333 333 333 333 333", None),
    ((10, 1.25, 1.25), (10, 512, 512), (1, 7, 7), "122 122 122 222 122 122 122",
     "133 133 133 333 333 333 333 333", None),
    ((2, 1, 1), (32, 64, 64), (3, 4, 4), "122 222 222 222", "133 333 333 333 333", None),
    ((1.25, 1.25, 1.37), (80, 192, 160), (4, 5, 5), "222 222 222 222 122", None, None),
    ((2.5, 0.8, 0.8), (28, 256, 256), (2, 6, 6), "122 222 222 122 122 122", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("spacing", "patch", "pools", "levels", "kernels", "padded"), VECTORS)
def test_nnunets_topology(spacing, patch, pools, levels, kernels, padded):
    topology = nnunet_topology(spacing, patch)
    assert topology.pools == pools
    assert topology.patch == (padded or patch)
    assert set(topology.strides[0]) == {1}
    if levels:
        assert topology.strides[1:] == strides(*levels.split())
    expected = strides(*kernels.split()) if kernels else None
    if max(spacing) / min(spacing) < 2:
        expected = ((3,) * len(patch),) * len(topology.strides)
    if expected:
        assert topology.kernels == expected


@pytest.mark.parametrize(
    ("patch", "pools", "bottleneck"),
    [((256, 256), (5, 5), (8, 8)), ((128, 128, 128), (4, 4, 4), (8, 8, 8)),
     ((40, 56, 40), (2, 2, 2), (10, 14, 10)), ((96, 24), (3, 1), (12, 12)),
     ((2048, 2048), (6, 6), (32, 32)), ((300, 7, 300), (5, 0, 5), (10, 7, 10)),
     ((17, 15), (1, 0), (9, 15))],
)  # fmt: skip
def test_the_lectures_topology_stops_at_eight(patch, pools, bottleneck):
    topology = lecture_topology((5.0,) + (1.0,) * (len(patch) - 1), patch)  # spacing does not matter
    assert (topology.pools, topology.bottleneck) == (pools, bottleneck)


# ---- cost ------------------------------------------------------------------------------------------


def test_nnunets_estimates_of_memory():
    cube, square = nnunet_topology((1, 1, 1), (128,) * 3), nnunet_topology((1, 1), (256, 256))
    proxies = [cost.memory_proxy(t, cost.widths(32, t), 1, 3) for t in (cube, square)]
    assert proxies == [452_796_416, 20_692_992]
    assert [cost.nnunet_batch(p, d) for p, d in zip(proxies, (3, 2))] == [2, 49]
    assert [cost.parameters(t, cost.widths(32, t), 1, 3) for t in (cube, square)] == [31_196_399, 33_473_330]


@pytest.mark.parametrize(
    ("spacing", "patch"), [((1, 1), (96, 24)), ((2, 1, 1), (32, 64, 64)), ((1, 1, 1), (33, 50, 17))]
)
def test_the_counted_parameters_are_those_of_the_network(spacing, patch):
    topology = nnunet_topology(spacing, patch)
    features = cost.widths(4, topology)
    network = PlannedUNet(2, 5, features, topology.kernels, topology.strides)
    assert cost.parameters(topology, features, 2, 5) == sum(p.numel() for p in network.parameters())


def test_multiply_adds_of_a_network_counted_by_hand():
    topology = nnunet_topology((1, 1), (12, 1))  # one axis alone, halved once: sizes 12x1 and 6x1
    encoder = 12 * 2 * 9 * 3 + 12 * 2 * 9 * 2 + 6 * 4 * 9 * 2 + 6 * 4 * 9 * 4
    decoder = 12 * 2 * 4 + 12 * 2 * 9 * 4 + 12 * 2 * 9 * 2 + 12 * 5 * 2
    assert cost.multiply_adds(topology, (2, 4), 3, 5) == 3 * (encoder + decoder)


MEASURE = """
from pathlib import Path
from minidl.segment.plan import cost
from minidl.segment.plan.topology import nnunet_topology
def resident(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
topology = nnunet_topology((1,) * {dims}, {patch})
network = (topology, cost.widths({base}, topology), 1, 3)
before = resident("VmRSS")
step = cost.training_step(*network, {batch})
step(), step()
proxy, parameters = cost.memory_proxy(*network), cost.parameters(*network)
print(cost.training_memory(proxy, parameters, {batch}), resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's record of a process")
@pytest.mark.parametrize(
    ("patch", "base", "batch"),
    [
        ((40, 56, 40), 8, 2),
        ((40, 56, 40), 16, 4),
        ((56, 40), 32, 16),
        ((128, 128), 32, 4),
        ((16, 64, 64), 16, 2),
    ],
)
def test_the_estimate_of_memory_is_what_a_step_takes(patch, base, batch):
    code = MEASURE.format(dims=len(patch), patch=patch, base=base, batch=batch)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    predicted, found = map(int, done.stdout.split())
    assert 0.8 < found / predicted < 1.15, f"predicted {amount(predicted)}, found {amount(found)}"


# ---- the single rules ------------------------------------------------------------------------------


def test_the_target_spacing_is_the_median():
    grid, _ = target_grid(
        fingerprint([(10, 20, 30)] * 3, [(1.0, 2.0, 2.5), (1.2, 2.0, 2.0), (3.0, 2.0, 1.0)])
    )
    assert grid.spacing == (1.2, 2.0, 2.0)
    assert grid.shape == (10, 20, 30)  # the median of (8, 20, 38), (10, 20, 30), (25, 20, 15)


def test_few_long_slices_take_the_tenth_percentile():
    slices = [3.0, 5.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 8.0, 9.0, 9.0]
    facts = fingerprint([(20, 200, 200)] * 11, [(s, 1.0, 1.0) for s in slices])
    assert target_grid(facts)[0].spacing == (5.0, 1.0, 1.0)
    many = fingerprint([(80, 200, 200)] * 11, [(s, 1.0, 1.0) for s in slices])  # long voxels, but not few
    assert target_grid(many)[0].spacing == (6.0, 1.0, 1.0)
    fine = fingerprint([(20, 200, 200)] * 11, [(0.5, 1.0, 1.0)] * 2 + [(s, 1.0, 1.0) for s in slices[2:]])
    assert target_grid(fine)[0].spacing == (1.0 + 1e-5, 1.0, 1.0)  # never finer than the other axes


def test_the_first_patch_has_equal_millimetres_and_the_volume_of_a_cube():
    assert first_patch(Grid((1.0, 1.0, 1.0), (500, 500, 500))) == (256, 256, 256)
    assert first_patch(Grid((4.0, 1.0, 1.0), (500, 900, 900))) == (102, 406, 406)
    assert first_patch(Grid((4.0, 1.0, 1.0), (30, 900, 200))) == (30, 406, 200)
    assert first_patch(Grid((1.0, 1.0), (5000, 700))) == (2048, 700)


def test_the_relatively_longest_axis_is_shortened():
    grid = Grid((1.0, 1.0, 1.0), (130, 300, 300))
    smaller = shrunk(nnunet_topology(grid.spacing, (128, 128, 128)), grid, "nnunet")
    assert smaller.patch == (112, 128, 128)  # a multiple of 16: less than 128 is halved 4 times, not 5
    while (smaller := shrunk(smaller, grid, "nnunet")) is not None:
        last = smaller
    assert max(last.patch) < 16  # one step more, and nothing could be halved


# ---- whole plans -----------------------------------------------------------------------------------


def test_hippocampus_gets_nnunets_plan():
    plan = planned((35, 50, 36), (1.0, 1.0, 1.0), cases=260)
    assert list(plan.configurations) == ["2d", "3d_fullres"]
    assert plan.recommended == "3d_fullres"
    full, flat = plan.configurations["3d_fullres"], plan.configurations["2d"]
    assert (full.patch, full.batch, full.features) == ((40, 56, 40), 9, (32, 64, 128, 256))
    assert (flat.patch, flat.batch, flat.features) == ((40, 56), 366, (32, 64, 128, 256))
    assert not full.batch_dice
    assert flat.batch_dice
    assert plan.slice_axis == 2  # of equal spacings the last


def test_a_patch_of_the_brain():
    full = planned((138, 169, 138), (1.0, 1.0, 1.0), memory=10 * GB).configurations["3d_fullres"]
    assert (full.patch, full.batch) == ((128, 128, 128), 2)
    assert full.features == (32, 64, 128, 256, 320, 320)
    assert full.memory <= 10 * GB


@pytest.mark.parametrize("memory", [GB // 2, 8 * GB])
@pytest.mark.parametrize("minutes", [None, 30])
@pytest.mark.parametrize("rule", ["nnunet", "lecture"])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((512, 512, 130), (0.8, 0.8, 2.5)), ((18, 320, 320), (3.6, 0.6, 0.6)), ((61, 47, 33), (1.0, 1.0, 1.0)),
     ((1000, 1500), (1.0, 1.0)), ((9, 300), (1.0, 1.0)), ((300, 1, 280), (1.0, 7.0, 1.0))],
)  # fmt: skip
def test_every_plan_keeps_to_its_limits(shape, spacing, memory, minutes, rule):
    plan = planned(shape, spacing, cases=5, memory=memory, minutes=minutes, rule=rule)
    for c in plan.configurations.values():
        proxy = cost.memory_proxy(c.topology, c.features, 1, 3)
        assert c.memory <= memory
        assert cost.work(c.multiply_adds, proxy * c.batch) <= Limits(memory, minutes, plan.speed).work
        assert c.batch >= 2
        assert c.features[0] in WIDTHS


def test_large_volumes_get_a_cascade():
    plan = planned((512, 512, 130), (0.8, 0.8, 2.5))
    assert list(plan.configurations) == ["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]
    full, low, cascade = (
        plan.configurations[f"3d_{name}"] for name in ("fullres", "lowres", "cascade_fullres")
    )
    assert math.prod(full.patch) < ENOUGH * math.prod(full.median_shape)
    assert math.prod(low.patch) >= ENOUGH * 0.98 * math.prod(low.median_shape)  # the shape is rounded
    assert low.spacing[0] == low.spacing[1]
    assert 1 < low.spacing[2] / low.spacing[0] <= 2 * planner.COARSER  # the fine axes caught up first
    assert (full.batch_dice, low.batch_dice, cascade.batch_dice) == (True, False, True)
    assert (low.previous, cascade.previous) == (None, "3d_lowres")
    for configuration, channels in ((full, 1), (cascade, 1 + 2)):
        small = replace(configuration, features=(2,) * len(configuration.features))
        assert small.network(1, 3).encoder[0][0].conv.in_channels == channels


def test_a_single_slice_is_no_volume():
    plan = planned((300, 1, 280), (1.0, 7.0, 1.0))
    assert list(plan.configurations) == ["2d"]
    assert plan.slice_axis == 1
    assert plan.configurations["2d"].median_shape == (300, 280)


def test_less_time_gives_a_narrower_network_and_then_a_smaller_patch():
    found = [
        planned((35, 50, 36), (1.0,) * 3, 260, minutes=m).configurations["3d_fullres"]
        for m in (3000, 300, 30, 8, 2, 0.5)
    ]
    assert [c.batch for c in found[:2]] == [9, 9]
    assert [c.features[0] for c in found] == sorted((c.features[0] for c in found), reverse=True)
    assert all(math.prod(a.patch) >= math.prod(b.patch) for a, b in pairwise(found))
    assert (found[2].patch, found[2].features[0]) == ((40, 56, 40), 16)
    enough = ENOUGH * 35 * 50 * 36  # the network gets still narrower only where less would be seen
    assert found[3].features[0] == 16
    assert enough <= math.prod(found[3].patch) < 40 * 56 * 40
    assert found[-1].features[0] == WIDTHS[-1]


def test_images_that_are_seen_often_are_changed():
    def augmentation(cases, minutes, shape=(35, 50, 36)):
        return planned(shape, (1.0,) * len(shape), cases, minutes=minutes).augmentation

    assert [augmentation(260, minutes) for minutes in (None, 3000, 30)] == ["nnunet", "nnunet", "none"]
    assert augmentation(20, 30) == "nnunet"
    assert augmentation(3000, 30, (128, 128)) == "mirror"


def test_what_cannot_be_done_is_said():
    with pytest.raises(ValueError, match="too small for 2d: no axis can be halved"):
        planned((6, 7), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"1 MB of memory are not enough for 2d.*; give more"):
        planned((40, 40), (1.0, 1.0), memory=10**6)
    with pytest.raises(ValueError, match=r"8 GB of memory and 0\.0001 minutes are not enough"):
        planned((40, 40), (1.0, 1.0), minutes=0.0001)
    with pytest.raises(ValueError, match="rule must be one of nnunet, lecture, got 'mine'"):
        planned((40, 40), (1.0, 1.0), rule="mine")


def test_reasons_name_what_decided():
    plan = planned((35, 50, 36), (1.0,) * 3, cases=260, minutes=30, channel="CT")
    reasons = {(r.about, r.decision): r for r in plan.reasons}
    assert f"too long for {STEPS} in 30 minutes" in reasons["3d_fullres", "features"].because
    assert "(else 9)" in reasons["3d_fullres", "batch"].because
    assert "clip to -50 ... 200" in reasons["images", "normalisation of CT"].choice
    assert "5% of the dataset" in next(
        r.because for r in planned((35, 50, 36), (1.0,) * 3, 260).reasons if r.decision == "batch"
    )


# ---- the fingerprint -------------------------------------------------------------------------------


class Memory:
    """A dataset of arrays."""

    folder, classes, channels, dims = Path("somewhere"), ("background", "a", "b"), ("CT", "PET"), 2

    def __init__(self, *cases):
        self.cases = cases

    def __len__(self):
        return len(self.cases)

    def load(self, index):
        if isinstance(self.cases[index], str):
            raise DataError(self.cases[index])
        image, label, spacing = self.cases[index]
        return Case(f"case{index}", Image(image.astype(np.float32), spacing), Image(label, spacing))


def test_the_fingerprint_crops_to_what_is_not_empty():
    image, label = np.zeros((2, 10, 12)), np.zeros((10, 12), np.uint8)
    image[0, 2:6, 3] = 5
    image[1, 4, 8] = np.pi
    label[4, 3:5] = 1, 2
    facts = take_fingerprint(
        Memory((image, label, (0.5, 2.0)), (np.zeros((2, 7, 9)), np.zeros((7, 9), int), (1.0, 1.0)))
    )
    assert facts.shapes == ((4, 6), (7, 9))  # an image that is all empty stays whole
    assert facts.spacings == ((0.5, 2.0), (1.0, 1.0))
    assert facts.kept == (24 / 120 + 1) / 2
    assert facts.class_shares == (181 / 183, 1 / 183, 1 / 183)
    assert [i.mean for i in facts.intensities] == [2.5, 0]  # of the foreground's two voxels: 5 and 0; 0 and 0
    assert facts.intensities[0].percentile_99_5 == pytest.approx(5 * 0.995)


def test_empty_surroundings_are_left_out_of_the_normalization():
    for kept, inside in ((0.74, True), (0.75, False)):
        facts = fingerprint([(40, 40)] * 3, [(1.0, 1.0)] * 3, kept)
        (normalization,) = planner.normalizations(facts, ["MRI"])
        assert normalization.inside_nonzero is inside


def test_the_box_of_single_voxels():
    image = np.zeros((1, 3, 1, 4))
    image[0, 2, 0, 0] = -1
    assert nonzero_box(image) == (slice(2, 3), slice(0, 1), slice(0, 1))


def test_all_faults_of_a_dataset_are_listed():
    good = np.ones((4, 4), int), (1.0, 1.0)
    with pytest.raises(DataError, match=r"2 problems:\n  one is broken\n  another too"):
        take_fingerprint(Memory("one is broken", (np.ones((2, 4, 4)), *good), "another too"))
    with pytest.raises(DataError, match="nothing to learn"):
        take_fingerprint(Memory((np.ones((2, 4, 4)), np.zeros((4, 4), int), (1.0, 1.0))))


def test_the_fingerprint_is_the_same_twice():
    dataset = PhantomDataset("train", 3, shape=(200, 210))
    assert take_fingerprint(dataset) == take_fingerprint(dataset)


# ---- files -----------------------------------------------------------------------------------------


def test_a_plan_comes_back_from_its_file(tmp_path):
    for name, plan in {
        "flat": planned((300, 280), (1.0, 1.0), minutes=5, channel="CT"),
        "deep": planned((512, 512, 130), (0.8, 0.8, 2.5)),
    }.items():
        plan.save(tmp_path / name)
        assert Plan.load(tmp_path / name) == plan
    text = (tmp_path / "flat").read_text()
    assert '"median_shape": [300, 280]' in text  # lists stand on one line
    assert max(map(len, text.splitlines())) < 200


HUGE = 10**400
LIES = [
    (("rule",), "magic", "rule must be"),
    (("memory_limit",), -1, "must be positive"),
    (("minutes",), "soon", "minutes: expected"),
    (("minutes",), HUGE, "finite"),
    (("speed",), math.inf, "finite"),
    (("augmentation",), "all", "augmentation must be one of"),
    (("recommended",), "4d", "no configuration '4d'"),
    (("slice_axis",), 3, "slice_axis"),
    (("slice_axis",), True, "slice_axis: expected"),
    (("classes",), ["background"], "2 to 256 classes"),
    (("channels",), [], "1 to 256 channels"),
    (("channels", 0), 7, r"channels\[0\]: expected str, got '7'"),
    (("reasons",), {}, "reasons: expected"),
    (("fingerprint", "shapes"), [], "at least one case"),
    (("fingerprint", "shapes", 0), [3, 4, 5, 6], "same 2 or 3 axes"),
    (("configurations", "2d", "name"), "3d", "is called '3d'"),
    (("configurations", "2d", "previous"), "3d", "no previous"),
    (("configurations", "2d", "dims"), 3, "dims 3"),
    (("configurations", "2d", "dims"), HUGE, "dims 1000"),
    (("configurations", "2d", "patch"), [320, 289], "multiple of all strides"),
    (("configurations", "2d", "patch"), [320.0, 288], r"2d\.patch\[0\]: expected int, got '320.0'"),
    (("configurations", "2d", "patch", 0), HUGE, "from 1 to 4096"),
    (("configurations", "2d", "batch"), 0, "from 1 to 4096"),
    (("configurations", "2d", "batch"), True, "expected int"),
    (("configurations", "2d", "features", 0), 10**9, "from 1 to 4096"),
    (("configurations", "2d", "features"), [32], "2 to 20 stages"),
    (("configurations", "2d", "kernels", 0), [3, 2], "kernels must be"),
    (("configurations", "2d", "strides", 0), [2, 2], "strides must be"),
    (("configurations", "2d", "strides", 1), [0, 2], "strides must be"),
    (("configurations", "2d", "spacing", 0), 0, "spacing must be positive"),
    (("configurations", "2d", "spacing", 0), math.nan, "finite"),
    (("configurations", "2d", "normalization"), [], "normalization for each channel"),
    (("configurations", "2d", "normalization", 0, "scheme"), "pca", "scheme must be"),
    (("configurations", "2d", "normalization", 0, "std"), 1.5, "takes none of them"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "message"), LIES)
def test_a_plan_that_lies_is_refused_by_place(tmp_path, place, value, message):
    path = tmp_path / "plan.json"
    planned((300, 280), (1.0, 1.0)).save(path)
    content = json.loads(path.read_text())
    inside = content
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"plan\.json is not a readable plan: .*{message}"):
        Plan.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"\xff\xfe", b'{"dataset": 1, "x": 2}', b"[" * 100_000]
)
def test_what_is_no_plan_is_refused(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a readable plan"):
        Plan.load(path)
    with pytest.raises(ValueError, match="is not a readable plan"):
        Plan.load(tmp_path / "nowhere.json")


def test_a_truncated_plan_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    planned((300, 280), (1.0, 1.0), cases=2).save(path)
    whole = path.read_bytes()
    for n in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match="is not a readable plan"):
            Plan.load(path)


def test_text_is_json():
    value = {"a": [list(range(60)), [[1, 2], [3, 4]]], "b": {"c": [], "d": {}, "e": "x, y" * 40}, "f": None}
    assert json.loads(to_text(value)) == value
    assert parse(tuple[int, ...], [1, 2]) == (1, 2)
    with pytest.raises(ValueError, match=r"\[1\]: expected int, got 'None'"):
        parse(tuple[int, ...], [1, None])


# ---- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * GB),
        ("8 GiB", 8 * 2**30),
        ("500mb", 5 * 10**8),
        ("1.5e9", 1_500_000_000),
        ("2TB", 2000 * GB),
    ],
)
def test_amounts_of_memory(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8XB", "-1GB", "0", "nan", "infGB", "8 GB or so"])
def test_what_is_no_amount_of_memory(text, capsys):
    with pytest.raises(ValueError, match="is no amount of memory"):
        bytes_of(text)
    with pytest.raises(SystemExit):
        main(["plan", "data", f"--memory={text}"])
    assert "is no amount of memory" in capsys.readouterr().err


def test_the_command_writes_a_plan_and_says_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "measure_speed", lambda dims: 6e10)
    data, out = write_volumes(tmp_path / "data", size=(34, 40, 16)), tmp_path / "new" / "plan.json"
    assert main(["plan", str(data), "--memory", "1GB", "--minutes", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for part in ("3d_fullres", "By the lecture's rule", "every axis is halved while it has 8", "organ",
                 "1 GB", f"minidl train --plan {out}"):  # fmt: skip
        assert part in printed
    plan = Plan.load(out)
    assert plan.dataset == str(data)
    assert plan.minutes == 5
    assert plan.classes == ("background", "organ", "lesion")


def test_the_command_takes_pictures_and_the_other_rule(tmp_path, capsys):
    data, out = write_pictures(tmp_path / "data"), tmp_path / "plan.json"
    assert main(["plan", str(data), "--rule", "lecture", "--minutes", "unlimited", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "every axis is halved until it has size 8" in printed
    assert "By nnU-Net's rule" in printed
    assert "1x1 pixel" in printed  # pictures do not say how many mm
    assert Plan.load(out).rule == "lecture"
    assert main(["plan", str(tmp_path), "--memory", "1kB", "--out", str(out)]) == 2
    assert "not enough" in capsys.readouterr().err
    assert Plan.load(out).rule == "lecture"  # the old plan is still whole
