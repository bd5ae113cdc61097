# %% [markdown]
# # 07 · Upsampling
#
# **At the end you own this sentence:** a transposed convolution stamps its kernel down at every stride-th place, and
# unless all places receive the same sum of weights, a checkerboard remains.
#
# *Needs:* lesson 03 (transposed convolution), lesson 06 (downsampling). *Takes:* 35 minutes. *New:* overlap, phases,
# checkerboards and how to measure them, interpolation, odd sizes.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, checkerboard, nn, notebook

notebook.style()
minidl.manual_seed(0)
grey = minidl.ones(1, 1, 10, 10)  # nothing to see: every pixel is 1

kinds = {
    "transpose": "transposed, width 3",
    "divisible": "transposed, width 4",
    "interpolate": "nearest, then 3x3",
}
figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
pictures = {"input, all ones": grey.numpy()[0, 0]}
for kind, title in kinds.items():
    layer = checkerboard.upsampler(kind, 1, 1, bias=False)  # random weights, as before training
    pictures[title] = layer(grey).detach().numpy()[0, 0, 2:-2, 2:-2]  # without the border
for axis, (title, picture) in zip(axes, pictures.items()):
    middle, half = picture.mean(), max(abs(picture - picture.mean()).max(), 0.1)
    axis.imshow(picture, vmin=middle - half, vmax=middle + half)
    axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# A decoder has to double the resolution, several times. The usual layer for it is the transposed convolution. Above, an
# image without any detail went in, and out of this layer came a pattern (the grey values are stretched to show it). This
# lesson takes the layer apart, measures the pattern, and looks at what else can double.
#
# ## Zeros in between, then a convolution
#
# Lesson 03 took four samples up to seven: put a zero between any two, then convolve with the kernel **flipped**.
#
# **Predict, then run:** the kernel is $(-1, 2, 1)$, the samples are $(5, 2, -1, 2)$. The first output is
# $0\cdot 1 + 5\cdot 2 + 0\cdot(-1) = 10$. What are the other six?

# %%
u, kernel = np.array([5.0, 2, -1, 2]), np.array([-1.0, 2, 1])
with_zeros = np.zeros(2 * len(u) - 1)
with_zeros[::2] = u
up = np.convolve(with_zeros, kernel, mode="same")  # NumPy's convolve flips the kernel itself
print(with_zeros, "->", up)
assert up.tolist() == [10, 3, 4, 3, -2, -3, 4]


# %%
def signal(values) -> minidl.Tensor:
    """A list of numbers as one sample of one channel, (1, 1, L)."""
    return minidl.tensor(np.asarray(values, np.float32)).reshape(1, 1, -1)


found = F.conv_transpose1d(signal(u), signal(kernel), stride=2, padding=1)
assert found.flatten().tolist() == up.tolist()

# %% [markdown]
# It is the *transpose* of the strided convolution, which is not its inverse. What a transpose promises is this: for any
# $x$ and $u$, $\langle Ax, u\rangle = \langle x, A^\top u\rangle$. Library writers call it the *dot test*.

# %%
x = np.array([1.0, 3, 2, 1, 0, 0, 1])
down = F.conv1d(signal(x), signal(kernel), stride=2, padding=1).flatten().numpy()
assert down @ u == x @ up == 34
print(f"<Ax, u> = {down @ u:g}   <x, Aᵀu> = {x @ up:g}   and Aᵀ(Ax) = {up} is not x = {x}")
assert down.tolist() == u.tolist() and (up != x).any()

# %% [markdown]
# ## Stamps that overlap
#
# Seen the other way, every input sample stamps a copy of the kernel, times its value, onto the output; the next one
# stamps `stride` places further on. **Predict:** with width 3 and stride 2, how many stamps does each output
# place get?


# %%
def show_stamps(width: int, stride: int, axis=None) -> None:
    """Seven stamps, one above the other, and the number of them at every place."""
    axis = axis or plt.figure(figsize=(7, 3)).gca()
    counts = np.zeros(6 * stride + width, int)
    for k in range(7):
        counts[k * stride : k * stride + width] += 1
        axis.barh(-k - 1, width, left=k * stride - 0.5, height=0.7, color="#56B4E9", edgecolor="white")
    axis.bar(range(len(counts)), counts, color="#E69F00")
    axis.axhline(0, color="#555555", linewidth=1)
    axis.set(title=f"width {width}, stride {stride}", xlabel="output place", yticks=range(counts.max() + 1))
    axis.set_ylabel("stamps (below),\nhow many (above)")


figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True)
show_stamps(3, 2, axes[0])
show_stamps(4, 2, axes[1])
axes[1].set_ylabel("")
plt.show()

# %% [markdown]
# Width 3 gives 1, 2, 1, 2, ... in the middle. In two dimensions rows and columns multiply, and it is 4 : 2 : 1. The
# counts are equal only where the stride divides the width. Try other widths and strides (on a page without a running
# kernel you see one choice):

# %%
for width, stride, expected in (
    (2, 2, [1, 1]),
    (3, 2, [2, 1]),
    (4, 2, [2, 2]),
    (5, 2, [3, 2]),
    (4, 3, [2, 1, 1]),
):
    assert checkerboard.overlap(width, stride).tolist() == expected
assert checkerboard.overlap(3, 2, rank=2).tolist() == [[4, 2], [2, 1]]
notebook.explore(show_stamps, width=(5, 1, 7), stride=(3, 1, 4))

# %% [markdown]
# ## Equal counts are not enough
#
# Counts tell the story of a kernel of ones. Real weights differ. The output places fall into *phases*: with stride 2 an
# even place sees only the weights $w_0, w_2, \dots$, an odd place only $w_1, w_3, \dots$. So a constant input comes out
# constant exactly if the weights of every phase have the same sum (Sugawara et al. 2018).
#
# **Predict, then run:** the kernel $(1, 2, 3, 4)$ has equal counts. What becomes of an input of ones?

# %%
w = np.array([1.0, 2, 3, 4])
flat = F.conv_transpose1d(signal(np.ones(6)), signal(w), stride=2).flatten().numpy()
print("equal counts, unequal sums:", flat)
assert flat[2:-2].tolist() == [4, 6] * 5  # 1 + 3 and 2 + 4: a pattern
fair = F.conv_transpose1d(signal(np.ones(6)), signal([1, 2, 4, 3]), stride=2).flatten().numpy()
print("equal sums:                ", fair)
assert fair[2:-2].tolist() == [5, 5] * 5  # 1 + 4 and 2 + 3: none

# %% [markdown]
# The even kernel is often sold as the cure. It removes one cause, the geometry; the weights are the other. Even width 2
# with stride 2, the layer in most U-Nets, has one weight a phase and nothing that makes them equal.
#
# ## Measured
#
# A checkerboard is a pattern that repeats with the stride. So sort the pixels of an image by phase, take the mean of
# each phase, and ask which share of the image's variance the differences of these means are. **By hand**: in
# $(4, 6, 4, 6)$ all of the variance is pattern, in $(4, 4, 6, 6)$ none.

# %%
image = lambda values: np.array(values, np.float32)[None, None]
assert checkerboard.phase_variance_ratio(image([4, 6, 4, 6]), 2) == 1
assert checkerboard.phase_variance_ratio(image([4, 4, 6, 6]), 2) == 0
assert checkerboard.phase_variance_ratio(image([4, 6, 5, 7]), 2) == 0.8  # phases ±1 -> 1; all: 1.25

# %% [markdown]
# Now five ways to double, 8 channels, random weights as before training, on a smooth input (one slow wave a channel;
# noise as an input would hide the pattern). The *sub-pixel* layer computes four channels for each one and shuffles them
# into 2x2 blocks of pixels (Shi et al. 2016); *ICNR* starts it with four equal ones (Aitken et al. 2017).
#
# **Predict:** which ones checker?

# %%
draws = 4 if notebook.FAST else 20
probe = checkerboard.smooth_probe(8, 20)
shares = {}
for kind in checkerboard.UPSAMPLERS:
    layers = [checkerboard.upsampler(kind, 8, 8) for _ in range(draws)]
    shares[kind] = [checkerboard.phase_variance_ratio(layer(probe), 2, border=4) for layer in layers]
    print(f"{kind:12} {np.mean(shares[kind]):.3f} ± {np.std(shares[kind]):.3f}")
assert all(np.mean(shares[kind]) > 0.4 for kind in ("transpose", "divisible", "subpixel"))
assert all(np.mean(shares[kind]) < 0.03 for kind in ("interpolate", "icnr"))

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), width_ratios=(1.5, 1))
names = ["transposed\nwidth 3", "transposed\nwidth 4", "nearest,\n3x3", "sub-pixel", "sub-pixel\nICNR"]
for k, values in enumerate(shares.values()):
    axes[0].plot(np.full(draws, k) + np.linspace(-0.2, 0.2, draws), values, "o", ms=5, color="#0072B2")
axes[0].set(xticks=range(5), ylabel="share of variance", title=f"checkerboard, {draws} random layers each")
axes[0].set_xticklabels(names)
inside = checkerboard.upsampler("divisible", 8, 8)(probe).detach().numpy()[0, 0, 4:-4, 4:-4]
spectrum = abs(np.fft.fft2(inside * np.outer(np.hanning(32), np.hanning(32))))  # faded out towards the border
axes[1].imshow(np.log(1 + np.fft.fftshift(spectrum)), extent=(-0.5, 0.5, 0.5, -0.5), cmap="viridis")
axes[1].set(title="spectrum (log), width 4", xlabel="cycles per pixel", ylabel="cycles per pixel")
plt.show()
# %% [markdown]
# In the spectrum the slow waves are the spot in the middle. The pattern makes copies of it half a cycle per pixel away: at
# the middle of the sides and in the corners.
#
# What this does *not* say: that a trained network shows it. Training can make the phases equal, or use later layers to
# smooth the pattern away. A layer that has it must learn that; interpolation starts without.
#
# ## The same pattern, backward
#
# The gradient of a strided convolution is a transposed convolution. So *down*-sampling by a 3x3 convolution of stride 2
# hands some pixels more gradient than others. **Predict:** how much more?

# %%
conv = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
nn.init.ones_(conv.weight)
gradient = checkerboard.input_gradient(conv, minidl.zeros(1, 1, 9, 9)).numpy()[0, 0]
print(gradient[2:7, 2:7].astype(int))
assert gradient[2:4, 2:4].tolist() == [[1, 2], [2, 4]]

# %% [markdown]
# ## Interpolation instead
#
# Interpolation has no weights to learn. To double, the new samples lie a quarter of a sample left and right of the old
# ones. *Nearest* copies. *Linear* takes ¾ of the near sample and ¼ of the far one. *Cubic* fits a smooth curve through
# four samples; some of its weights are negative.
#
# **Predict:** a step 0, 0, 0, 0, 1, 1, 1, 1 is doubled. Which of the three leaves the range from 0 to 1?

# %%
step = np.repeat([0.0, 1.0], 4)
double_by = lambda mode, x: F.interpolate(signal(x), scale_factor=2, mode=mode).flatten().numpy()
doubled = {mode: double_by(mode, step) for mode in ("nearest", "linear", "cubic")}
assert doubled["linear"][6:10].tolist() == [0, 0.25, 0.75, 1]
assert doubled["nearest"].max() == doubled["linear"].max() == 1
assert np.isclose(doubled["cubic"].max(), 1 + 27 / 256) and np.isclose(doubled["cubic"].min(), -27 / 256)

plt.figure(figsize=(7, 3))
places = (np.arange(16) + 0.5) / 2 - 0.5
for (mode, values), mark in zip(doubled.items(), "s^o"):
    plt.plot(places, values, mark + "-", ms=5, label=mode)
plt.plot(step, "k.", ms=12, label="samples")
plt.xlabel("sample")
plt.ylabel("value")
plt.legend()
plt.show()
# %% [markdown]
# ## Cubic on any device
#
# The lecture behind this course warns that cubic interpolation cannot run on the GPU, at least in TensorFlow. That is a
# matter of the library, not of the mathematics: interpolation is linear, so along each axis it is a matrix, and whatever
# multiplies matrices can do it. To find the columns, interpolate the unit vectors. Away from the ends each row holds four
# numbers other than zero, and every row adds up to 1.

# %%
M = np.stack([double_by("cubic", unit) for unit in np.eye(6)], axis=1)
print("row 5, times 256:", 256 * M[5])
assert (256 * M[5]).tolist() == [0, -27, 225, 67, -9, 0] and np.allclose(M.sum(axis=1), 1)
assert (np.count_nonzero(M[3:-3], axis=1) == 4).all()

# %% [markdown]
# In two dimensions it is one product for the rows and one for the columns, $M X M^\top$. The next cell asserts that on
# the CPU, and on the GPU where there is one.

# %%
X = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
for device in ("cpu", "cuda"):
    try:
        picture = minidl.tensor(X[None, None], device=device)
    except RuntimeError:
        print(f"{device}: none here")
        continue
    bicubic = F.interpolate(picture, scale_factor=2, mode="bicubic").cpu().numpy()
    assert np.allclose(bicubic[0, 0], M @ X @ M.T, atol=1e-5)
    print(f"{device}: bicubic is M X Mᵀ")

# %% [markdown]
# ## Odd sizes
#
# Halving rounds: 7 samples and 8 samples both become 4. Doubling 4 gives 8. **Predict:** what happens when a decoder
# wants to join its 8 samples to the encoder's 7?

# %%
for size in (7, 8):
    assert F.conv1d(minidl.ones(1, 1, size), signal(kernel), stride=2, padding=1).shape[-1] == 4
four = signal(u)
try:
    minidl.cat([F.interpolate(four, scale_factor=2), minidl.ones(1, 1, 7)], dim=1)
    raise AssertionError("8 and 7 samples must not fit")
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# There are four ways out, and all of them are in use. The lecture's is the third; minidl's U-Net does the second.

# %%
sizes = {
    "output_padding picks 7 or 8": [
        F.conv_transpose1d(four, signal(kernel), stride=2, padding=1, output_padding=p).shape[-1]
        for p in (0, 1)
    ],
    "double and cut off": F.interpolate(four, scale_factor=2)[:, :, :7].shape[-1],
    "interpolate to the size wanted": F.interpolate(four, size=7, mode="linear").shape[-1],
    "pad the image first, to 8": F.pad(minidl.ones(1, 1, 7), (0, 1)).shape[-1],
}
print("\n".join(f"{way}: {size}" for way, size in sizes.items()))
assert list(sizes.values()) == [[7, 8], 7, 7, 8]

# %% [markdown]
# ## Exercises
#
# **1. The gain of every phase.** Write `gains(kernel, stride)`: the sums of the weights with index 0, s, 2s, ..., of
# those with index 1, 1 + s, ..., and so on; `stride` numbers.


# %% tags=["exercise"]
def gains(kernel, stride):
    """Replace the next line."""
    return np.ones(stride)


# %% [markdown]
# <details><summary>Hint</summary>
#
# A slice with a step: `kernel[r::stride]`.
#
# </details>


# %% tags=["solution"]
def gains(kernel, stride):
    """What a constant 1 becomes at each phase."""
    return np.array([np.sum(kernel[r::stride]) for r in range(stride)])


# %%
def reference_gains(kernel, stride):
    """A long input of ones, up-sampled; one period from the middle."""
    y = F.conv_transpose1d(signal(np.ones(12)), signal(kernel), stride=stride).flatten().numpy()
    return y[6 * stride : 7 * stride]


check.function("gains", gains, reference_gains, (w, 2), (kernel, 2), ([2, 7, 1, 8, 2], 3), (w, 4))

# %% [markdown]
# **2. Take the pattern out.** Write `even(kernel, stride)`: the kernel with the same total in which all phases have the
# same sum. Add to every weight of a phase the same amount.


# %% tags=["exercise"]
def even(kernel, stride):
    """Replace the next line."""
    return np.asarray(kernel, float)


# %% [markdown]
# <details><summary>Hint</summary>
#
# The sum wanted is the total over the stride. What a phase lacks is shared among its weights: there are
# `len(kernel[r::stride])` of them.
#
# </details>


# %% tags=["solution"]
def even(kernel, stride):
    """Spread over each phase what its sum lacks."""
    kernel = np.array(kernel, float)
    wanted = kernel.sum() / stride
    for r in range(stride):
        phase = kernel[r::stride]
        kernel[r::stride] = phase + (wanted - phase.sum()) / len(phase)
    return kernel


# %%
def by_columns(kernel, stride):
    """The same with each phase as a column of a table; for kernels whose width the stride divides."""
    table = np.reshape(kernel, (-1, stride)).astype(float)
    return (table - table.mean(axis=0) + table.mean()).ravel()


assert by_columns(w, 2).tolist() == [1.5, 1.5, 3.5, 3.5]
check.function("even", even, by_columns, (w, 2), ([5, 0, 1, 1, 0, -1], 3), ([1, 4], 2))

# %% [markdown]
# **3. Linear doubling by hand.** Write `double(x)`: two samples for each one, a quarter to its left and a quarter to its
# right. Beyond the ends the end sample counts again.


# %% tags=["exercise"]
def double(x):
    """Replace the next line."""
    return np.repeat(x, 2)


# %% [markdown]
# <details><summary>Hint</summary>
#
# `np.pad(x, 1, mode="edge")` repeats the ends. The left one of sample i is `0.75 * x[i] + 0.25 * x[i - 1]`.
#
# </details>


# %% tags=["solution"]
def double(x):
    """¾ of the near sample, ¼ of the far one."""
    padded = np.pad(np.asarray(x, float), 1, mode="edge")
    left = 0.75 * padded[1:-1] + 0.25 * padded[:-2]
    right = 0.75 * padded[1:-1] + 0.25 * padded[2:]
    return np.stack([left, right], axis=1).ravel()


# %%
linear = lambda x: double_by("linear", x)
check.function("double", double, linear, ([0, 0, 1, 1],), (u,), ([3.0],))

# %% [markdown]
# ## What you can now explain
#
# - zero insertion and the flipped kernel, stamps, and the dot test: three views of the transposed convolution;
# - why width 3 with stride 2 gives 4 : 2 : 1, and why width 4 may still checker;
# - how a checkerboard is measured, and why the input must be smooth;
# - what interpolation does instead, why cubic overshoots, and why it runs wherever matrices are multiplied;
# - four ways to come back to an odd size.
#
# **Where this stands.** A. Odena, V. Dumoulin and C. Olah, *Deconvolution and checkerboard artifacts*, Distill (2016);
# Y. Sugawara, S. Shiota and H. Kiya, *Super-resolution using convolutional neural networks without any checkerboard
# artifacts*, ICIP (2018); W. Shi et al., *Real-time single image and video super-resolution using an efficient sub-pixel
# convolutional neural network*, CVPR (2016); A. Aitken et al., *Checkerboard artifact free sub-pixel convolution*,
# arXiv:1707.02937 (2017); R. Keys, *Cubic convolution interpolation for digital image processing*, IEEE Transactions on
# ASSP 29 (1981). Lesson 08 puts down and up together and asks what got lost in between.
