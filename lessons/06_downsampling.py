# %% [markdown]
# # 06 · Downsampling
#
# **At the end you own this sentence:** every step down doubles what the next layers see, and whatever is finer than the
# new pixels is thrown away or comes back in disguise.
#
# *Needs:* lesson 05 (receptive fields). *Takes:* 30 minutes. *New:* max pooling, strided convolution, how the field
# jumps, aliasing.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, notebook
from minidl import receptive_field as rf
from minidl.data import PhantomDataset

notebook.style()


def batch(a) -> minidl.Tensor:
    """One image of one channel, (1, 1, H, W)."""
    return minidl.tensor(np.asarray(a, np.float32)[None, None])


blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
ways_down = {
    "every second": lambda x: x[..., ::2, ::2],
    "maximum of 2x2": lambda x: F.max_pool2d(x, 2),
    "mean of 2x2": lambda x: F.avg_pool2d(x, 2),
    "blur, every second": lambda x: F.conv2d(x, batch(blur), stride=2, padding=1),
}
distance = np.linspace(-64, 64, 128)
rings = np.cos(np.pi * (distance[:, None] ** 2 + distance**2) / 128)  # finer and finer outward

figure, axes = plt.subplots(1, 5, figsize=(11, 2.6))
pictures = {"rings": rings} | {name: down(batch(rings)).numpy()[0, 0] for name, down in ways_down.items()}
for axis, (name, picture) in zip(axes, pictures.items()):
    axis.imshow(picture, vmin=-1, vmax=1, interpolation="nearest")
    axis.set_title(name, fontsize=11)
    axis.set(xticks=[], yticks=[])

# %% [markdown]
# On the left, one set of rings, finer and finer outward. Then four ways to halve the image. Every second pixel shows
# centres at the sides that are *not there*; the true rings are finest there. The maximum invents others. The mean keeps
# the false centres, faintly; the blur fades nearly all of them, and the fine rings with them. All four are in use in
# networks. What do they do?
#
# ## Every second, by hand
#
# The lecture's example: convolve, then keep every second sample. **Predict, then run:** the convolution of lesson 03 gave
# $5, 7, 2, 0, -1, 1, 2$. What is left? And does one have to compute what is thrown away?

# %%
signal = lambda values: minidl.tensor(np.asarray(values, np.float32)).reshape(1, 1, -1)
x, kernel = signal([1, 3, 2, 1, 0, 0, 1]), signal([-1, 2, 1])
full = F.conv1d(x, kernel, padding=1)
strided = F.conv1d(x, kernel, padding=1, stride=2)
print(full.flatten().tolist(), "->", strided.flatten().tolist())
assert full.flatten().tolist() == [5, 7, 2, 0, -1, 1, 2]
assert full[..., ::2].flatten().tolist() == strided.flatten().tolist() == [5, 2, -1, 2]
for dims, conv in enumerate((F.conv1d, F.conv2d, F.conv3d), start=1):
    cube, weight = (minidl.ones(1, 1, *[side] * dims) for side in (8, 3))
    assert conv(cube, weight, padding=1, stride=2).numel() * 2**dims == cube.numel()

# %% [markdown]
# A **strided convolution** moves by two and computes only what is kept: half the work for even sizes, a quarter in 2-D,
# an eighth in 3-D. It is linear, and its weights are learnt.
#
# ## Max pooling
#
# The other usual way has no weights: of every 2x2 block keep the largest number. **Predict** the four numbers.

# %%
image = np.array([[1, 3, 0, 2], [5, 4, 1, 0], [0, 0, 7, 6], [2, 1, 8, 7]], np.float32)
leaf = batch(image).requires_grad_()
pooled = F.max_pool2d(leaf, 2)
pooled.sum().backward()
print(pooled[0, 0].detach().numpy())
print(leaf.grad[0, 0].numpy())
assert pooled[0, 0].tolist() == [[5, 2], [2, 8]] and leaf.grad.sum().item() == 4
assert set(image[leaf.grad[0, 0].numpy() == 1].tolist()) == {5, 2, 8}
leaf.grad = None
F.avg_pool2d(leaf, 2).sum().backward()
assert (leaf.grad == 0.25).all()

# %% [markdown]
# The second matrix is the gradient of the sum: each maximum gets all of it, the other three pixels of its block learn
# nothing. The mean of 2x2 would give ¼ to each.
#
# Is it a matrix, as in lesson 03? **Predict:** which of the two respects $f(a + b) = f(a) + f(b)$, and which of them is
# a strided convolution with fixed weights?

# %%
rng = np.random.default_rng(0)
a, b = batch(rng.normal(size=(6, 6))), batch(rng.normal(size=(6, 6)))
for name in ("maximum of 2x2", "mean of 2x2"):
    f = ways_down[name]
    print(f"{name}: largest difference {(f(a + b) - f(a) - f(b)).abs().max().item():.6f}")
linear = lambda f: (f(a + b) - f(a) - f(b)).abs().max().item() < 1e-6
assert linear(ways_down["mean of 2x2"]) and not linear(ways_down["maximum of 2x2"])
quarter = F.conv2d(a, batch(np.full((2, 2), 0.25)), stride=2)
assert (F.avg_pool2d(a, 2) - quarter).abs().max().item() < 1e-6

# %% [markdown]
# So a strided convolution can learn to be a mean, or any blur. It cannot become a maximum alone; with a ReLU behind it and
# one more layer it can (exercise 3).
#
# ## Smaller images, larger fields
#
# Lesson 05: the field grows by $(k - 1)S$, and a stride doubles $S$. Two famous encoders, one after each rule. **Predict:**
# which sees more at the bottom?

# %%
with_pooling = [*[rf.conv(3), rf.conv(3), rf.pool(2)] * 4, rf.conv(3), rf.conv(3)]  # U-Net, 2015
with_strides = [rf.conv(3), rf.conv(3), *[rf.conv(3, stride=2), rf.conv(3)] * 5]  # nnU-Net, five steps
plt.figure(figsize=(8, 3.3))
for layers, name in (
    (with_pooling, "max pooling, 4 steps"),
    (with_strides, "strided convolution, 5 steps"),
    ([rf.conv(3)] * 14, "no steps"),
):
    found = rf.chain(layers)
    plt.plot(
        [1] + [layer.field.size[0] for layer in found.per_layer()], "o-", label=f"{name}: {found.size[0]}"
    )
plt.xlabel("layers")
plt.ylabel("receptive field in pixels")
plt.legend()
assert rf.chain(with_pooling).size == (140,) and rf.chain(with_strides).size == (191,)
assert rf.chain([rf.conv(3)] * 14).size == (29,) and len(with_pooling) == 14 and len(with_strides) == 12

# %% [markdown]
# The slope doubles at every step. The pooling needs a layer of its own for it, the strided convolution does two things in
# one: 12 layers see 191 pixels, where 14 layers with four poolings see 140 and without steps 29.
#
# And the image gets smaller. **Predict:** 256 pixels, five steps: how wide is the last map? If the first level holds
# one unit of numbers, what do infinitely many levels hold together, in 2-D and in 3-D, at equal channels?

# %%
widths = [256 // 2**step for step in range(6)]
print("widths:", widths)
assert widths[-1] == 8
for dims in (2, 3):
    total = sum((1 / 2**dims) ** level for level in range(40))
    print(f"{dims}-D: all levels together {total:.4f}")
    assert np.isclose(total, {2: 4 / 3, 3: 8 / 7}[dims])

# %% [markdown]
# $\tfrac43$ and $\tfrac87$: the lower levels are nearly free. That is why networks can afford to double the channels at
# every step. With an odd size the two differ: 7 samples become 3 by pooling, since the last one has no partner, and 4 by a
# convolution of width 3 with padding 1. Lesson 07 has to bring the 4 back to 7.

# %%
seven = signal(range(7))
assert F.max_pool1d(seven, 2).shape[-1] == 3 and F.conv1d(seven, kernel, padding=1, stride=2).shape[-1] == 4
assert F.max_pool1d(seven, 2, ceil_mode=True).shape[-1] == 4

# %% [markdown]
# ## A shift by one pixel
#
# A convolution does not care where things are: shift the input, and the output shifts with it. **Predict:** what becomes
# of $0, 0, 1, 1, 0, 0, 1, 1$ under a max pooling by 2? And if the signal comes one sample earlier?

# %%
bars = np.array([0, 0, 1, 1] * 4)
pool1d = lambda values: F.max_pool1d(signal(values), 2).flatten().numpy()
print(pool1d(bars), "and shifted by one:", pool1d(np.roll(bars, -1)))
assert pool1d(bars).tolist() == [0, 1] * 4 and pool1d(np.roll(bars, -1)).tolist() == [1] * 8
assert (pool1d(np.roll(bars, -2)) == np.roll(pool1d(bars), -1)).all()
noise = rng.normal(size=2**14)
five_steps = lambda shift: F.max_pool1d(signal(np.roll(noise, shift)), 2**5).flatten().numpy()
safe = [s for s in range(1, 33) if any((five_steps(s) == np.roll(five_steps(0), k)).all() for k in (0, 1))]
assert safe == [32]

# %% [markdown]
# Bars became a constant (the example is Zhang's, 2019). A shift by *two* does what it should, a shift by one does not:
# after five steps only shifts by 32 pixels are safe.
#
# ## Aliasing
#
# The reason is older than networks. The fastest wave that pixels can hold is $1, -1, 1, -1, \dots$, half a cycle per
# pixel. **Predict:** what do the four ways down, in 1-D, make of it?

# %%
fastest = np.array([1, -1] * 8)
smooth = lambda values: (
    F.conv1d(signal(values), signal([0.25, 0.5, 0.25]), stride=2, padding=1).flatten().numpy()
)
print("every second:", fastest[::2], " maximum:", pool1d(fastest))
print("mean:", fastest.reshape(-1, 2).mean(1), " blur:", smooth(fastest)[1:])
assert (fastest[::2] == 1).all() and (pool1d(fastest) == 1).all()
assert (fastest.reshape(-1, 2).mean(1) == 0).all() and (smooth(fastest)[1:] == 0).all()

# %% [markdown]
# Every second sample of the fastest wave is a constant, and the network believes it. Other fast waves become slow ones that
# do not exist: this is **aliasing**. If a wave makes $f$ cycles per pixel, every second pixel sees $2f$ cycles per new pixel,
# and more than ½ cannot be told from less. Up to $f = ¼$ all is well; $f = 0.4$ gives 0.8, which looks exactly like
# $1 - 0.8 = 0.2$: 0.1 per old pixel (Shannon 1949). Move the slider (without a running kernel you see one choice):


# %%
def show_alias(cycles: float) -> None:
    """A wave, every second sample of it, and the slowest wave through these samples."""
    fine, pixels = np.linspace(0, 24, 600), np.arange(0, 25, 2)
    folded = abs(2 * cycles - round(2 * cycles)) / 2  # in cycles per old pixel
    plt.figure(figsize=(9, 2.8))
    plt.plot(fine, np.cos(2 * np.pi * cycles * fine), color="#BBBBBB", label=f"{cycles:.2f} cycles per pixel")
    plt.plot(fine, np.cos(2 * np.pi * folded * fine), label=f"looks like {folded:.2f}")
    plt.plot(pixels, np.cos(2 * np.pi * cycles * pixels), "o", color="#D55E00", label="every second pixel")
    plt.xlabel("pixel")
    plt.ylabel("value")
    plt.ylim(-1.2, 1.9)
    plt.legend(ncols=3, loc="upper center")


notebook.explore(show_alias, cycles=(0.4, 0.0, 0.5))
at = np.arange(0, 24, 2)
assert np.allclose(np.cos(2 * np.pi * 0.4 * at), np.cos(2 * np.pi * 0.1 * at))

# %% [markdown]
# The cure: remove what is too fast *before* leaving samples out. How much of a wave passes a filter is its **gain**, and a
# wave has to be put through to see it. **Predict:** which filter below is the best?

# %%
frequencies = np.linspace(0, 0.5, 51)
filters = {"none": [1.0], "mean of 2": [0.5, 0.5], "blur (1, 2, 1)/4": [0.25, 0.5, 0.25]}
gain = {
    name: abs(np.exp(-2j * np.pi * frequencies[:, None] * np.arange(len(taps))) @ np.array(taps))
    for name, taps in filters.items()
}
plt.figure(figsize=(7, 3))
for name, values in gain.items():
    plt.plot(frequencies, values, label=name)
plt.axvspan(0.25, 0.5, color="#DDDDDD", alpha=0.6, label="comes back in disguise")
plt.xlabel("cycles per pixel")
plt.ylabel("gain")
plt.ylim(0, 1.05)
plt.legend(loc="lower left")
quarter_gain = [round(float(values[25]), 2) for values in gain.values()]
print("at ¼:", quarter_gain)
assert quarter_gain == [1, 0.71, 0.5] and np.allclose(gain["mean of 2"], np.cos(np.pi * frequencies))
assert np.allclose(gain["blur (1, 2, 1)/4"], np.cos(np.pi * frequencies) ** 2)

# %% [markdown]
# None is perfect. What passes in the grey half is false detail; what is missing in the white half is true detail, lost. A
# better filter is longer. There is no filter that keeps the detail above ¼: the new pixels cannot hold it.
#
# ## Does it matter for images?
#
# Rings and bars are made to look bad. So measure: which share of the variation in the halved image comes from frequencies
# above the limit? Remove them from the image exactly, by Fourier transform, halve both images and compare.


# %%
def slow_part(x: np.ndarray) -> np.ndarray:
    """The image without anything of ¼ cycle per pixel or more along either axis."""
    spectrum = np.fft.fft2(x)
    for axis in (0, 1):
        too_fast = abs(np.fft.fftfreq(x.shape[axis])) >= 0.25
        spectrum[(slice(None),) * axis + (too_fast,)] = 0
    return np.fft.ifft2(spectrum).real


photos = [case.image.array[0] for case in map(PhantomDataset("train", 8, shape=(96, 96)).load, range(8))]
linear_ways = [name for name in ways_down if not name.startswith("maximum")]
share = {name: [] for name in linear_ways}
for photo in photos:
    for name in linear_ways:
        whole, slow = (ways_down[name](batch(p)).numpy() for p in (photo, slow_part(photo)))
        share[name].append(float(((whole - slow) ** 2).sum() / ((whole - whole.mean()) ** 2).sum()))
for name, values in share.items():
    low, mean, high = (100 * f(values) for f in (min, np.mean, max))
    print(f"{name:20} {mean:.2f} % of the variance (lowest {low:.2f}, highest {high:.2f})")

# %%
first, second, third = (np.array(share[name]) for name in linear_ways)
assert (first > second).all() and (second > third).all()  # in each of the eight images
assert 0.001 < first.mean() < 0.1

# %% [markdown]
# In each of the eight phantoms the order is the same: every second, mean, blur. But the shares are small: these images,
# like most, hold little at high frequencies. A maximum is not linear, so its share cannot be computed this way.
#
# What follows for networks? Zhang (2019) blurs before each step and reports classifiers that change their mind less under
# shifts. Segmentation networks mostly do not: a convolution stands before each step and may *learn* to blur. Nothing makes
# it. And the blur has its price, since the edge of a tumour is high frequency, too: lesson 08.
#
# ## Exercises
#
# **1. Max pooling without loops.** Write `my_max_pool(x, size)` for an image (H, W) whose sides are multiples of `size`.


# %% tags=["exercise"]
def my_max_pool(x, size):
    """Replace the next line."""
    return x[::size, ::size]


# %% [markdown]
# <details><summary>Hint</summary>
#
# Reshape to (H/size, size, W/size, size). What do the second and the fourth axis hold?
#
# </details>


# %% tags=["solution"]
def my_max_pool(x, size):
    """Blocks become axes of their own; take the maximum over them."""
    return x.reshape(x.shape[0] // size, size, x.shape[1] // size, size).max(axis=(1, 3))


# %%
reference = lambda x, size: F.max_pool2d(batch(x), size)[0, 0].numpy()
check.function(
    "my_max_pool", my_max_pool, reference, (image, 2), (rng.normal(size=(6, 9)), 3), (-abs(image) - 1, 4)
)

# %% [markdown]
# **2. In disguise.** Write `alias(f, step)`: a wave of $f$ cycles per pixel, of which every `step`-th sample is kept, looks
# like how many cycles per *new* pixel? The answer lies between 0 and ½.


# %% tags=["exercise"]
def alias(f, step):
    """Replace the next line."""
    return f


# %% [markdown]
# <details><summary>Hint</summary>
#
# It makes $f\cdot$`step` cycles per new pixel. Whole cycles are not seen, and $0.8$ looks like $0.2$.
#
# </details>


# %% tags=["solution"]
def alias(f, step):
    """The distance to the nearest whole number of cycles."""
    return abs(f * step - round(f * step))


# %%
def measured(f, step):
    """The strongest frequency in the samples themselves."""
    samples = np.cos(2 * np.pi * f * step * np.arange(1000))
    return np.fft.rfftfreq(1000)[abs(np.fft.rfft(samples)).argmax()]


check.function("alias", alias, measured, (0.4, 2), (0.1, 2), (0.5, 2), (0.3, 4), (0.45, 8))

# %% [markdown]
# **3. A maximum from a ReLU.** Find weights `W` (3, 2) and `v` (3) such that `v @ relu(W @ (a, b))` is $\max(a, b)$, for any
# signs: a strided convolution of width 2, a ReLU and a 1x1 convolution are then a max pooling.

# %% tags=["exercise"]
W, v = np.zeros((3, 2)), np.zeros(3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# $\max(a, b) = b + \mathrm{relu}(a - b)$. A ReLU lets no negative $b$ pass, but $b = \mathrm{relu}(b) - \mathrm{relu}(-b)$.
#
# </details>

# %% tags=["solution"]
W, v = np.array([[1, -1], [0, 1], [0, -1]]), np.array([1, 1, -1])

# %%
pairs = rng.normal(size=(2, 50))
check.value("the maximum of 50 pairs", lambda: v @ np.maximum(W @ pairs, 0), pairs.max(axis=0))

# %% [markdown]
# ## What you can now explain
#
# - what a strided convolution and a max pooling keep, who gets the gradient, and which of them is linear;
# - why the receptive field jumps, and what a pyramid of smaller and smaller maps costs;
# - why a network with steps is not indifferent to shifts by one pixel;
# - aliasing: which frequencies come back in disguise, as what, and what a blur does for and against it.
#
# **Where this stands.** C. Shannon, *Communication in the presence of noise*, Proceedings of the IRE 37 (1949), has the
# sampling theorem; R. Zhang, *Making convolutional networks shift-invariant again*, ICML (2019), the blur before each step;
# J. Springenberg, A. Dosovitskiy, T. Brox and M. Riedmiller, *Striving for simplicity: the all convolutional net*, ICLR
# workshop (2015), replaces pooling by strides. Lesson 07 goes back up.
