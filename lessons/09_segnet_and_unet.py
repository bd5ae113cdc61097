# %% [markdown]
# # 09 · SegNet and U-Net
#
# **At the end you own this sentence:** SegNet hands the decoder the places of the maxima, the U-Net hands it the features
# themselves; what that is worth is measured at the boundary.
#
# *Needs:* lesson 08 (what is lost, boundary error). *Takes:* 35 minutes. *New:* pooling indices, unpooling, skip
# connections, a fair comparison.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import minidl
import minidl.nn.functional as F
from minidl import check, models, nn, notebook, optim
from minidl.data import PhantomDataset
from minidl.models.blocks import initialize, stage
from minidl.segment.metrics import average_surface_distance, dice

notebook.style()
x = minidl.tensor([[4.0, 1, 0, 2], [3, 2, 7, 1], [1, 0, 2, 2], [6, 5, 0, 3]])[None, None]
pooled, where = F.max_pool2d(x, 2, return_indices=True)
unpooled = F.max_unpool2d(pooled, where, 2)
enlarged = F.interpolate(pooled, scale_factor=2)

pictures = {"features": x, "max pooling": pooled, "enlarged": enlarged, "unpooled at the places": unpooled}
figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
for axis, (title, values) in zip(axes, pictures.items()):
    values = values.numpy()[0, 0]
    axis.imshow(values, cmap="Blues", vmin=0, vmax=12)
    for (i, j), number in np.ndenumerate(values):
        axis.text(j, i, f"{number:g}", ha="center", va="center")
    axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# An encoder-decoder knows what is there and forgets where it ends (lesson 08). Two papers of 2015 repaired that. Both let
# the decoder see something of the way down.
#
# ## SegNet: keep the places
#
# Max pooling keeps the largest of four numbers and forgets where it stood. SegNet writes the place down. *Unpooling* puts
# the number back there, with zeros around it; convolutions then fill the gaps.
#
# **Predict, then run:** the places are counted row by row, from 0 to 15. Which four are kept above?

# %%
print("maxima:", pooled.flatten().tolist(), " places:", where.flatten().tolist())
assert pooled.flatten().tolist() == [4, 7, 6, 3] and where.flatten().tolist() == [0, 6, 12, 15]
by_hand = np.zeros(16)
by_hand[where.numpy().ravel()] = pooled.numpy().ravel()
assert unpooled.flatten().tolist() == by_hand.tolist()

# %% [markdown]
# A place is one of four: two bits for each window. That is cheap. **Predict:** how many times more memory does it take to
# keep the features themselves, four numbers of 32 bits each?

# %%
print(f"{4 * 32 / math.log2(4):g} times more")
places, features = 64 * 128**2 * 2 / 8, 64 * 256**2 * 4  # bytes, for 64 channels of 256 x 256
print(f"64 channels of 256 x 256: places {places / 1e6:.2f} MB, features {features / 1e6:.1f} MB")
assert 4 * 32 / math.log2(4) == features / places == 64

# %% [markdown]
# Odd sizes: 45 and 46 rows both become 23 when rounded up. So unpooling has to be *told* the size.

# %%
for rows in (45, 46):
    small, at = F.max_pool2d(minidl.ones(1, 1, rows, 4), 2, ceil_mode=True, return_indices=True)
    back = F.max_unpool2d(small, at, 2, output_size=(rows, 4))
    print(rows, "->", small.shape[2], "->", back.shape[2])
    assert (small.shape[2], back.shape[2]) == (23, rows)

# %% [markdown]
# ## U-Net: keep the features
#
# The U-Net keeps *all* features of the encoder and lays them next to the enlarged ones, as more channels. The next
# convolution chooses: what it is from the one, where it is from the other. This is a **skip connection**.

# %%
coarse, fine = minidl.randn(1, 16, 6, 6), minidl.randn(1, 8, 12, 12)
joined = minidl.cat([F.interpolate(coarse, scale_factor=2), fine], dim=1)
print(joined.shape)
assert joined.shape == (1, 16 + 8, 12, 12)
assert (joined[:, 16:] == fine).all()  # untouched: every pixel of the encoder arrives

# %% [markdown]
# ## One network, three bridges
#
# Published SegNets and U-Nets differ in many ways: depth, widths, pooling, normalisation. To learn what the *bridge* does,
# all else must be equal. So we write one network whose bridge can be "nothing", "places" or "features". Look for the two
# `if`s in `forward`: there is no other difference, but for the channels that a decoder stage reads.

# %%
WIDTHS = (8, 16, 16, 16)


class Net(nn.Module):
    """An encoder and a decoder of four stages; `bridge` is what the decoder sees of the encoder."""

    def __init__(self, bridge: str):
        super().__init__()
        self.bridge, self.encoder, self.decoder = bridge, nn.ModuleList(), nn.ModuleList()
        for before, width in zip((1, *WIDTHS), WIDTHS):
            self.encoder.append(stage(before, width, dims=2, norm="batch"))
        for width, after in zip(WIDTHS[::-1], (*WIDTHS[-2::-1], WIDTHS[0])):
            joined = 2 * width if bridge == "features" else width
            self.decoder.append(stage(joined, (width, after), dims=2, norm="batch"))
        self.head = nn.Conv2d(WIDTHS[0], 2, 1)
        self.apply(initialize)

    def forward(self, x):
        kept = []
        for convolutions in self.encoder:
            features = convolutions(x)
            x, places = F.max_pool2d(features, 2, return_indices=True)
            kept.append((features, places))
        for convolutions in self.decoder:
            features, places = kept.pop()
            if self.bridge == "places":
                x = F.max_unpool2d(x, places, 2)
            else:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
            if self.bridge == "features":
                x = minidl.cat([x, features], dim=1)
            x = convolutions(x)
        return self.head(x)


BRIDGES = ("nothing", "places", "features")
minidl.manual_seed(0)
weights = {bridge: sum(p.numel() for p in Net(bridge).parameters()) for bridge in BRIDGES}
print(weights)
assert weights["nothing"] == weights["places"] < weights["features"] < 1.3 * weights["nothing"]

# %% [markdown]
# The third has more weights, since its decoder reads twice as many channels. We could not make *everything* equal; keep
# that in mind.
#
# ## The experiment
#
# The task: the organ of generated phantoms, 48 x 48 pixels. Each seed draws the initial weights and the order of the
# images, once for all three bridges, so that the results can be compared in **pairs**.


# %%
def phantoms(split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 48, 48) of mean 0 and standard deviation 1, and the organ's masks (n, 48, 48)."""
    dataset = PhantomDataset(split, n, shape=(48, 48))
    cases = [dataset.load(i) for i in range(n)]
    x = np.stack([c.image.array for c in cases])
    x = (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)
    return x, np.stack([c.label.array > 0 for c in cases])


def boundary_error(answers: np.ndarray, truths: np.ndarray) -> float:
    """Mean over the cases of the mean distance between the outlines, in pixels."""
    return float(np.mean([average_surface_distance(a, b, (1, 1)) for a, b in zip(answers, truths)]))


train_x, train_y = phantoms("train", 48)
test_x, test_y = phantoms("test", 24)


# %%
def trained(bridge: str, seed: int, steps: int) -> np.ndarray:
    """The masks that a freshly trained network finds on the test images."""
    minidl.manual_seed(seed)
    net, rng = Net(bridge), np.random.default_rng(seed)
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        batch = rng.integers(len(train_x), size=4)
        target = minidl.tensor(train_y[batch].astype(np.int64))
        loss = F.cross_entropy(net(minidl.tensor(train_x[batch])), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with minidl.no_grad():
        return net(minidl.tensor(test_x)).numpy().argmax(axis=1) == 1


# %% [markdown]
# First a baseline that looks at no image: the pixels that are organ in more than half of the training masks.
#
# **Predict, then run** (a minute): which bridge wins, and by how much? In every seed?

# %%
prior = np.broadcast_to(train_y.mean(axis=0) > 0.5, test_y.shape)
print(
    f"{'same mask for all':18} Dice {dice(prior, test_y):.3f}   boundary error {boundary_error(prior, test_y):.2f} px"
)

seeds, steps = (2, 40) if notebook.FAST else (5, 64)
answers = {bridge: [trained(bridge, seed, steps) for seed in range(seeds)] for bridge in BRIDGES}
errors = {bridge: np.array([boundary_error(a, test_y) for a in runs]) for bridge, runs in answers.items()}
overlaps = {bridge: np.array([dice(a, test_y) for a in runs]) for bridge, runs in answers.items()}
for bridge in BRIDGES:
    print(f"{bridge:18} Dice {overlaps[bridge].mean():.3f}   boundary error", errors[bridge].round(2), "px")

# %%
assert (errors["features"] < errors["places"]).all() and (errors["features"] < errors["nothing"]).all()
assert errors["nothing"].mean() > 1.4 * errors["features"].mean()
assert boundary_error(prior, test_y) > errors["features"].max()
for bridge in ("places", "features"):
    gain = errors["nothing"] - errors[bridge]
    better = (gain > 0).sum()
    print(
        f"{bridge} instead of nothing: {gain.mean():+.2f} ± {gain.std(ddof=1):.2f} px, better in {better} of {seeds}"
    )

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for axis, values, ylabel in zip(axes, (errors, overlaps), ("boundary error (pixels)", "Dice")):
    for seed in range(seeds):
        axis.plot(range(3), [values[bridge][seed] for bridge in BRIDGES], "o-", color="#56B4E9", linewidth=1)
    axis.plot(
        range(3), [values[bridge].mean() for bridge in BRIDGES], "k_", ms=30, markeredgewidth=3, label="mean"
    )
    axis.set(xticks=range(3), xticklabels=BRIDGES, xlabel="the bridge", ylabel=ylabel, xlim=(-0.4, 2.4))
axes[0].set_ylim(bottom=0)
axes[0].legend()
plt.show()
# %% [markdown]
# Each thin line is one seed. Handing over the features wins in every pair here. For the places read the numbers above, and
# the spread from seed to seed: a single run could have told you either story. And it is a short training on one small
# task, in which a network that starts with the positions in its hands need not learn to find them.
#
# ## Where are the errors?


# %%
def show_case(case: int) -> None:
    """The true outline and those of the three networks of the first seed."""
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.5))
    figure.suptitle("truth orange, network blue")
    for axis, bridge in zip(axes, BRIDGES):
        axis.imshow(test_x[case, 0], vmax=np.percentile(test_x[case], 99.5))
        axis.contour(test_y[case], [0.5], colors="#E69F00")
        axis.contour(answers[bridge][0][case], [0.5], colors="#56B4E9")
        one = slice(case, case + 1)
        error = boundary_error(answers[bridge][0][one], test_y[one])
        axis.set(title=f"{bridge}: {error:.2f} px", xticks=[], yticks=[])


notebook.explore(show_case, case=(1, 0, 23))

# %% [markdown]
# One case proves nothing; move the slider, where there is one. All cases and all seeds, by the distance of a pixel from
# the true edge:

# %%
away = np.stack([np.where(m, *(ndimage.distance_transform_edt(side) for side in (m, ~m))) for m in test_y])
rings = np.arange(1, 7)
plt.figure(figsize=(6, 3.2))
for bridge, mark in zip(BRIDGES, "os^"):
    wrong = np.mean([answer != test_y for answer in answers[bridge]], axis=0)
    rates = [wrong[(away > ring - 1) & (away <= ring)].mean() for ring in rings]
    plt.plot(rings, rates, mark + "-", label=bridge)
plt.xlabel("distance from the true edge (pixels)")
plt.ylabel("share of pixels wrong")
plt.legend()
plt.show()
# %% [markdown]
# ## The originals
#
# minidl has all three: `models.EncoderDecoder`, `models.SegNet` with the thirteen convolutions of VGG-16 as its encoder,
# and `models.UNet`; `models.unet2015` is that of the paper, without padding. **Predict:** SegNet hands over less. Is it
# the smaller network?

# %%
segnet = models.build("segnet", in_channels=3, out_channels=11)
convolutions = [m for m in segnet.modules() if isinstance(m, nn.Conv2d)]
in_segnet = sum(p.numel() for m in convolutions for p in m.parameters())
in_unet = sum(p.numel() for p in models.build("unet2015", in_channels=1, out_channels=2).parameters())
print(f"SegNet {in_segnet:,} in {len(convolutions)} convolutions; U-Net of 2015 {in_unet:,}")
assert (in_segnet, len(convolutions), in_unet) == (29_433_483, 26, 31_030_658)
assert sum(isinstance(m, nn.Conv2d) for m in segnet.encoder.modules()) == 13

# %% [markdown]
# About the same. What SegNet saves is memory for what is kept, not weights. The U-Net of 2015 pads nothing: 572 x 572
# pixels go in, 388 x 388 come out. Today's pads, and so answers for every pixel of any size, odd ones too.

# %%
minidl.manual_seed(0)
for name, options in (("segnet", dict(stages=((4, 2), (8, 2)))), ("unet2d", dict(features=(4, 8, 8)))):
    net = models.build(name, 1, 2, **options)
    shape = net(minidl.randn(2, 1, 37, 22)).shape
    print(name, "(2, 1, 37, 22) ->", shape)
    assert shape == (2, 2, 37, 22)
assert models.unet2015(base=1)(minidl.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)  # sizes as published

# %% [markdown]
# ## Exercises
#
# **1. Unpooling.** Write `unpool(pooled, where, size)` for one plane: `pooled` and `where` are arrays of one shape, `size`
# is (H, W).


# %% tags=["exercise"]
def unpool(pooled, where, size):
    """Replace the next line."""
    return np.zeros(size)


# %% [markdown]
# <details><summary>Hint</summary>
#
# Start with `np.zeros(H * W)`, write to all the places at once, and reshape in the end.
#
# </details>


# %% tags=["solution"]
def unpool(pooled, where, size):
    """Each number to its place, zeros elsewhere."""
    flat = np.zeros(size[0] * size[1])
    flat[where.ravel()] = pooled.ravel()
    return flat.reshape(size)


# %%
def reference_unpool(pooled, where, size):
    """minidl's unpooling, for one plane."""
    planes = (minidl.tensor(array[None, None]) for array in (pooled, where))
    return F.max_unpool2d(*planes, 2, output_size=size).numpy()[0, 0]


def pool(plane):
    """The maxima of a plane and their places, rounded up."""
    pair = F.max_pool2d(minidl.tensor(plane[None, None]), 2, ceil_mode=True, return_indices=True)
    return tuple(t.numpy()[0, 0] for t in pair)


plane = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
check.function("unpool", unpool, reference_unpool, (*pool(plane), (5, 7)), (*pool(plane[:4, :2]), (4, 2)))

# %% [markdown]
# **2. A skip for odd sizes.** Write `join(coarse, fine)` for tensors: double `coarse` (nearest neighbour), cut off what
# is too much at the end, and put it before `fine` along the channels.


# %% tags=["exercise"]
def join(coarse, fine):
    """Replace the next line."""
    return fine


# %% [markdown]
# <details><summary>Hint</summary>
#
# `F.interpolate(coarse, scale_factor=2)`, then a slice in each of the two spatial axes: `[:, :, :H, :W]`.
#
# </details>


# %% tags=["solution"]
def join(coarse, fine):
    """[doubled and cut, fine]."""
    height, width = fine.shape[2:]
    doubled = F.interpolate(coarse, scale_factor=2)[:, :, :height, :width]
    return minidl.cat([doubled, fine], dim=1)


# %%
reference_join = lambda coarse, fine: models.blocks.join(F.interpolate(coarse, scale_factor=2), fine)
leaf = lambda *shape: minidl.randn(*shape, requires_grad=True)
odd, even = (leaf(1, 2, 3, 4), leaf(1, 3, 5, 8)), (leaf(2, 2, 2, 2), leaf(2, 1, 4, 4))
check.function("join", join, reference_join, odd, even, gradients=True)

# %% [markdown]
# **3. The boundary error by brute force.** `a` and `b` are lists of outline points, arrays (n, 2) and (m, 2). Write
# `outline_distance(a, b)`: the mean over *all* points, of both, of the distance to the nearest point of the other.


# %% tags=["exercise"]
def outline_distance(a, b):
    """Replace the next line."""
    return 0.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# All differences at once: `a[:, None] - b[None]` is (n, m, 2). The minimum along one axis belongs to the points of a, along
# the other to those of b. The mean is over n + m numbers; it is not the mean of two means.
#
# </details>


# %% tags=["solution"]
def outline_distance(a, b):
    """The average symmetric surface distance."""
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return np.concatenate([distances.min(axis=1), distances.min(axis=0)]).mean()


# %%
outline = lambda mask: np.argwhere(mask & ~ndimage.binary_erosion(mask))
first, second = (outline(mask) for mask in test_y[:2])
expected = average_surface_distance(test_y[0], test_y[1], (1, 1))
check.function("outline_distance", outline_distance, lambda a, b: expected, (first, second))

# %% [markdown]
# ## What you can now explain
#
# - pooling with indices, unpooling, and why it must be told the size;
# - skip connections: what is concatenated, in which order, and what it costs;
# - how to compare three ideas with all else equal, in pairs, over several seeds, next to a baseline;
# - why the difference is looked for at the boundary;
# - what SegNet saves compared with the U-Net, and what it does not.
#
# **Where this stands.** V. Badrinarayanan, A. Kendall and R. Cipolla, *SegNet: a deep convolutional encoder-decoder
# architecture for image segmentation*, arXiv:1511.00561 (2015); O. Ronneberger, P. Fischer and T. Brox, *U-Net:
# convolutional networks for biomedical image segmentation*, MICCAI (2015), arXiv:1505.04597. Other architectures exist;
# lesson 15 shows how far a well-tuned U-Net goes.
