# %% [markdown]
# # 03 · Convolution by hand, in one dimension
#
# **At the end you own this sentence:** a convolution is a matrix whose rows all hold the same few numbers, and its
# transpose is the up-convolution of every U-Net.
#
# *Needs:* lesson 01 (affine map and activation). *Takes:* 25 minutes. *New:* sliding window, zero padding, stride,
# transposed convolution.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, notebook

notebook.style()

x = np.array([1, 3, 2, 1, 0, 0, 1], dtype=np.float32)
kernel = np.array([-1, 2, 1], dtype=np.float32)


def show_window(position: int, axis=None) -> None:
    """The signal with a zero at either end, and the kernel where it stands for one output sample."""
    axis = axis or plt.figure(figsize=(5, 2.8)).gca()
    padded = np.pad(x, 1)
    colors = ["#56B4E9" if position <= i < position + 3 else "#CCCCCC" for i in range(9)]
    axis.bar(range(-1, 8), padded, color=colors)
    for k, weight in enumerate(kernel):
        axis.text(position + k - 1, padded[position + k] + 0.15, f"· {weight:g}", ha="center")
    value = float(padded[position : position + 3] @ kernel)
    axis.set(
        title=f"output {position}: {value:g}", ylim=(0, 4), yticks=range(4), xlabel="sample", ylabel="value"
    )


figure, axes = plt.subplots(1, 3, figsize=(11, 2.8))
for axis, position in zip(axes, (0, 1, 2)):
    show_window(position, axis)

# %% [markdown]
# A layer of a network is $x \mapsto \varphi(Ax + b)$ (lesson 01). For images the matrix $A$ is special: a small
# **kernel** slides along the signal, and every output is the weighted sum of what the kernel covers.
#
# **Predict, then run.** The kernel is $(-1, 2, 1)$. The first output is $0\cdot(-1) + 1\cdot 2 + 3\cdot 1 = 5$; the
# samples beyond the border count as zero (*zero padding*), so that there are as many outputs as inputs. What are
# the other six?


# %%
def convolve(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    """Slide the kernel over x with one zero added at either end; keep every stride-th output."""
    padded = np.pad(x, 1)
    return np.array([padded[i : i + 3] @ kernel for i in range(0, len(x), stride)])


print(convolve(x, kernel))
assert convolve(x, kernel).tolist() == [5, 7, 2, 0, -1, 1, 2]

# %% [markdown]
# Move the kernel yourself (on a page without a running kernel you see one position):

# %%
notebook.explore(show_window, position=(3, 0, 6))

# %% [markdown]
# ## The same thing as a matrix
#
# Each output is a weighted sum of inputs, so the whole is a matrix product $Ax$. To find the columns of $A$, convolve
# the unit vectors. **Predict:** how many different numbers does $A$ hold?

# %%
A = np.stack([convolve(unit, kernel) for unit in np.eye(7)], axis=1)
print(A.astype(int))
assert (A @ x == convolve(x, kernel)).all()
assert set(A.ravel()) == {-1, 0, 1, 2} and A.size == 49

# %% [markdown]
# The kernel's three numbers, and zeros: a fully connected layer would have 49 numbers to learn here. Note that the
# kernel is *not* flipped; mathematicians call this a cross-correlation, deep learning calls it convolution.
#
# ## Down: a strided convolution
#
# To halve the resolution, compute every second output only: a *stride* of 2. That is the same matrix with every second
# row left out.

# %%
down = convolve(x, kernel, stride=2)
A2 = A[::2]
print(down)
assert down.tolist() == [5, 2, -1, 2] and (A2 @ x == down).all()

# %% [markdown]
# ## Up: the transposed convolution
#
# $A_2$ maps 7 samples to 4. Its transpose maps 4 to 7: this is the *transposed convolution*, or *up-convolution*. It is
# not the inverse: it does not bring $x$ back. Another way to see it: put a zero between any two samples, then convolve
# with the kernel **flipped**.

# %%
up = A2.T @ down
with_zeros = np.zeros(7)
with_zeros[::2] = down
print(up)
assert up.tolist() == [10, 3, 4, 3, -2, -3, 4] != x.tolist()
assert (convolve(with_zeros, kernel[::-1]) == up).all()
assert (convolve(with_zeros, kernel) != up).any()  # without the flip it is another map

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, matrix, name in (
    (axes[0], A2, "$A_2$: 7 samples to 4"),
    (axes[1], A2.T, "its transpose: 4 samples to 7"),
):
    axis.imshow(matrix, cmap="PuOr", vmin=-2.5, vmax=2.5)
    for (i, j), number in np.ndenumerate(matrix):
        color = "white" if number == 2 else "black" if number else "#767676"
        axis.text(j, i, f"{number:g}", ha="center", va="center", color=color)
    axis.set(title=name, xlabel="input sample", ylabel="output sample", xticks=range(matrix.shape[1]))

# %% [markdown]
# ## minidl computes the same
#
# Signals are `(N, C, L)`: samples, channels, length. And since the transpose of the forward matrix is what carries
# gradients backward (lesson 02), the gradient of a convolution *is* a transposed convolution.


# %%
def signal(values) -> minidl.Tensor:
    """A list of numbers as one sample of one channel."""
    return minidl.tensor(np.asarray(values, np.float32)).reshape(1, 1, -1)


assert F.conv1d(signal(x), signal(kernel), padding=1).flatten().tolist() == convolve(x, kernel).tolist()
assert F.conv1d(signal(x), signal(kernel), padding=1, stride=2).flatten().tolist() == down.tolist()
assert F.conv_transpose1d(signal(down), signal(kernel), padding=1, stride=2).flatten().tolist() == up.tolist()

leaf = signal(x).requires_grad_()
F.conv1d(leaf, signal(kernel), padding=1, stride=2).backward(signal(down))
assert leaf.grad.flatten().tolist() == up.tolist()

# %% [markdown]
# ## Exercises
#
# **1. Any kernel, any padding, any stride.** Write `my_conv(x, kernel, padding, stride)`. The number of outputs is
# $\lfloor (L + 2p - k)/s \rfloor + 1$.


# %% tags=["exercise"]
def my_conv(x, kernel, padding, stride):
    """Replace the next line."""
    return np.zeros(len(x))


# %% [markdown]
# <details><summary>Hint</summary>
#
# Pad first. Output $q$ is the product of the kernel with the samples from $sq$ to $sq + k - 1$ of the padded signal.
#
# </details>


# %% tags=["solution"]
def my_conv(x, kernel, padding, stride):
    """The general case: pad, then one product per output."""
    padded = np.pad(np.asarray(x, float), padding)
    outputs = (len(padded) - len(kernel)) // stride + 1
    return np.array([padded[stride * q : stride * q + len(kernel)] @ kernel for q in range(outputs)])


# %%
def reference(x, kernel, padding, stride):
    """minidl's convolution on plain lists of numbers."""
    return F.conv1d(signal(x), signal(kernel), padding=padding, stride=stride).flatten().numpy()


check.function(
    "my_conv", my_conv, reference, (x, kernel, 1, 1), (x, kernel, 1, 2), (x, [2, -1], 0, 3), (x, kernel, 3, 2)
)

# %% [markdown]
# **2. Up without a matrix.** Write `my_up(u, kernel)`, the transposed convolution for a stride of 2 and a padding of 1,
# by *adding*: every sample of u adds a copy of the kernel, multiplied by it, to the output.


# %% tags=["exercise"]
def my_up(u, kernel):
    """Replace the next line."""
    return np.zeros(2 * len(u) - 1)


# %% [markdown]
# <details><summary>Hint</summary>
#
# Make room for the padding, $2(n - 1) + 3$ samples, add into it, and cut one sample off at either end.
#
# </details>


# %% tags=["solution"]
def my_up(u, kernel):
    """Each sample leaves a scaled kernel behind; where copies overlap, they add up."""
    y = np.zeros(2 * (len(u) - 1) + 3)
    for q, value in enumerate(u):
        y[2 * q : 2 * q + 3] += value * np.asarray(kernel)
    return y[1:-1]


# %%
def reference_up(u, kernel):
    """minidl's transposed convolution on plain lists of numbers."""
    return F.conv_transpose1d(signal(u), signal(kernel), padding=1, stride=2).flatten().numpy()


check.function("my_up", my_up, reference_up, (down, kernel), ([1.0], kernel), ([2, 0, -1], [1, 2, 3]))

# %% [markdown]
# ## What you can now explain
#
# - why a convolution is a linear map, and what its matrix looks like;
# - what zero padding and stride do to the size: $\lfloor (L + 2p - k)/s \rfloor + 1$;
# - why "transposed convolution" is the right name, and why it needs the flipped kernel;
# - why the gradient of one is the other.
#
# **Where this stands.** V. Dumoulin and F. Visin, *A guide to convolution arithmetic for deep learning*,
# arXiv:1603.07285 (2016), draws all the cases. Lesson 04 adds channels and dimensions, lesson 07 asks what goes wrong
# with up-convolutions.
