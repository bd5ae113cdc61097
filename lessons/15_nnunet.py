# %% [markdown]
# # 15 · nnU-Net: rules instead of taste
#
# **At the end you own this sentence:** nnU-Net adds almost nothing to the U-Net; it computes the network's shape
# from the sizes of the images and voxels, by rules so plain that you can follow them with a pencil.
#
# *Needs:* lesson 13 (a U-Net from start to finish), lesson 14 (memory in 3-D). *Takes:* 40 minutes. *New:* fingerprint,
# topology, anisotropic kernels and strides, deep supervision, nnU-Net's augmentation.

# %%
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, notebook, optim, plot
from minidl.data import PhantomDataset, phantom_case
from minidl.data.augment import AUGMENTATIONS, NNUNET, Augmentation, intensity
from minidl.data.augment.spatial import Spatial
from minidl.nn.functional.deep_supervision import deep_supervision_weights
from minidl.segment.inference import gaussian_window, sliding_window, window_starts
from minidl.segment.metrics import dice
from minidl.segment.plan import Fingerprint, take_fingerprint
from minidl.segment.plan.cost import memory_proxy, parameters, widths
from minidl.segment.plan.fingerprint import Intensities
from minidl.segment.plan.planner import Limits, Planner
from minidl.segment.plan.rules import Grid, first_patch, shrunk, target_grid
from minidl.segment.plan.topology import lecture_topology, nnunet_topology
from minidl.segment.sampling import Sampler

notebook.style()


def draw_topology(thickness: float) -> None:
    """How long a voxel is in each stage, for slices of that thickness (mm); crosses: kernels of width 1."""
    t = nnunet_topology((thickness, 0.62, 0.62), (20, 320, 256))
    lengths = np.cumprod(t.strides, axis=0) * [thickness, 0.62, 0.62]
    plt.figure(figsize=(7, 3.4))
    for axis, (name, mark) in enumerate({"across the slices": "o-", "within a slice": "s--"}.items()):
        plt.plot(lengths[:, axis], mark, label=name)
    flat = [k for k, kernel in enumerate(t.kernels) if kernel[0] == 1]
    plt.plot(flat, lengths[flat, 0], "x", color="black", markersize=13, label="kernel 1 across the slices")
    plt.yscale("log", base=2)
    plt.gca().yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    plt.gca().set(xlabel="stage (0 = full resolution)", ylabel="length of a voxel (mm)")
    plt.title(
        f"slices of {thickness:g} mm, pixels of 0.62 mm: halved {t.pools[0]}, {t.pools[1]} and {t.pools[2]} times"
    )
    plt.legend()
    plt.show()


notebook.explore(draw_topology, thickness=(3.6, [0.62, 1.2, 2.5, 3.6, 5.0, 10.0]))

# %% [markdown]
# An MR scan of a prostate: 20 slices of 3.6 mm, each with pixels of 0.62 mm. Look at the picture. The network first
# halves the slices' own axes only. When their voxels are more than half as long as the slices are thick, all three axes go
# down together. Then 5 slices are left, too few to halve, and the other axes go on alone.
#
# Nobody drew this network for prostates. The lecture says it in one line: *the depth of the models is adaptive to the
# dataset*. This lesson computes it. We follow nnU-Net's second version and say where the lecture's is different.
#
# ## 1. The topology rule
#
# Before each halving, look at every axis:
#
# 1. it **can** be halved if it has at least 8 samples (so that at least 4 remain);
# 2. of those, halve the ones whose voxels are **less than twice as long** as the shortest among them;
# 3. one axis alone goes on only if it has at least 12 samples.
#
# And a kernel is 3 wide along an axis from the stage on where its voxels are less than twice as long as the shortest of
# all; before that it is 1 wide, because the neighbour is too far away to belong to the same detail.
#
# **Predict, with a pencil:** voxels of 1 x 1 mm, a patch of 96 x 24. How often is each axis halved? (24 → 12 → 6, and 96?)


# %%
def topology(spacing, patch):
    """How often each axis is halved, the strides after stage 0, the kernels, and the padded patch."""
    spacing, size, dims = list(spacing), list(patch), len(patch)
    kernel, kernels, strides = [1] * dims, [], []
    while True:
        for i in range(dims):
            if spacing[i] / min(spacing) < 2:
                kernel[i] = 3
        kernels.append(tuple(kernel))
        can = [i for i in range(dims) if size[i] >= 8]
        now = [i for i in can if spacing[i] / min(spacing[j] for j in can) < 2]
        if not now or (len(now) == 1 and size[now[0]] < 12):
            break
        for i in now:
            spacing[i], size[i] = 2 * spacing[i], math.ceil(size[i] / 2)
        strides.append(tuple(2 if i in now else 1 for i in range(dims)))
    kernels[-1] = (3,) * dims
    pools = tuple(sum(s[i] == 2 for s in strides) for i in range(dims))
    padded = tuple(math.ceil(n / 2**p) * 2**p for n, p in zip(patch, pools))
    return pools, strides, kernels, padded


pools, strides, _, _ = topology((1, 1), (96, 24))
print("halved", pools, "times, with strides", strides)
assert pools == (4, 2) and strides == [(2, 2), (2, 2), (2, 1), (2, 1)]

# %% [markdown]
# 24 → 12 → 6 stops after two, 96 goes on to 6 alone. The bottleneck is 6 x 6: about a square.
#
# Twenty lines. Now some cases with known answers (made by running nnU-Net's own function), and minidl's rule beside them.

# %%
golden = [
    # spacing, patch -> halvings, padded patch
    ((1, 1), (256, 256), (6, 6), (256, 256)),
    ((1, 1), (200, 168), (5, 5), (224, 192)),
    ((1, 1, 1), (128, 128, 128), (5, 5, 5), (128, 128, 128)),
    ((1, 1, 1), (33, 50, 17), (3, 3, 2), (40, 56, 20)),
    ((1, 1, 1), (64, 16, 128), (4, 2, 4), (64, 16, 128)),
    ((3.6, 0.62, 0.62), (20, 320, 256), (2, 6, 6), (20, 320, 256)),
    ((5, 1.56, 1.56), (20, 256, 224), (2, 5, 5), (20, 256, 224)),
    ((10, 1.25, 1.25), (10, 512, 512), (1, 7, 7), (10, 512, 512)),
    ((2, 1, 1), (32, 64, 64), (3, 4, 4), (32, 64, 64)),
    ((2.5, 0.8, 0.8), (28, 256, 256), (2, 6, 6), (28, 256, 256)),
]
for spacing, patch, pools, padded in golden:
    ours, theirs = topology(spacing, patch), nnunet_topology(spacing, patch)
    assert ours[0] == pools == theirs.pools and ours[3] == padded == theirs.patch
    assert ours[1] == list(theirs.strides[1:]) and ours[2] == list(theirs.kernels)
    print(f"{spacing!s:18} {patch!s:16} -> {pools}, bottleneck {theirs.bottleneck}")
    assert all(4 <= n <= 7 for n in theirs.bottleneck) or theirs.bottleneck in ((4, 4, 8), (5, 8, 7))
assert nnunet_topology((2, 1, 1), (32, 64, 64)).kernels[:2] == ((1, 3, 3), (3, 3, 3))

# %% [markdown]
# The last numbers of each row: the bottleneck is 4 to 7 samples long, whatever came in. (An 8 is there twice: an axis
# that is alone in the end needs 12 samples to go on.)
#
# Mind a trap in the case `(2, 1, 1)`: a ratio of *exactly* 2 is not less than 2, so the first stage has flat kernels.
# And `(33, 50, 17)`: 17 → 9 → 5, so it is padded to a multiple of 4, which is 20.
#
# **The lecture's rule** is that of the first preprint: *down to size 8 in each dimension*, whatever the spacing.
# **Predict:** what does it do with the 20 slices of the prostate, and with 10 slices of 10 mm?

# %%
for spacing, patch in (((3.6, 0.62, 0.62), (20, 320, 256)), ((10, 1.25, 1.25), (10, 512, 512))):
    first, second = lecture_topology(spacing, patch), nnunet_topology(spacing, patch)
    print(
        f"{patch}: lecture {first.pools} with first stride {first.strides[1]}, nnU-Net {second.pools}, {second.strides[1]}"
    )
    assert set(sum(first.kernels, ())) == {3} and second.kernels[0] == (1, 3, 3)
assert lecture_topology((3.6, 0.62, 0.62), (20, 320, 256)).pools == (1, 5, 5)
assert lecture_topology((3.6, 0.62, 0.62), (20, 320, 256)).strides[1] == (2, 2, 2)

# %% [markdown]
# The lecture's rule halves the 3.6 mm axis at once, and its kernels mix slices 3.6 mm apart with pixels 0.62 mm apart.
#
# ## 2. Five data sets
#
# The planner looks at no image content to choose the shape. All it takes is a **fingerprint**: sizes, spacings, the number of
# cases. Five made-up ones, of the kind that such data have (voxels x voxels x voxels, mm):

# %%
DATA = {  # median shape, spacing, cases
    "hippocampus, cut out": ((36, 50, 35), (1, 1, 1), 260),
    "brain with tumour": ((138, 169, 138), (1, 1, 1), 484),
    "prostate, MR": ((20, 320, 319), (3.6, 0.62, 0.62), 32),
    "heart, MR": ((18, 237, 208), (5, 1.56, 1.56), 200),
    "abdomen, CT": ((96, 512, 512), (2.5, 0.8, 0.8), 281),
}
figure, axes = plt.subplots(2, 5, figsize=(12, 4.6))
for (whole, voxels), (name, (shape, spacing, _)) in zip(axes.T, DATA.items()):
    depth, _, width = np.multiply(shape, spacing)
    whole.add_patch(plt.Rectangle((-width / 2, -depth / 2), width, depth, color="#56B4E9"))
    whole.set(title=name.replace(", ", ",\n").replace(" with", "\nwith"), xlim=(-215, 215), ylim=(-130, 130))
    for z, x in np.ndindex(*np.ceil(12 / np.array(spacing)[[0, 2]]).astype(int)):
        corner = x * spacing[2], z * spacing[0]
        voxels.add_patch(
            plt.Rectangle(corner, spacing[2], spacing[0], facecolor="white", edgecolor="#0072B2")
        )
    voxels.set(xlim=(0, 12), ylim=(0, 12))
    for axis in (whole, voxels):
        axis.set(xlabel="mm", aspect="equal")
axes[0, 0].set_ylabel("whole image:\nacross slices (mm)")
axes[1, 0].set_ylabel("its voxels (mm)")
assert 512 * 0.8 > 10 * 35 and 5.5 < 3.6 / 0.62 < 6

# %% [markdown]
# The images differ more than tenfold in width, and a voxel is one to almost six times as long as wide; and each of them is to be fed to "a
# U-Net" on the same card.
#
# **Step a: the spacing.** All images are resampled to the median spacing, so that a voxel means the same in each. One exception:
# if one axis is much coarser than the others (3 times), its *10th percentile* is taken, so that the finer images lose no slices.
# **Predict:** slices of 3, 5, 5, 5 and 10 mm, pixels of 1 mm. Median 5: and the 10th percentile?

# %%
no_intensities = (Intensities(0, 0, 1, 0, 1),)
thick = (3.0, 5.0, 5.0, 5.0, 10.0)
mixed = Fingerprint(
    ((20, 200, 200),) * 5, tuple((t, 1.0, 1.0) for t in thick), 1.0, (0.9, 0.1), no_intensities
)
grid, why = target_grid(mixed)
print(grid.spacing, "because:", why)
assert np.isclose(grid.spacing[0], np.percentile(thick, 10)) and np.isclose(grid.spacing[0], 3.8)

# %% [markdown]
# **Step b: the first patch.** As many *millimetres* along each axis, the volume of a cube of 256 voxels, and nowhere more than the
# image has. **Predict:** which of the five fit in whole?

# %%
grids = {name: Grid(spacing, shape) for name, (shape, spacing, _) in DATA.items()}


def patch_by_hand(spacing, shape):
    """Edges ∝ 1 / spacing, their product 256³, cut to the image."""
    edges = 1 / np.array(spacing)
    edges *= 256 / edges.prod() ** (1 / 3)
    return tuple(min(round(e), n) for e, n in zip(edges.tolist(), shape))


for name, grid in grids.items():
    assert patch_by_hand(grid.spacing, grid.shape) == first_patch(grid)
    print(f"{name:22} {grid.shape} -> {first_patch(grid)}")

# %% [markdown]
# **Step c: memory.** nnU-Net does not measure memory, it *counts the numbers that all convolutions make*. A cube of 128 with one
# channel and three classes makes 452,796,416 of them. The limit, for 8 GB of card, is 560 million with two patches in a batch.
# As long as the count is larger, the axis that is longest *relative to the image* gets shorter by one unit of its halvings.

# %%
REFERENCE, PATCHES = 560_000_000, 2  # nnU-Net's, for 3-D and 8 GB
count = lambda t: memory_proxy(t, widths(32, t), 1, 3)
cube = nnunet_topology((1, 1, 1), (128, 128, 128))
assert count(cube) == 452_796_416
plans = {}
for name, grid in grids.items():
    t = nnunet_topology(grid.spacing, first_patch(grid))
    tries = [t.patch]
    while count(t) > REFERENCE:
        t = shrunk(t, grid, "nnunet")
        tries.append(t.patch)
    plans[name] = t
    print(
        f"{name:22} {tries[0]} -> {t.patch}: {len(tries) - 1} times shortened, {count(t) / 1e6:.0f} million"
    )

# %% [markdown]
# **Step d: the batch.** If the count leaves room, there are more patches: round(560 million / count · 2). But no more than 5 % of
# all voxels of the data set, or batches would all be alike; and no fewer than 2. **Predict:** for which of the five does the 5 % rule
# bite?


# %%
def batch_size(patch, count, shape, cases):
    """What memory allows, at most 5 % of the data set, at least 2."""
    room = round(REFERENCE / count * PATCHES)
    share = round(0.05 * math.prod(shape) * cases / math.prod(patch))
    return max(min(room, share), 2), room, share


print(f"{'':22}{'patch':>15} {'halved':>9} {'bottleneck':>11} {'parameters':>11} {'batch':>6} (memory, 5 %)")
batches = {}
for name, t in plans.items():
    shape, _, cases = DATA[name]
    batches[name], room, share = batch_size(t.patch, count(t), shape, cases)
    assert (share < room) == (name == "hippocampus, cut out")
    text = " x ".join(map(str, t.patch))
    size = parameters(t, widths(32, t), 1, 3) / 1e6
    print(
        f"{name:22}{text:>15} {t.pools!s:>9} {t.bottleneck!s:>11} {size:9.1f} M {batches[name]:6} ({room}, {share})"
    )
assert plans["brain with tumour"].patch == (128, 128, 128) and plans["abdomen, CT"].patch == (40, 224, 224)
assert plans["prostate, MR"].patch == (20, 320, 256) and plans["heart, MR"].pools == (2, 5, 5)
assert list(batches.values()) == [9, 2, 2, 4, 2]
assert 0.3 < 58 * 40 * 56 * 40 / (260 * 36 * 50 * 35) < 1 / 3
assert parameters(cube, widths(32, cube), 1, 3) == 31_196_399

# %% [markdown]
# Only for the hippocampus: the images are small, and 58 padded patches hold nearly a third of all voxels.
#
# **Step e: does a patch see enough?** If it covers less than a quarter of the median image, a second network looks at the
# whole, coarser image first, and hands its answer to the fine one: the **cascade**. **Predict:** for which of the five?

# %%
seen = {name: min(1, math.prod(t.patch) / math.prod(DATA[name][0])) for name, t in plans.items()}
for name, share in seen.items():
    print(f"{name:22} a patch covers {share:4.0%} {'-> cascade' if share < 0.25 else ''}")
assert [name for name, share in seen.items() if share < 0.25] == ["abdomen, CT"]

# %% [markdown]
# That was the planner, by hand. minidl's does the same, counts memory in the bytes that minidl takes (float32, so batches
# or patches are smaller), can plan for a given number of minutes, and writes down *why*:

# %%
shape, spacing, cases = DATA["heart, MR"]
heart = Fingerprint((shape,) * cases, (spacing,) * cases, 1.0, (0.9, 0.06, 0.04), no_intensities)
plan = Planner(heart, ["MR"], ["background", "ventricle", "wall"], Limits(8_000_000_000, None, 1e10)).plan(
    "heart"
)
for reason in plan.reasons:
    if reason.about in ("images", "3d_fullres"):
        print(f"{reason.decision}: {reason.choice}\n    {reason.because}")
assert plan.configurations["3d_fullres"].topology.pools == plans["heart, MR"].pools
assert plan.configurations["3d_fullres"].batch < batches["heart, MR"]

# %% [markdown]
# ## 3. Augmentation
#
# *Raw image input → random data augmentation*, says the lecture. Here are nnU-Net's changes, one by one, each at a strong draw. **Predict:** for
# which of them must the label change, too?

# %%
x, y = phantom_case("train", 3, (96, 96))
x = ((x - x.mean()) / x.std()).astype(np.float32)
whole = dict(starts=(0, 0), patch=(96, 96))
SPATIAL = {
    "rotation": Augmentation(Spatial(rotation=1, scaling=0)),
    "scaling": Augmentation(Spatial(rotation=0, scaling=1)),
    "mirror": Augmentation(mirror=1),
}
pictures = {"as it is": (x, y)}
for name, change in SPATIAL.items():
    image, label = change.patch(x[None], y, rng=np.random.default_rng(1), **whole)
    pictures[name] = image[0], label
for change in (intensity.gaussian_noise, intensity.gaussian_blur, intensity.brightness, intensity.contrast,
               intensity.low_resolution, intensity.gamma):  # fmt: skip
    draws = [change(x, np.random.default_rng(s)) for s in range(8)]
    pictures[change.__name__] = max(draws, key=lambda d: abs(d - x).sum()), y
figure, axes = plt.subplots(2, 5, figsize=(11, 4.9))
for axis, (name, (image, label)) in zip(axes.flat, pictures.items()):
    axis.imshow(image, vmin=x.min(), vmax=x.max())
    axis.contour(label == 1, [0.5], colors="#0072B2", linewidths=1)
    axis.contour(label == 2, [0.5], colors="#E69F00", linewidths=1)
    axis.set(title=name.replace("_", " "), xticks=[], yticks=[])
moved = [name for name, (_, label) in pictures.items() if not np.array_equal(label, y)]
assert moved == ["rotation", "scaling", "mirror"]

# %% [markdown]
# Those that move something. Each change is drawn by itself and *rarely*. **Predict:** rotation 20 %, scaling 20 %, noise 10 %, blur 10 %,
# brightness 15 %, contrast 15 %, low resolution 12.5 %, two kinds of gamma 10 and 30 %. What share of the patches comes through
# unchanged, but for mirroring? (For one channel; blur and low resolution are drawn at 20 and 25 %, then for half of the channels.)

# %%
chances = [
    NNUNET.spatial.rotation,
    NNUNET.spatial.scaling,
    *(r.probability * r.per_channel for r in NNUNET.intensity),
]
untouched = np.prod([1 - p for p in chances])
rng = np.random.default_rng(0)
tiny, blank = rng.normal(size=(1, 12, 12)).astype(np.float32), np.zeros((12, 12), int)
mirrored = [tiny[:, ::a, ::b] for a in (1, -1) for b in (1, -1)]
draws = [NNUNET.patch(tiny, blank, (0, 0), (12, 12), rng)[0] for _ in range(500 if notebook.FAST else 2000)]
measured = np.mean([any(np.array_equal(d, m) for m in mirrored) for d in draws])
print([round(p, 3) for p in chances], f"-> {untouched:.3f} untouched; drawn: {measured:.3f}")
assert (
    np.allclose(chances, [0.2, 0.2, 0.1, 0.1, 0.15, 0.15, 0.125, 0.1, 0.3])
    and abs(untouched - measured) < 0.06
)
how_many = np.ones(1)  # the chance of 0, 1, 2, ... changes
for p in chances:
    how_many = np.convolve(how_many, [1 - p, p])
assert round(untouched, 1) == 0.2 and how_many[1:3].sum() > 0.6

# %% [markdown]
# About a fifth. The network still sees what real images look like.
#
# The lecture's table (lesson 16) has a row for training without augmentation: pancreas -11.3 %, lung +4.2 %. It is
# not a law that it helps; it helps where images are few and a training is long.
#
# ## 4. The recipe
#
# The rest is the same for every data set:
#
# | | nnU-Net |
# |---|---|
# | block | convolution, **instance norm**, **leaky ReLU** 0.01; two per stage |
# | down, up | stride 2 in the first convolution; transposed convolution with kernel = stride |
# | loss | **Dice + cross-entropy**, at every resolution of the decoder (deep supervision) |
# | optimizer | SGD, momentum 0.99 (Nesterov), weight decay 3e-5, rate 0.01 · (1 - done)^0.9 |
# | patches | a third of a batch around foreground |
# | prediction | windows that overlap by half, weighted by a Gaussian; the mean over all mirror images |
#
# Bold is what the lecture names as the change from the U-Net. **Deep supervision** is new: coarse stages of the decoder make
# a segmentation, too, and are compared with the truth at their size. Weights halve from one resolution to the next, the coarsest
# gets 0. **Predict:** five resolutions. What is the weight of the finest?

# %%
weights = deep_supervision_weights(5)
print(" ".join(f"{w:.3f}" for w in weights))
assert np.allclose(weights, np.array([8, 4, 2, 1, 0]) / 15)

# %% [markdown]
# And how does a network for small patches answer for a large image? Windows, half overlapping, evenly spread: 110 samples, windows of 64.
# In the middle of a window the network has seen all around, at its border not. So the middle counts more.

# %%
starts = window_starts(110, 64)
assert starts == [0, 23, 46]
line = gaussian_window((64,))
figure, axes = plt.subplots(1, 2, figsize=(10.5, 2.9))
total = np.zeros(110)
for s in starts:
    axes[0].plot(np.arange(s, s + 64), line, label=f"window from {s}")
    total[s : s + 64] += line
for s in starts:
    axes[1].plot(np.arange(s, s + 64), line / total[s : s + 64])
axes[0].set(xlabel="sample", ylabel="weight", title="weights of the windows", ylim=(0, 1.6))
axes[0].legend(fontsize=10, ncols=2)
axes[1].set(xlabel="sample", ylabel="share of the answer", title="divided by their sum")
assert np.isclose(line.min(), 3.3546e-4, rtol=1e-3)

# %% [markdown]
# ## 5. All of it, in small
#
# Forty phantoms, a plan for a short training, the recipe. Nothing in this cell knows about the data but the plan. (Adam stands in for SGD: a
# momentum of 0.99 remembers a hundred steps, and we make little more.)

# %%
train = PhantomDataset("train", 16 if notebook.FAST else 40, shape=(64, 64))
fingerprint = take_fingerprint(train, progress=False)
plan = Planner(fingerprint, train.channels, train.classes, Limits(2**30, 4.0, 3e10)).plan("phantoms")
small = plan.configurations[plan.recommended]
print(f"{small.name}: patch {small.patch}, batch {small.batch}, features {small.features}, "
      f"halved {small.topology.pools}, augmentation {plan.augmentation!r}")  # fmt: skip


# %%
def loaded(dataset):
    """Its cases, each image with mean 0 and standard deviation 1."""
    cases = []
    for case in map(dataset.load, range(len(dataset))):
        array = (case.image.array - case.image.array.mean()) / case.image.array.std()
        cases.append(replace(case, image=replace(case.image, array=array.astype(np.float32))))
    return cases


minidl.manual_seed(0)
steps = 40 if notebook.FAST else 150
net = small.network(1, 3)
sampler = Sampler(loaded(train), small.patch, small.batch, AUGMENTATIONS[plan.augmentation], seed=0)
optimizer, losses = optim.Adam(net.parameters(), lr=1e-2), []
schedule = optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
loss_of = lambda z, y: F.dice_ce_loss(z, y, batch=True)
for step in range(1, steps + 1):
    images, labels = map(minidl.tensor, sampler.batch(step))
    loss = F.deep_supervision_loss(net(images), labels, loss_of)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
print(f"loss {np.mean(losses[:5]):.2f} -> {np.mean(losses[-5:]):.2f}")
assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3

# %% [markdown]
# And an image of another size, 96 x 96, which the network meets in windows of its patch:

# %%
net.eval()


def network(batch: np.ndarray) -> np.ndarray:
    """Logits of windows (N, 1, h, w)."""
    with minidl.no_grad():
        return net(minidl.tensor(batch)).numpy()


tests = loaded(PhantomDataset("test", 3, shape=(96, 96)))
answers = [sliding_window(network, case.image.array, small.patch).argmax(0) for case in tests]
figure, axes = plt.subplots(1, 3, figsize=(9, 3.3))
for axis, case, answer in zip(axes, tests, answers):
    truth = case.label.array
    axis.imshow(plot.error_overlay(case.image.array[0], answer, truth))
    organ, lesion = (dice(answer == c, truth == c) for c in (1, 2))
    axis.set(title=f"Dice: organ {organ:.2f}, lesion {lesion:.2f}", xticks=[], yticks=[])
organ = np.mean([dice(a == 1, c.label.array == 1) for a, c in zip(answers, tests)])
assert organ > 0.7

# %% [markdown]
# Green is right, orange-red too much, yellow missed, pink the wrong class. In this run the organ is found; lesions are still
# mixed up with vessels, which are as bright. nnU-Net trains for 1000 epochs of 250 steps, five networks on five splits, and
# averages them. We made 150 steps.
#
# ## Exercises
#
# **1. The lecture's depth.** Write `lecture_pools(n, most)`: how often an axis of n samples can be halved until it has size 8 (never shorter
# than 8), at most `most` times.


# %% tags=["exercise"]
def lecture_pools(n, most):
    """Replace the next line."""
    return most


# %% [markdown]
# <details><summary>Hint</summary>
#
# As long as `n // 2` is at least 8 and fewer than `most` halvings are made: halve. 20 is halved once, 512 six times.
#
# </details>


# %% tags=["solution"]
def lecture_pools(n, most):
    """Count halvings while 8 or more remain."""
    pools = 0
    while n // 2 >= 8 and pools < most:
        n, pools = n // 2, pools + 1
    return pools


# %%
right = lambda n, most: min(max(int(np.log2(n / 8)), 0), most)
assert all(right(n, 5) == lecture_topology((1, 1, 1), (n, 256, 256)).pools[0] for n in (9, 20, 130))
check.function("lecture_pools", lecture_pools, right, (20, 5), (512, 6), (128, 5), (7, 5), (4096, 6))

# %% [markdown]
# **2. Windows.** Write `starts(size, window)`: where windows begin that are evenly spread, at most half a window apart, the first at 0 and the last at
# `size - window`.


# %% tags=["exercise"]
def starts(size, window):
    """Replace the next line."""
    return list(range(0, size, window))


# %% [markdown]
# <details><summary>Hint</summary>
#
# There are $\lceil (size - window) / (window / 2) \rceil$ steps between them. Round the starts to whole samples. One window is enough for an image that is no
# larger.
#
# </details>


# %% tags=["solution"]
def starts(size, window):
    """Evenly spread, at most half a window apart."""
    if size <= window:
        return [0]
    count = math.ceil((size - window) / (window / 2)) + 1
    return [round(i * (size - window) / (count - 1)) for i in range(count)]


# %%
check.function("starts", starts, window_starts, (110, 64), (65, 64), (100, 32), (128, 48), (64, 64))

# %% [markdown]
# **3. A sixth data set.** Cone-beam CT of teeth: 0.4 mm in all directions, 200 x 400 x 400 voxels, 50 cases. What are the first patch, and the patch after
# shrinking? Fill in two tuples.

# %% tags=["exercise"]
first = (0, 0, 0)
last = (0, 0, 0)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The steps b and c: `patch_by_hand`, `nnunet_topology`, then `shrunk` while `count` is above the reference.
#
# </details>

# %% tags=["solution"]
teeth = Grid((0.4, 0.4, 0.4), (200, 400, 400))
first = patch_by_hand(teeth.spacing, teeth.shape)
t = nnunet_topology(teeth.spacing, first)
while count(t) > REFERENCE:
    t = shrunk(t, teeth, "nnunet")
last = t.patch

# %%
answer = nnunet_topology((0.4,) * 3, first_patch(Grid((0.4,) * 3, (200, 400, 400))))
while count(answer) > REFERENCE:
    answer = shrunk(answer, Grid((0.4,) * 3, (200, 400, 400)), "nnunet")
check.value("the patches of the teeth", [first, last], [(200, 256, 256), answer.patch])

# %% [markdown]
# ## What you can now explain
#
# - how sizes and spacings alone decide depth, strides, kernels, patch and batch;
# - why thick slices are not mixed and not halved at first, and when they are;
# - that the lecture's rule (down to size 8) and today's nnU-Net's (down to 4 to 7, by millimetres) differ, and where;
# - what each augmentation pretends, and that most patches get one or two;
# - that the network is a plain U-Net, with leaky ReLU, instance norm, Dice + cross-entropy and deep supervision.
#
# **Where this stands.** F. Isensee et al., *nnU-Net: self-adapting framework for U-Net-based medical image segmentation*,
# arXiv:1809.10486 (2018), is the lecture's; F. Isensee et al., *nnU-Net: a self-configuring method for deep learning-based biomedical image
# segmentation*, Nature Methods 18 (2021), has the rules of sections 1 and 2; the numbers are those of its public code, second version
# (`network_topology.py`, `default_experiment_planner.py`, `nnUNetTrainer.py`). 128³, or 8 GB, are no laws of nature: they are what cards held.
