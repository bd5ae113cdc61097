# %% [markdown]
# # 08 · Encoder and decoder
#
# **At the end you own this sentence:** on the way down a network learns what is there and loses where it ends; once
# two images have become equal, no decoder can tell them apart.
#
# *Needs:* lessons 06 and 07 (down and up). *Takes:* 30 minutes. *New:* encoder, decoder, what is lost in between,
# boundary error.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import minidl
import minidl.nn.functional as F
from minidl import check, nn, notebook, optim
from minidl.data import PhantomDataset
from minidl.models import EncoderDecoder
from minidl.segment.metrics import average_surface_distance, dice

notebook.style()


def phantoms(split: str, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size) and label maps: 0 background, 1 organ, 2 lesion (our tumour)."""
    dataset = PhantomDataset(split, n, shape=(size, size))
    cases = [dataset.load(i) for i in range(n)]
    return np.stack([c.image.array[0] for c in cases]), np.stack([c.label.array for c in cases])


def there_and_back(x: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of factor² pixels, then linear interpolation to the old size; (N, H, W)."""
    small = F.avg_pool2d(minidl.tensor(x[:, None].astype(np.float32)), factor)
    return F.interpolate(small, size=x.shape[1:], mode="bilinear").numpy()[:, 0]


images, labels = phantoms("test", 8 if notebook.FAST else 24, 96)
shown = int((labels == 2).sum(axis=(1, 2)).argmax())  # the case with the most tumour


def show_factor(factor: int, axis=None) -> None:
    """An image reduced by a factor and enlarged again, with the outline of its tumour."""
    axis = axis or plt.figure(figsize=(4, 4)).gca()
    axis.imshow(there_and_back(images[[shown]], factor)[0], vmin=0, vmax=np.percentile(images[shown], 99.5))
    axis.contour(labels[shown] == 2, [0.5], colors="#E69F00", linewidths=1.5)
    axis.set(title=f"{96 // factor} x {96 // factor} and back", xticks=[], yticks=[])


figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
for axis, factor in zip(axes, (1, 4, 8, 16)):
    show_factor(factor, axis)

# %% [markdown]
# Where is the tumour's edge (orange)? On the left one sees it. From 12 x 12 pixels one still sees that something bright is
# there, from 6 x 6 not even that. Move the slider (on a page without a running kernel you see one choice):

# %%
notebook.explore(show_factor, factor=(8, [1, 2, 3, 4, 6, 8, 12, 16]))

# %% [markdown]
# A network that halves the image again and again is an **encoder**: its field of view grows fast, so it can find out
# *what* is there. Its output is small, so a **decoder** doubles it again and again, to answer for every pixel *where*.
#
# How far does the encoder see? By lesson 05, each layer of width $k$ adds $(k - 1)$ times the product of the strides
# before it. **Predict:** five stages of two 3x3 convolutions, the first of each but the first with stride 2?

# %%
reach, step, reaches = 1, 1, []
for stage in range(5):
    for stride in (1 if stage == 0 else 2, 1):
        reach, step = reach + 2 * step, step * stride
    reaches.append(reach)
print("receptive field after each stage:", reaches)
assert reaches == [5, 11, 23, 47, 95]
assert 1 + 2 * 10 == 21  # the same ten convolutions without strides

# %% [markdown]
# ## Nine edges, two codes
#
# What does it cost? Take eight samples, zeros and then ones. The edge can stand at nine places, from "all ones" to "all
# zeros". Max pooling halves the signal. **Predict:** how many of the nine can be told apart after one, two and three
# poolings?

# %%
edges = np.array([[0.0] * place + [1.0] * (8 - place) for place in range(9)])
codes = [edges]
while codes[-1].shape[1] > 1:
    codes.append(codes[-1].reshape(9, -1, 2).max(axis=2))
different = [len({tuple(code) for code in level}) for level in codes]
print("edges that can be told apart:", different)
assert different == [9, 5, 3, 2]
assert F.max_pool1d(minidl.tensor(edges[:, None]), 2).numpy()[:, 0].tolist() == codes[1].tolist()

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 3.2), sharey=True)
for axis, level, n in zip(axes, codes, different):
    axis.imshow(level, aspect="auto", cmap="cividis")
    axis.set(title=f"{level.shape[1]} samples: {n} codes", xlabel="sample", xticks=range(level.shape[1]))
axes[0].set(ylabel="place of the edge\n(dark: 0, bright: 1)", yticks=range(9))
plt.show()

# %% [markdown]
# Signals with the same code are the same for everything that comes after. The best a decoder can do is to answer with
# the middle of the places that share a code. **Predict:** how far off is it then, on average, after three poolings? One
# code belongs to "all zeros" alone, the other to the eight places 0 to 7.


# %%
def best_error(level: np.ndarray) -> float:
    """Mean distance between the true place and the median of the places with the same code."""
    groups = {}
    for place, code in enumerate(level):
        groups.setdefault(tuple(code), []).append(place)
    return sum(abs(np.array(places) - np.median(places)).sum() for places in groups.values()) / len(level)


errors = [best_error(level) for level in codes]
print("mean error in samples:", np.round(errors, 2))
assert np.allclose(errors, [0, 4 / 9, 8 / 9, 16 / 9])  # it doubles with every pooling

# %% [markdown]
# ## Means are not safe either
#
# With *mean* pooling the nine edges stay apart: the code is the share of ones, a grey value. But other signals do not.
# Eight numbers into one is a matrix with one row, and everything else is its null space. **Predict:** what is left of
# the fastest wave, $1, -1, 1, -1, \dots$?

# %%
assert len(set(edges.mean(axis=1))) == 9  # 0, 1/8, ..., 1
fastest = np.array([1.0, -1] * 4)
assert (fastest.reshape(4, 2).mean(axis=1) == 0).all()
P = np.kron(np.eye(4), [[0.5, 0.5]])  # mean pooling as a matrix, 8 samples to 4
print(P)
assert np.linalg.matrix_rank(P) == 4  # so 8 - 4 = 4 dimensions are lost
assert (P @ edges[3] == edges[3].reshape(4, 2).mean(axis=1)).all()

# %% [markdown]
# That is the lecture's sentence: *downsampling discards high-frequency information*. A grid that is $f$ times coarser
# holds no frequency above $1/(2f)$ cycles per pixel. Here is how much of the phantoms' variance lies above that limit.

# %%
centred = images - images.mean(axis=(1, 2), keepdims=True)
power = (abs(np.fft.fft2(centred)) ** 2).mean(axis=0)
frequency = np.maximum(*np.meshgrid(*[abs(np.fft.fftfreq(96))] * 2))  # the larger one of the two axes
factors = np.array([1, 2, 4, 8, 16])
beyond = np.array([power[frequency > 0.5 / f].sum() / power.sum() for f in factors])
print({int(f): f"{share:.1%}" for f, share in zip(factors, beyond)})
assert beyond[0] == 0 and (np.diff(beyond) > 0).all() and beyond[-1] < 0.35

# %% [markdown]
# Little. Most of an image's variance is slow. That is why the loss is easy to overlook: what is lost is small, thin, and
# sits where we look for it, at the edges.
#
# ## Through a coarse grid, knowing the answer
#
# Now an unfair advantage: we hand the *true mask* to the bottleneck, as the share of tumour in every coarse cell. A simple
# decoder interpolates and cuts at ½; a trained one could do better, but it has to find those shares first. We measure the
# Dice and the **boundary error**: the mean distance, in pixels, between the two outlines.
#
# **Predict:** which suffers first, the large organ or the small tumour? And what does Dice see of it?

# %%
scores = {}
for name, masks in (("organ", labels >= 1), ("tumour", labels == 2)):
    masks = masks[masks.any(axis=(1, 2))]
    for factor in factors:
        back = there_and_back(masks, int(factor)) >= 0.5
        pairs = list(zip(back, masks))
        distances = np.array([average_surface_distance(a, b, (1, 1)) for a, b in pairs])
        found = np.isfinite(distances)  # a mask that vanished has no outline
        scores[name, int(factor)] = (
            np.mean([dice(a, b) for a, b in pairs]),
            distances[found].mean(),
            (~found).sum(),
        )
for (name, factor), (overlap, distance, lost) in scores.items():
    print(f"{name:7} /{factor:<3} Dice {overlap:.3f}   boundary error {distance:.2f} px   vanished {lost}")

# %%
dices = {name: np.array([scores[name, int(f)][0] for f in factors]) for name in ("organ", "tumour")}
distances = {name: np.array([scores[name, int(f)][1] for f in factors]) for name in ("organ", "tumour")}
assert all((values[0] == 1) and (np.diff(values) < 0).all() for values in dices.values())
assert dices["organ"][3] > 0.97 and distances["organ"][3] > 0.3  # at a factor of 8 Dice hardly notices
assert dices["tumour"][3] < 0.85 and scores["tumour", 16][2] >= (labels == 2).any(axis=(1, 2)).sum() / 2

figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
for name, mark in (("organ", "o-"), ("tumour", "s--")):
    axes[0].plot(factors, dices[name], mark, label=name)
    axes[1].plot(factors, distances[name], mark, label=name)
for axis, ylabel in zip(axes, ("Dice", "boundary error (pixels)")):
    axis.set_xscale("log", base=2)
    axis.set(xticks=factors, xticklabels=factors, xlabel="factor", ylabel=ylabel)
axes[0].legend()
plt.show()
# %% [markdown]
# For the large organ the Dice hardly notices a factor of 8, though its outline is off: most of its pixels are far from
# any edge. A small tumour is nothing but edge, and at a factor of 16 half of them or more vanish (they are left out of
# the distances). This is why lesson 09 measures on the boundary.
#
# ## It need not be lost
#
# A fair objection: a bottleneck has many channels, not one number per cell. Could they hold the positions? **Predict:**
# a strided convolution with kernels $(1, 0)$ and $(0, 1)$ makes two channels of 4 samples out of 8 samples. What does
# its transpose make of them?

# %%
both = minidl.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # 2 output channels, 1 input channel, width 2
eight = minidl.tensor([[[1.0, 3, 2, 1, 0, 0, 1, 5]]])
apart = F.conv1d(eight, both, stride=2)
print(apart.tolist()[0])
assert apart.shape == (1, 2, 4)
assert F.conv_transpose1d(apart, both, stride=2).tolist() == eight.tolist()  # nothing is lost

# %% [markdown]
# So strides lose nothing by themselves; having too few numbers does. Count them for the usual widths, which double when
# the image is halved: in two dimensions four times fewer places and twice as many channels.

# %%
widths, size = (32, 64, 128, 256, 512), 256
for dims in (2, 3):
    counts = [width * (size // 2**level) ** dims for level, width in enumerate(widths)]
    print(f"{dims}-D: numbers per stage", counts, f" the last is 1/{counts[0] // counts[-1]} of the first")
    assert counts[0] // counts[-1] == {2: 16, 3: 256}[dims]
assert 512 * 16**2 == 2 * 256**2  # twice the numbers of a grey image of 256 x 256

# %% [markdown]
# In 2-D there would be room for every pixel of a grey image. But nobody asks for that: the training has to *find* weights
# that carry positions through every layer, along with the meaning. Whether it does is a question for an experiment.
#
# ## A trained encoder-decoder
#
# minidl's `EncoderDecoder` halves by strided convolutions and doubles by transposed ones. We train it for a short while
# to find the organ, and look at where it is wrong.


# %%
def normalised(x: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 for each image, with an axis of one channel: (N, 1, H, W)."""
    return ((x - x.mean(axis=(1, 2), keepdims=True)) / x.std(axis=(1, 2), keepdims=True))[:, None]


size, steps = (48, 60) if notebook.FAST else (64, 120)
train_x, train_y = phantoms("train", 32, size)
test_x, test_y = phantoms("test", 16, size)
train_x, train_y, truth = normalised(train_x), (train_y > 0).astype(np.int64), test_y > 0

minidl.manual_seed(0)
net = EncoderDecoder(1, 2, features=(8, 16, 16, 16, 16))
optimizer, rng = optim.Adam(net.parameters(), lr=5e-3), np.random.default_rng(0)
for _ in range(steps):
    batch = rng.integers(len(train_x), size=4)
    loss = F.cross_entropy(net(minidl.tensor(train_x[batch])), minidl.tensor(train_y[batch]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with minidl.no_grad():
    answer = net(minidl.tensor(normalised(test_x))).numpy().argmax(axis=1) == 1
wrong = answer != truth

# %% [markdown]
# **Predict:** which share of the wrong pixels lies within three pixels of the true outline?

# %%
inside = np.stack([ndimage.distance_transform_edt(mask) for mask in truth])
outside = np.stack([ndimage.distance_transform_edt(~mask) for mask in truth])
away = np.where(truth, inside, outside)  # from each pixel to the nearest one of the other class
near = away <= 3
print(f"Dice {dice(answer, truth):.3f}; {wrong.mean():.1%} of the pixels are wrong")
print(
    f"within 3 pixels of the edge: {near.mean():.0%} of all pixels, {wrong[near].sum() / wrong.sum():.0%} of the wrong"
)
assert wrong[near].mean() > 3 * wrong[~near].mean() and dice(answer, truth) > 0.8

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.3), width_ratios=(1, 1, 1.4))
for axis, k in zip(axes, (0, 1)):
    axis.imshow(test_x[k], vmax=np.percentile(test_x[k], 99.5))
    axis.contour(truth[k], [0.5], colors="#E69F00")
    axis.contour(answer[k], [0.5], colors="#56B4E9")
    axis.set(title=("truth orange, network blue", "another case")[k], xticks=[], yticks=[])
rings = np.arange(1, 9)
rates = [wrong[(away > ring - 1) & (away <= ring)].mean() for ring in rings]
axes[2].bar(rings, rates, color="#0072B2")
axes[2].set(xlabel="distance from the true edge (pixels)", ylabel="share of pixels wrong")
plt.show()
# %% [markdown]
# In this run, too, the network knows what is there; where it is wrong, it is wrong about the edge. A longer training and
# more channels make it better, and a pixel next to the edge is hard for any network. Whether handing over the position
# helps, with all else equal, is the question of lesson 09.
#
# ## Exercises
#
# **1. A twin.** Find eight samples `twin` that are not `signal`, but become the same two numbers under two max poolings.

# %% tags=["exercise"]
signal = np.array([1.0, 3, 2, 1, 0, 0, 1, 5])
twin = signal.copy()

# %% [markdown]
# <details><summary>Hint</summary>
#
# Only the largest of four neighbours counts. Where it stands does not.
#
# </details>

# %% tags=["solution"]
signal = np.array([1.0, 3, 2, 1, 0, 0, 1, 5])
twin = np.array([3.0, 1, 2, 1, 5, 0, 1, 0])


# %%
def code_of_twin():
    """The largest of each four, and whether a sample differs."""
    differs = np.asarray(twin) != [1, 3, 2, 1, 0, 0, 1, 5]
    return [*np.reshape(twin, (2, 4)).max(axis=1), differs.any()]


check.value("the twin: its code, and whether it differs", code_of_twin, [3, 5, 1])

# %% [markdown]
# **2. Down without loss, in two dimensions.** Write `fold(x)`: an image (H, W) of even sizes becomes four channels
# (4, H/2, W/2): the pixels at even rows and even columns, at even rows and odd columns, then the odd rows likewise.


# %% tags=["exercise"]
def fold(x):
    """Replace the next line."""
    return np.stack([x[::2, ::2]] * 4)


# %% [markdown]
# <details><summary>Hint</summary>
#
# Slices with a start and a step: `x[0::2, 1::2]` has the even rows and the odd columns.
#
# </details>


# %% tags=["solution"]
def fold(x):
    """Each pixel of a 2x2 block to a channel of its own."""
    return np.stack([x[row::2, column::2] for row in (0, 1) for column in (0, 1)])


# %%
reference = lambda x: nn.PixelUnshuffle(2)(minidl.tensor(x[None, None])).numpy()[0]
check.function("fold", fold, reference, (images[0][:8, :6],), (np.arange(16.0).reshape(4, 4),))

# %% [markdown]
# **3. Dice of a shift.** A square of `n` x `n` pixels is predicted one column too far to the right. Write
# `shifted_dice(n)`. The boundary error is half a pixel for every $n$ from 2 on; what does Dice do?


# %% tags=["exercise"]
def shifted_dice(n):
    """Replace the next line."""
    return 1.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# The two squares share $n(n - 1)$ pixels. Dice is twice that over the sum of the areas.
#
# </details>


# %% tags=["solution"]
def shifted_dice(n):
    """2 n(n - 1) / 2n²."""
    return (n - 1) / n


# %%
def measured(n):
    """The same with two masks."""
    mask = np.zeros((n, n + 1), bool)
    mask[:, :n] = True
    assert average_surface_distance(mask, mask[:, ::-1], (1, 1)) == 0.5
    return dice(mask, mask[:, ::-1])


check.function("shifted_dice", shifted_dice, measured, (2,), (5,), (50,))

# %% [markdown]
# ## What you can now explain
#
# - what an encoder is for, and what a decoder is for;
# - why max pooling makes different images equal, and mean pooling removes the fastest waves;
# - why Dice hides a wrong outline of a large object, and what a boundary error measures;
# - that strides alone need not lose anything, and how many numbers a bottleneck has, in 2-D and in 3-D;
# - that a trained encoder-decoder errs at edges.
#
# **Where this stands.** J. Long, E. Shelhamer and T. Darrell, *Fully convolutional networks for semantic segmentation*,
# CVPR (2015), made classifiers answer for every pixel; H. Noh, S. Hong and B. Han, *Learning deconvolution network for
# semantic segmentation*, ICCV (2015), gave them a mirrored decoder; W. Shi et al., CVPR (2016), is the source of the
# folding. Lesson 09 keeps the edge, in two ways.
