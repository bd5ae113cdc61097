# %% [markdown]
# # 05 · Receptive fields
#
# **At the end you own this sentence:** what a pixel of the output can see grows by a few pixels with every layer and
# doubles with every step down, and what it *really* looks at is much less.
#
# *Needs:* lesson 04 (convolution). *Takes:* 35 minutes. *New:* the receptive field, its arithmetic, dilation, why a
# U-Net has two answers, the effective receptive field.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import check, models, nn, notebook
from minidl import receptive_field as rf
from minidl.data import PhantomDataset
from minidl.receptive_field import explorer, plot

notebook.style()
minidl.manual_seed(0)
photo = PhantomDataset("train", 1, shape=(128, 128)).load(0).image.array[0]


def stack(layers: int, channels: int = 2, **options) -> nn.Module:
    """So many 3x3 convolutions that keep the size, with a ReLU after each."""
    parts, before = [], 1
    for _ in range(layers):
        parts += [nn.Conv2d(before, channels, 3, padding=1, **options), nn.ReLU()]
        before = channels
    return nn.Sequential(*parts)


unet = models.UNet(1, 2, features=(2, 2, 2, 2), norm=None, down="max")
small, large = rf.analyze(stack(4), (1, 1, 128, 128)), rf.analyze(unet, (1, 1, 128, 128))
figure, axes = plt.subplots(1, 2, figsize=(9, 4.4))
for axis, field, name in zip(axes, (small, large), ("four convolutions", "a small U-Net")):
    plot.draw_field(axis, field, photo, (66, 76), name)

# %% [markdown]
# Is the marked pixel tissue, fluid or bone? All that the first network knows of the image is the bright square: the
# **receptive field** of that output. Nobody could say it from there. A network that shall find large things must see
# large regions; so how large is the region?
#
# ## Count it by hand
#
# Take one dimension and kernels of three samples. One output of one convolution sees 3 samples. **Predict, then run:**
# how many does an output of *two* convolutions see?

# %%
plot.diagram([rf.conv(3), rf.conv(3)])

# %% [markdown]
# Each of the three samples in the middle row sees three below it, and neighbours share most of theirs: together they see
# 5. Now count the *ways* from each sample up to the coloured dot. With all weights equal to 1, a convolution counts ways
# by itself.


# %%
def ways(*kernels) -> np.ndarray:
    """In how many ways each sample reaches one output, through kernels of ones and zeros."""
    counts = np.ones(1, int)
    for kernel in kernels:
        counts = np.convolve(counts, kernel)
    return counts


ones = [1, 1, 1]
print("one:", ways(ones), " two:", ways(ones, ones), " three:", ways(ones, ones, ones))
assert ways(ones, ones).tolist() == [1, 2, 3, 2, 1]
assert [len(ways(*[ones] * n)) for n in (1, 2, 3)] == [3, 5, 7]

# %% [markdown]
# The field is 5 samples; the middle one has three ways, those at the ends one. Keep this in mind for the end of the
# lesson.
#
# In 2-D the same holds along each axis: 3x3, then 5x5. Do not believe it: test which pixels *can* influence the
# middle output. `reachability` follows the derivatives back, with every weight taken as 1.

# %%
for layers in (1, 2):
    seen = rf.reachability(stack(layers), (1, 1, 9, 9), position=(4, 4))
    rows, columns = np.nonzero(seen)
    print(f"layers: {layers}, rows {rows.min()} to {rows.max()}, columns {columns.min()} to {columns.max()}")
    assert seen.sum() == (3, 5)[layers - 1] ** 2
    assert rf.analyze(stack(layers), (1, 1, 9, 9)).size == ((3, 3), (5, 5))[layers - 1]

# %% [markdown]
# Two 3x3 kernels see as much as one 5x5, and have fewer weights: for $c$ channels $2\cdot 9c^2 = 18c^2$ against $25c^2$,
# with a bend in between for free. This is why networks are made of 3x3 kernels (Simonyan and Zisserman 2015).
#
# ## It grows slowly
#
# Every further layer adds 2: after $n$ layers the field is $2n + 1$. **Predict:** how many layers to see 204 pixels,
# the largest field of the U-Net of 2015?

# %%
layers = rf.depth_for(204, [rf.conv(3)])
print(layers, "layers see", rf.chain([rf.conv(3)] * layers).size[0])
assert layers == 102 and rf.chain([rf.conv(3)] * 102).size == (205,)

# %% [markdown]
# The U-Net needs no 102 layers, since it has *steps*. After a stride of 2, neighbours in the feature map are two pixels
# apart in the image, and each kernel reaches twice as far. Two numbers tell everything: the field $r$, and the step $S$
# between neighbours. They start as 1 and 1, and a layer of kernel $k$ and stride $s$ makes of them
#
# $$r \leftarrow r + (k - 1)\,S \qquad\text{then}\qquad S \leftarrow s\,S$$
#
# **Predict** the five fields of conv 3, conv 3, pool 2, conv 3, conv 3. The first two are 3 and 5.

# %%
field = rf.chain([rf.conv(3), rf.conv(3), rf.pool(2), rf.conv(3), rf.conv(3)])
print(rf.layer_table(field.per_layer()))
assert [layer.field.size[0] for layer in field.per_layer()] == [3, 5, 6, 10, 14]
assert [layer.field.stride[0] for layer in field.per_layer()] == [1, 1, 2, 2, 2]

# %% [markdown]
# After the pooling a convolution adds 4. After another it would add 8. Move the sliders (without a running kernel you see
# one choice): `convolutions` before each of so many `poolings`, and two more at the end.


# %%
def show_growth(convolutions: int, poolings: int) -> None:
    """Field against the number of layers: with poolings in between, and without."""
    block = [rf.conv(3)] * convolutions
    pooled = rf.chain([*(block + [rf.pool(2)]) * poolings, rf.conv(3), rf.conv(3)])
    plain = rf.chain([rf.conv(3)] * len(pooled.layers))
    plt.figure(figsize=(6, 3.2))
    for found, name in ((pooled, "with poolings"), (plain, "convolutions only")):
        sizes = [1] + [layer.field.size[0] for layer in found.per_layer()]
        plt.plot(sizes, "o-", label=f"{name}: {sizes[-1]}")
    plt.xlabel("layers")
    plt.ylabel("receptive field in pixels")
    plt.legend()


notebook.explore(show_growth, convolutions=(2, 1, 4), poolings=(4, 0, 5))
encoder = rf.chain([*[rf.conv(3), rf.conv(3), rf.pool(2)] * 4, rf.conv(3), rf.conv(3)])
assert encoder.size == (140,) and encoder.stride == (16,) and len(encoder.layers) == 14
assert rf.chain([rf.conv(3)] * 14).size == (29,)
assert [layer.field.size[0] for layer in encoder.per_layer()][5:8] == [16, 24, 32]  # + 8

# %% [markdown]
# With two convolutions and four poolings this is the encoder of the U-Net of 2015: 14 layers see 140 pixels, where 14
# convolutions alone see 29. The step is 16.
#
# ## Dilation: holes in the kernel
#
# There is a way to see far without a step down. A **dilation** $d$ puts the kernel's samples $d$ apart, so that it spans
# $d(k - 1) + 1$. Doubling the dilation from layer to layer doubles the reach (Yu and Koltun 2016). **Predict:** four
# layers of dilation 1, 2, 4 and 8. And three layers of dilation 2: what do they see, and what not?

# %%
assert rf.chain([rf.conv(3, dilation=d) for d in (1, 2, 4, 8)]).size == (31,)
assert rf.dilations_for(31) == (1, 2, 4, 8) and rf.chain([rf.conv(3)] * 4).size == (9,)

dilated = lambda d: np.kron([1, 1, 1], [1] + [0] * (d - 1))[: 2 * d + 1]  # three ones, d apart
print("dilations 1, 2, 4, 8:", ways(*map(dilated, (1, 2, 4, 8))))
print("dilations 2, 2, 2:   ", ways(*map(dilated, (2, 2, 2))))
doubling = ways(*map(dilated, (1, 2, 4, 8)))
assert doubling.min() == 1 and doubling.max() == 5
assert ways(*map(dilated, (2, 2, 2))).tolist() == [1, 0, 3, 0, 6, 0, 7, 0, 6, 0, 3, 0, 1]
assert rf.chain([rf.conv(3, dilation=2)] * 3).size == (13,)

# %% [markdown]
# 31 samples with four layers, where plain ones see 9, and every sample is reached, in one to five ways. But three times
# dilation 2 has *holes*: the field spans 13 samples, and 6 of them are not seen at all. Two neighbouring outputs then
# look at different samples, and a grid can appear in the result. A field is more than its size.
#
# ## A U-Net has two answers
#
# Textbooks treat a network as a chain. A U-Net goes up again and has skips. The original one takes 572 pixels to 388,
# without padding, so each output pixel seems to need $572 - 388 + 1 = 185$. **Predict:** is its field 185?

# %%
original = rf.analyze(models.unet2015(1, 2, base=1), (1, 1, 572, 572))  # few channels: the field is the same
print(original)
assert original.positions == (388, 388) and 572 - 388 + 1 == 185
assert set(original.sizes[0]) == {188, 204} and original.period == (16, 16)
assert sorted(original.sizes[0]).count(188) == 4

# %% [markdown]
# Never. It is 188 for some pixels and 204 for others, in a pattern that repeats every 16 pixels. After a step up, 16
# neighbours share one pixel of the bottleneck, but each lies elsewhere in it. Near the edge of that block an output's
# own 3x3 kernels reach over into the next block, and see through it as well.

# %%
same = rf.analyze(models.UNet(1, 2, (1, 1, 1, 1, 1), norm=None, down="max"), (1, 1, 512, 512))
first, last = np.array([same.interval((u, 0), clipped=False)[0] for u in range(240, 272)]).T
plt.figure(figsize=(7, 3.2))
at = np.arange(240, 272)
plt.fill_between(at, first, last + 1, step="mid", color="#56B4E9", alpha=0.5, label="what it sees")
plt.plot(at, at, color="black", label="the pixel itself")
plt.xlabel("output pixel (row)")
plt.ylabel("image row")
plt.legend(loc="upper left", ncols=2)
plt.ylim(120, 420)
offset = (first + last) / 2 - at
print(
    "sizes",
    set((last - first + 1).tolist()),
    " the field's middle lies from",
    offset.min(),
    "to",
    offset.max(),
)
assert set((last - first + 1).tolist()) == {188, 204} and (offset.min(), offset.max()) == (-5.5, 5.5)
assert set(np.diff(first).tolist()) == set(np.diff(last).tolist()) == {0, 16}

# %% [markdown]
# The field moves in steps of 16 and is not even centred: its middle is up to 5.5 pixels from the pixel. This matters
# when a large image is cut into tiles: a tile needs a margin, the *halo*, and must start at a multiple of 16.
#
# And one kind of layer breaks all of this. **Predict:** what does a pixel see if an instance norm, which subtracts the
# mean of the whole image (lesson 12), stands between two convolutions?

# %%
normed = nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.Conv2d(2, 1, 3))
found = rf.analyze(normed, (1, 1, 20, 20))
print(found)
assert found.size == (5, 5) and found.sees_whole_axes
assert rf.reachability(normed, (1, 1, 20, 20), position=(0, 0)).all()

# %% [markdown]
# The *local* field is 5, and through the mean everything is seen. With such a layer the results of tiles are never
# exactly those of the whole image, however large the margin.
#
# ## Explore
#
# Choose a point and a layer, and see what it sees (on a page without a running kernel: all the layers above one
# point). Where is the jump?

# %%
explorer.explore(large, photo, point=(66, 76))

# %% [markdown]
# ## Theory against effect
#
# The field says what *can* have an influence. How much has it? Remember the ways: $1, 2, 3, 2, 1$. With equal weights a
# sample's influence is its share of all ways. **Predict:** what shape has it after 40 layers? How many of the 81 samples
# count for more than 4.55 % of the middle one (the limit of Luo et al. 2016)?

# %%
depths, spreads, inside = [5, 10, 20, 40], [], []
plt.figure(figsize=(9, 3.2))
for n in depths:
    share = ways(*[np.ones(3) / 3] * n)
    at = np.arange(-n, n + 1)
    spreads.append(np.sqrt((share * at**2).sum()))
    inside.append(int((share > 0.0455 * share.max()).sum()))
    plt.plot(at, share, label=f"{n} layers: {inside[-1]} of {2 * n + 1} samples count")
plt.xlabel("distance in samples")
plt.ylabel("share of the influence")
plt.legend(loc="upper left", bbox_to_anchor=(0.58, 1))
assert inside == [9, 13, 19, 25] and [2 * n + 1 for n in depths] == [11, 21, 41, 81]
assert np.allclose(spreads, np.sqrt(np.array(depths) * 8 / 12)) and round(spreads[-1], 2) == 5.16

# %% [markdown]
# It is a bell. (A sum of $n$ independent steps of $-1$, 0 or 1 is what is counted here, so this is the central limit
# theorem.) Its width is $\sigma = \sqrt{n(k^2 - 1)/12}$, which grows like $\sqrt n$ while the field grows like $n$: of 81
# samples 25 count. That is the **effective receptive field**.
#
# Equal weights are a toy. Now real layers in 2-D, with random weights and ReLUs, several initialisations and images each:
# the mean of $|\partial y/\partial x|$ over them.

# %%
inits, images = (2, 2) if notebook.FAST else (6, 4)
measured = {}
for n in (5, 10, 20):
    nets = [stack(n, channels=8, bias=False) for _ in range(inits)]
    measured[n] = rf.effective(nets, (1, 1, 61, 61), samples=images)
    sigma = np.mean(measured[n].sigma)
    print(f"{n:3} layers: field {2 * n + 1}, σ {sigma:.2f}, σ / field {sigma / (2 * n + 1):.3f}")
shares = [np.mean(found.sigma) / (2 * n + 1) for n, found in measured.items()]
assert shares[0] > shares[1] > shares[2]
assert (
    1.5 < np.mean(measured[20].sigma) / np.mean(measured[5].sigma) < 2.7
)  # √4 = 2, where the field has ×3.7

# %%
theory = rf.analyze(stack(20, channels=8), (1, 1, 61, 61))
assert measured[20].count() < 41 * 41 / 2  # most of the field is dark
plot.effective_map({"20 layers": measured[20]}, theory)

# %% [markdown]
# The dashed square is the theory; most of it is dark. So a network needs a field well larger than the things it shall
# find. Two cautions. This is at initialisation: training widens the effective field (Luo et al. 2016). And the derivative
# tells what a *small* change does, not what a large one would do.
#
# ## Exercises
#
# **1. The arithmetic.** Write `my_field(layers)`: each layer is (kernel, stride, dilation); return the field $r$ and the
# step $S$.


# %% tags=["exercise"]
def my_field(layers):
    """Replace the next line."""
    return 1, 1


# %% [markdown]
# <details><summary>Hint</summary>
#
# Start from `r, S = 1, 1`. A kernel with dilation $d$ spans $d(k - 1) + 1$, so it adds $d(k - 1)S$. Change $r$ first, then
# $S$.
#
# </details>


# %% tags=["solution"]
def my_field(layers):
    """r grows by what the kernel spans, in steps of S."""
    r, S = 1, 1
    for kernel, stride, dilation in layers:
        r += dilation * (kernel - 1) * S
        S *= stride
    return r, S


# %%
def reference(layers):
    """The same by `chain`."""
    found = rf.chain([rf.conv(k, stride=s, dilation=d) for k, s, d in layers])
    return np.array([found.size[0], found.stride[0]])


vgg = ([(3, 1, 1)] * 2 + [(2, 2, 1)]) * 2 + ([(3, 1, 1)] * 3 + [(2, 2, 1)]) * 3
assert reference(vgg).tolist() == [212, 32]  # VGG-16 up to its last pooling
check.function(
    "my_field",
    my_field,
    reference,
    ([(3, 1, 1), (3, 1, 1)],),
    ([(3, 2, 1), (3, 1, 2), (5, 3, 1)],),
    (vgg,),
)

# %% [markdown]
# **2. Far with five layers.** Choose five dilations for five convolutions of 3 samples, so that the field is at least 100
# and has *no holes*. The check looks at three numbers: layers, whether the field is at least 100, unseen samples.

# %% tags=["exercise"]
dilations = [1, 1, 1, 1, 1]

# %% [markdown]
# <details><summary>Hint</summary>
#
# Doubling gives $1 + 2(1 + 2 + 4 + 8 + 16) = 63$: not enough. Three samples, $d$ apart, can put *three* copies of the field
# so far side by side.
#
# </details>

# %% tags=["solution"]
dilations = [1, 3, 9, 27, 81]  # 1, 3, 9, 27, 81, 243: no gap and no overlap


# %%
def five():
    """How many layers, whether they see 100 samples, and how many samples between the first and the last they miss."""
    reached = ways(*map(dilated, dilations))
    return [len(dilations), len(reached) >= 100, (reached == 0).sum()]


assert rf.chain([rf.conv(3, dilation=d) for d in (1, 2, 4, 8, 16)]).size == (63,)
check.value("five dilations", five, [5, 1, 0])

# %% [markdown]
# **3. Which pixels?** With a padding of $p$ before the image, position $u$ of the output of one layer sees the samples
# from $su - p$ to $su - p + k - 1$. Write `my_interval(layers, u)` for a chain of (kernel, stride, padding): the first and
# the last sample that $u$ sees, also outside the image.


# %% tags=["exercise"]
def my_interval(layers, u):
    """Replace the next line."""
    return u, u


# %% [markdown]
# <details><summary>Hint</summary>
#
# Go backward, from the last layer to the first, with two numbers: the first and the last position that are seen.
#
# </details>


# %% tags=["solution"]
def my_interval(layers, u):
    """Backward through the layers, both ends at once."""
    first = last = u
    for kernel, stride, padding in reversed(layers):
        first, last = stride * first - padding, stride * last - padding + kernel - 1
    return first, last


# %%
def interval(layers, u):
    """The same by `chain`."""
    found = rf.chain([rf.conv(k, stride=s, padding=p) for k, s, p in layers])
    return np.array(found.interval(u)[0])


check.function(
    "my_interval",
    my_interval,
    interval,
    ([(3, 1, 1)], 4),
    ([(3, 1, 1), (2, 2, 0), (3, 1, 1)], 5),
    ([(7, 2, 3), (3, 2, 1), (3, 1, 1)], 0),
)

# %% [markdown]
# ## What you can now explain
#
# - what a receptive field is, and why segmentation needs a large one;
# - why one 3x3 convolution sees 3x3 and two see 5x5, and why two are cheaper than one 5x5;
# - the arithmetic of $r$ and $S$: slow growth of plain stacks, the jump at every stride, dilation and its holes;
# - why a U-Net's field depends on the pixel, and why normalisation makes it the whole image;
# - why the effective field is a bell that is narrower than the theory.
#
# **Where this stands.** K. Simonyan and A. Zisserman, *Very deep convolutional networks for large-scale image
# recognition*, ICLR (2015); F. Yu and V. Koltun, *Multi-scale context aggregation by dilated convolutions*, ICLR (2016);
# W. Luo, Y. Li, R. Urtasun and R. Zemel, *Understanding the effective receptive field in deep convolutional neural
# networks*, NIPS (2016); A. Araujo, W. Norris and J. Sim, *Computing receptive fields of convolutional neural networks*,
# Distill (2019). Lesson 06 looks at the steps down that make the field jump.
