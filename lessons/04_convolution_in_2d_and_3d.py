# %% [markdown]
# # 04 · Convolution in 2-D and 3-D
#
# **At the end you own this sentence:** in any number of dimensions a convolution is one sum over windows, in which
# image, weights and output can trade places.
#
# *Needs:* lessons 02 (gradients) and 03 (convolution in 1-D). *Takes:* 35 minutes. *New:* channels, convolution without
# loops, the trio of forward pass and two gradients, what the third dimension costs.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minidl
import minidl.nn.functional as F
from minidl import check, nn, notebook
from minidl.data import PhantomDataset

notebook.style()
photo = PhantomDataset("train", 1, shape=(96, 96)).load(0).image.array[0]
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)


def filtered(kernel) -> np.ndarray:
    """The phantom convolved with one kernel, without padding."""
    batch = lambda a: minidl.tensor(np.asarray(a, np.float32)[None, None])
    return F.conv2d(batch(photo), batch(kernel)).numpy()[0, 0]


figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
pictures = {"image": photo, "mean of 3x3": filtered(np.full((3, 3), 1 / 9))}
pictures |= {"left to right": filtered(sobel), "top to bottom": filtered(sobel.T)}
for axis, (title, picture) in zip(axes, pictures.items()):
    largest = abs(picture).max()
    axis.imshow(picture, vmin=-largest if picture.min() < -0.1 else 0, vmax=largest)
    axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# Three results of one operation: only the nine numbers of the kernel differ. In a network they are not chosen, they are
# learnt. In the last two, grey is 0, white is where the image gets brighter, black where it gets darker.
#
# ## Two axes, by hand
#
# The window of lesson 03 becomes a square. Every output is the sum over what the kernel covers, weight times pixel.
#
# **Predict, then run.** The first output below is $1\cdot 1 - 1\cdot 2 + 2\cdot 1 + 1\cdot 1 = 2$. What are the other
# three?

# %%
image = np.array([[1, 0, 2, 1], [0, 1, 0, 3], [2, 1, 1, 0], [0, 0, 1, 2]], np.float32)
kernel = np.array([[1, 0, -1], [0, 2, 0], [0, 0, 1]], np.float32)


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """One sum per position, without padding."""
    rows, columns = image.shape[0] - kernel.shape[0] + 1, image.shape[1] - kernel.shape[1] + 1
    y = np.zeros((rows, columns), image.dtype)
    for i in range(rows):
        for j in range(columns):
            y[i, j] = (image[i : i + kernel.shape[0], j : j + kernel.shape[1]] * kernel).sum()
    return y


print(convolve(image, kernel))
assert convolve(image, kernel).tolist() == [[2, -1], [3, 2]]


# %% [markdown]
# Move the kernel (on a page without a running kernel you see one position):


# %%
def show_window(row: int, column: int) -> None:
    """The image with the kernel's weights where it stands, and the output that this makes."""
    y = convolve(image, kernel)
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.3), width_ratios=(4, 2))
    for axis, numbers in zip(axes, (image, y)):
        axis.imshow(numbers * 0, cmap="Greys", vmin=0, vmax=1)
        axis.set(
            xticks=range(numbers.shape[1]), yticks=range(numbers.shape[0]), xlabel="column", ylabel="row"
        )
    for (i, j), pixel in np.ndenumerate(image):
        inside = row <= i < row + 3 and column <= j < column + 3
        text = f"{pixel:g} · {kernel[i - row, j - column]:g}" if inside else f"{pixel:g}"
        axes[0].text(j, i, text, ha="center", va="center", color="#0072B2" if inside else "#888888")
    for (i, j), value in np.ndenumerate(y):
        weight = "bold" if (i, j) == (row, column) else "normal"
        axes[1].text(j, i, f"{value:g}", ha="center", va="center", weight=weight)
    box = plt.Rectangle((column - 0.48, row - 0.48), 2.96, 2.96, fill=False, color="#0072B2", linewidth=2)
    axes[0].add_patch(box)
    axes[0].set_title("image · kernel")
    axes[1].set_title(f"output ({row}, {column})")


notebook.explore(show_window, row=(1, 0, 1), column=(0, 0, 1))

# %% [markdown]
# It is still a matrix. Read the image row by row as a vector of 16 numbers, and convolve the 16 unit images: these
# are the columns. **Predict:** lesson 03's matrix had one band of numbers; what do you expect here?

# %%
units = np.eye(16, dtype=np.float32).reshape(16, 4, 4)
A = np.stack([convolve(unit, kernel).ravel() for unit in units], axis=1)
assert A.shape == (4, 16) and (A @ image.ravel() == convolve(image, kernel).ravel()).all()

plt.figure(figsize=(8, 2.6))
plt.imshow(A, cmap="PuOr", vmin=-4, vmax=4)
for (i, j), number in np.ndenumerate(A):
    plt.text(j, i, f"{number:g}", ha="center", va="center", color="black" if number else "#999999")
plt.xlabel("pixel of the image, row by row")
plt.ylabel("output pixel")
plt.xticks(range(16))
plt.yticks(range(4))
plt.show()

# %% [markdown]
# Bands within bands: one band for each row of the kernel, four pixels apart because an image row has four.
#
# ## Channels
#
# Pixels hold several numbers: red, green, blue, or the 64 features of a layer inside a network. These are **channels**.
# A kernel spans *all* input channels, and each output channel has a kernel of its own:
#
# $$y_{n,o,q} = b_o + \sum_{c}\sum_{k} w_{o,c,k}\; x_{n,c,\,q+k}$$
#
# Here $n$ counts images, $o$ and $c$ output and input channels. $q$ and $k$ are positions: pairs in 2-D, triples in
# 3-D. Nothing else in the formula knows the number of dimensions.
#
# **Predict, then run:** with kernels of one pixel nothing slides any more. Two input channels, one output channel,
# weights $(2, -1)$, bias 10: what becomes of the pixel $(3, 4)$?

# %%
x = minidl.tensor(np.array([3.0, 4], np.float32)).reshape(1, 2, 1, 1)
w = minidl.tensor(np.array([2.0, -1], np.float32)).reshape(1, 2, 1, 1)
y = F.conv2d(x, w, minidl.tensor(np.array([10.0], np.float32)))
print(y.item())
assert y.item() == 2 * 3 - 1 * 4 + 10 == 12

# %% [markdown]
# So a 1x1 convolution is the affine map of lesson 01, the same one at every pixel. It ends every U-Net: features in,
# classes out. How many weights has a layer with larger kernels? **Predict** for 64 channels to 64, in 2-D and in 3-D.

# %%
for layer, taps in ((nn.Conv2d(64, 64, 3), 9), (nn.Conv3d(64, 64, 3), 27)):
    weights = sum(p.numel() for p in layer.parameters())
    print(layer, weights)
    assert weights == 64 * 64 * taps + 64
assert (64 * 64 * 9 + 64, 64 * 64 * 27 + 64) == (36_928, 110_656)

# %% [markdown]
# The size of the image does not appear. And along each axis the output size follows the rule of lesson 03,
# $\lfloor (L + 2p - k)/s \rfloor + 1$, with a kernel size, padding and stride per axis if you like.
#
# ## Without loops
#
# Loops over pixels are slow in Python. NumPy can *view* an image as all its windows, without copying a single
# number: the same memory, read in steps. Then the convolution is a product summed over channels and kernel.


# %%
def windows_of(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """All windows of x (N, C, *S) as a view (N, C, *Q, *K)."""
    return sliding_window_view(x, size, axis=tuple(range(2, x.ndim)))


def conv(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x (N, C, *S), w (O, C, *K) -> y (N, O, *Q): in 1-D, 2-D, 3-D, or more."""
    windows = windows_of(x, w.shape[2:])
    taps = range(-(w.ndim - 2), 0)  # the last axes of the windows
    y = np.tensordot(windows, w, axes=([1, *taps], range(1, w.ndim)))  # (N, *Q, O)
    return np.moveaxis(y, -1, 1)


assert (conv(image[None, None], kernel[None, None])[0, 0] == convolve(image, kernel)).all()
rng = np.random.default_rng(0)
for rank, op in ((1, F.conv1d), (2, F.conv2d), (3, F.conv3d)):
    x, w = rng.normal(size=(2, 3, *(7, 6, 5)[:rank])), rng.normal(size=(4, 3, *(3, 2, 3)[:rank]))
    assert np.allclose(conv(x, w), op(minidl.tensor(x), minidl.tensor(w)).numpy())
    print(f"{rank}-D: {x.shape} * {w.shape} -> {conv(x, w).shape}")

# %% [markdown]
# One function, three dimensions, equal to minidl's. The view is free, the product is not: to multiply, `tensordot`
# first copies the windows into a matrix. **Predict:** how many times does every voxel occur in it, for 3x3 and for
# 3x3x3 kernels?

# %%
for shape in ((256, 256), (40, 40, 40)):
    x = np.zeros((1, 1, *shape), np.float32)
    windows = windows_of(np.pad(x, [(0, 0)] * 2 + [(1, 1)] * len(shape)), (3,) * len(shape))
    copy = np.ascontiguousarray(windows)
    print(f"{len(shape)}-D: image {x.nbytes / 1e6:.2f} MB, its windows, copied, {copy.nbytes / 1e6:.2f} MB")
    assert windows.size == x.size * 3 ** len(shape) and copy.nbytes == x.nbytes * 3 ** len(shape)

# %% [markdown]
# 9 times and 27 times: in 3-D, where memory is scarce (lesson 14), that hurts. There is a second way without a loop
# over pixels. A convolution is a sum of *shifted images*, one for each **tap** of the kernel, so loop over taps:


# %%
def conv_by_taps(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The same sum in another order: one product of channels for each tap, on a shifted image."""
    outputs = [n - k + 1 for n, k in zip(x.shape[2:], w.shape[2:])]
    y = np.zeros((len(x), len(w), *outputs), x.dtype)
    for tap in np.ndindex(*w.shape[2:]):
        shifted = x[(..., *(slice(t, t + n) for t, n in zip(tap, outputs)))]
        y += np.einsum("nc...,oc->no...", shifted, w[(..., *tap)])
    return y


x, w = rng.normal(size=(1, 4, 9, 8, 7)), rng.normal(size=(2, 4, 3, 3, 3))
assert np.allclose(conv_by_taps(x, w), conv(x, w))
picture = photo[None, None]
for name, run in (
    ("loop over pixels", lambda: convolve(photo, kernel)),
    ("windows", lambda: conv(picture, kernel[None, None])),
    ("taps", lambda: conv_by_taps(picture, kernel[None, None])),
):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    print(f"{name:18}{1e3 * min(times):8.2f} ms")

# %% [markdown]
# The times are those of the machine that made this page. The loop over pixels has 8,836 steps here, the loop over taps
# 9, and 27 in 3-D: the same sum in another order, with fewer steps for Python. minidl's own convolution on the CPU stands between
# the two fast ones: it copies windows along the last axis only, and loops over the taps of the other axes.

# %%
assert convolve(photo, kernel).size == 94 * 94 == 8_836
assert kernel.size == 9 and w[0, 0].size == 27

# %% [markdown]
# ## The trio
#
# Take any numbers $u$ of the output's shape and look at one number, the sum of everything:
#
# $$T(x, w, u) = \sum_{n,o,q,c,k} x_{n,c,q+k}\; w_{o,c,k}\; u_{n,o,q} = \langle \mathrm{conv}(x, w),\, u\rangle$$
#
# It is linear in each of its three arguments. So its gradient with respect to one is a function of the *other two*:
#
# | leave out | what remains | its name |
# |---|---|---|
# | $u$ | conv($x$, $w$) | the forward pass |
# | $x$ | a transposed convolution of $u$ with $w$ | the gradient of the input |
# | $w$ | a convolution of $x$ with $u$ as kernel | the gradient of the weights |
#
# When gradients flow backward (lesson 02), $u$ is the gradient that arrives from above. In 1-D by hand first:
# $x = (1, 2, 3)$, $w = (5, 7)$, $u = (1, 10)$. **Predict:** the gradient of $w_0$ is
# $x_0 u_0 + x_1 u_1 = 21$. What is that of $w_1$, and what are the three of $x$?

# %%
line = lambda *values: minidl.tensor(np.array(values, np.float32)).reshape(1, 1, -1)
x, w, u = line(1, 2, 3).requires_grad_(), line(5, 7).requires_grad_(), line(1, 10)
y = F.conv1d(x, w)
y.backward(u)
print("y", y.tolist()[0][0], " gradient of w", w.grad.tolist()[0][0], " of x", x.grad.tolist()[0][0])
assert y.tolist() == [[[19, 31]]] and w.grad.tolist() == [[[21, 32]]] and x.grad.tolist() == [[[5, 57, 70]]]
total = (y * u).sum().item()
assert total == (w * w.grad).sum().item() == (x * x.grad).sum().item() == 329
print("T three times:", total)

# %% [markdown]
# The last line is a test that every convolution must pass, however it is written: three sums, one number. Now with
# channels, in 2-D and 3-D. The gradients are the code from above with letters exchanged.


# %%
def input_gradient(u: np.ndarray, w: np.ndarray) -> np.ndarray:
    """What remains of T without x: u with zeros around, convolved with w flipped, channels exchanged."""
    margins = [(0, 0)] * 2 + [(k - 1, k - 1) for k in w.shape[2:]]
    flipped = np.flip(w, axis=tuple(range(2, w.ndim)))
    return conv(np.pad(u, margins), flipped.swapaxes(0, 1))


for rank, op in ((2, F.conv2d), (3, F.conv3d)):
    x = minidl.tensor(rng.normal(size=(2, 3, *(6, 5, 4)[:rank]))).requires_grad_()
    w = minidl.tensor(rng.normal(size=(4, 3, *(3, 2, 3)[:rank]))).requires_grad_()
    y = op(x, w)
    u = rng.normal(size=y.shape)
    y.backward(minidl.tensor(u))
    assert np.allclose(x.grad.numpy(), input_gradient(u, w.detach().numpy()))
    T = [
        (a * b).sum()
        for a, b in ((y.detach().numpy(), u), *((p.detach().numpy(), p.grad.numpy()) for p in (x, w)))
    ]
    print(f"{rank}-D: T = {T[0]:.6f} = {T[1]:.6f} = {T[2]:.6f}")
    assert np.allclose(T, T[0])

# %% [markdown]
# The gradient of the weights is yours to write, in exercise 3.
#
# ## What the third dimension costs
#
# **Predict:** a layer of 32 channels to 32, kernel 3, on an image of 256x256 and on a volume of 128x128x128. How many
# multiplications each, and how many megabytes of output (4 bytes a number)?

# %%
costs = {}
for size in ((256, 256), (128, 128, 128)):
    outputs = np.prod(size) * 32
    costs[len(size)] = (outputs * 32 * 3 ** len(size), outputs * 4)
    print(f"{len(size)}-D: {costs[len(size)][0] / 1e9:6.1f} billion products, {outputs * 4 / 1e6:6.1f} MB")
assert costs[3][1] / costs[2][1] == 32 and costs[3][0] / costs[2][0] == 96

# %% [markdown]
# 32 times the memory, 96 times the work, for one layer and one image. The formula does not change from 2-D to 3-D; the
# bill does.
#
# ## Exercises
#
# **1. With stride and padding.** Write `my_conv2d(x, w, stride, padding)` for x (N, C, H, W) and w (O, C, h, w). You
# may use `conv` from above.


# %% tags=["exercise"]
def my_conv2d(x, w, stride, padding):
    """Replace the next line."""
    return conv(x, w)


# %% [markdown]
# <details><summary>Hint</summary>
#
# Pad the last two axes only: `np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)])`. A stride keeps every s-th output of the
# convolution without one.
#
# </details>


# %% tags=["solution"]
def my_conv2d(x, w, stride, padding):
    """Pad, convolve, keep every stride-th output."""
    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    return conv(padded, w)[:, :, ::stride, ::stride]


# %%
def reference(x, w, stride, padding):
    """minidl's convolution on arrays."""
    return F.conv2d(minidl.tensor(x), minidl.tensor(w), stride=stride, padding=padding).numpy()


x, w = rng.normal(size=(2, 3, 7, 6)), rng.normal(size=(4, 3, 3, 3))
check.function("my_conv2d", my_conv2d, reference, (x, w, 1, 1), (x, w, 2, 1), (x, w, 3, 0), (x, w, 2, 2))

# %% [markdown]
# **2. A kernel that moves.** Find a 3x3 kernel which, with a padding of 1, moves the image one pixel *down* and one
# pixel to the *right*: output $(i, j)$ is pixel $(i-1, j-1)$.

# %% tags=["exercise"]
mover = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])

# %% [markdown]
# <details><summary>Hint</summary>
#
# The kernel is not flipped. Its middle tap sees pixel $(i, j)$; which tap sees $(i-1, j-1)$?
#
# </details>

# %% tags=["solution"]
mover = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]])

# %%
moved = np.zeros_like(image)
moved[1:, 1:] = image[:-1, :-1]
check.value("the moved image", lambda: convolve(np.pad(image, 1), mover), moved)

# %% [markdown]
# **3. The third of the trio.** Write `weight_gradient(x, u)`: the sum over images $n$ and positions $q$ of
# $x_{n,c,q+k}\,u_{n,o,q}$, of shape (O, C, *K), in 2-D and in 3-D, without a loop over pixels.


# %% tags=["exercise"]
def weight_gradient(x, u):
    """Replace the last line."""
    size = [n - q + 1 for n, q in zip(x.shape[2:], u.shape[2:])]
    return np.zeros((u.shape[1], x.shape[1], *size))


# %% [markdown]
# <details><summary>Hint</summary>
#
# Slide $u$ over $x$ as if it were the kernel: `windows_of(x, u.shape[2:])` is (N, C, *K, *Q). Sum over N and all of Q
# with `np.tensordot`. Or exchange the first two axes of both, and use `conv`.
#
# </details>


# %% tags=["solution"]
def weight_gradient(x, u):
    """Images and channels trade places: x as (C, N, *S), u as a kernel (O, N, *Q)."""
    return conv(x.swapaxes(0, 1), u.swapaxes(0, 1)).swapaxes(0, 1)


# %%
def true_gradient(x, u):
    """What autodiff finds for the weights."""
    op = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    size = [n - q + 1 for n, q in zip(x.shape[2:], u.shape[2:])]
    w = minidl.zeros(u.shape[1], x.shape[1], *size, dtype=minidl.float64).requires_grad_()
    op(minidl.tensor(x), w).backward(minidl.tensor(u))
    return w.grad.numpy()


small = rng.normal(size=(2, 3, 6, 5)), rng.normal(size=(2, 4, 4, 4))
cube = rng.normal(size=(1, 2, 4, 5, 6)), rng.normal(size=(1, 3, 2, 4, 4))
check.function("weight_gradient", weight_gradient, true_gradient, small, cube)

# %% [markdown]
# ## What you can now explain
#
# - a convolution with channels as one formula, the same in 1-D, 2-D and 3-D, and the shape of its weights;
# - how many weights a layer has, and why the size of the image does not matter for that;
# - two ways to write it without a loop over pixels, and what memory each needs;
# - why the two gradients of a convolution are convolutions again, and a test for all three: one number, three times;
# - what a third dimension costs.
#
# **Where this stands.** The windows-as-a-matrix way is from K. Chellapilla, S. Puri and P. Simard, *High performance
# convolutional neural networks for document processing*, IWFHR (2006); V. Dumoulin and F. Visin, *A guide to convolution
# arithmetic for deep learning*, arXiv:1603.07285 (2016), draws sizes, strides and paddings. minidl's trio is in
# `minidl/ops/bilinear.py`. Lesson 05 asks what a stack of such layers can see.
