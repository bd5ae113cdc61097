# %% [markdown]
# # Convolution by hand, in one dimension
#
# A convolutional layer is the map $x \mapsto \varphi(Ax + b)$ with a special matrix $A$: every row holds
# the same few numbers, one step further on. Here we slide a kernel over seven samples, write the matrix
# down, transpose it, and meet the two layers that shrink and grow images in every U-Net.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F

x = np.array([1, 3, 2, 1, 0, 0, 1], dtype=np.float32)
kernel = np.array([-1, 2, 1], dtype=np.float32)


def show_window(position: int, axis) -> None:
    """The signal with a zero at either end, and the kernel where it stands for one output sample."""
    padded = np.pad(x, 1)
    colors = ["#56B4E9" if position <= i < position + 3 else "#CCCCCC" for i in range(9)]
    axis.bar(range(-1, 8), padded, color=colors)
    for k, weight in enumerate(kernel):
        axis.text(position + k - 1, padded[position + k] + 0.15, f"· {weight:g}", ha="center", fontsize=12)
    value = float(padded[position : position + 3] @ kernel)
    axis.set_title(f"output {position}: {value:g}", fontsize=12)
    axis.set(ylim=(0, 4), yticks=[], xlabel="sample")


figure, axes = plt.subplots(1, 3, figsize=(11, 2.6), layout="constrained")
for axis, position in zip(axes, (0, 1, 2)):
    show_window(position, axis)

# %% [markdown]
# **Before you run the next cell:** what are the seven outputs? The first is
# $0\cdot(-1) + 1\cdot 2 + 3\cdot 1 = 5$. The samples beyond the border count as zero (*zero padding*),
# so that there are as many outputs as inputs.


# %%
def convolve(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    """Slide the kernel over x with one zero added at either end; keep every stride-th output."""
    padded = np.pad(x, 1)
    return np.array([padded[i : i + 3] @ kernel for i in range(0, len(x), stride)])


print(convolve(x, kernel))
assert convolve(x, kernel).tolist() == [5, 7, 2, 0, -1, 1, 2]

# %% [markdown]
# ## The same thing as a matrix
#
# Each output is a weighted sum of inputs, so the whole is a matrix product $Ax$. To find the columns of
# $A$, convolve the unit vectors.

# %%
A = np.stack([convolve(unit, kernel) for unit in np.eye(7)], axis=1)
print(A.astype(int))
assert (A @ x == convolve(x, kernel)).all()

# %% [markdown]
# ## Down: a strided convolution
#
# To halve the resolution, compute every second output only. That is the same matrix with every second row
# left out.

# %%
down = convolve(x, kernel, stride=2)
A2 = A[::2]
print(down)
assert down.tolist() == [5, 2, -1, 2] and (A2 @ x == down).all()

# %% [markdown]
# ## Up: the transposed convolution
#
# $A_2$ maps 7 samples to 4. Its transpose maps 4 to 7: this is the *transposed convolution*, or
# *up-convolution*. It is not the inverse. Another way to see it: put a zero between any two samples, then
# convolve with the kernel **flipped**.

# %%
up = A2.T @ down
with_zeros = np.zeros(7)
with_zeros[::2] = down
print(up)
assert up.tolist() == [10, 3, 4, 3, -2, -3, 4]
assert (convolve(with_zeros, kernel[::-1]) == up).all()

# %% [markdown]
# ## minidl computes the same
#
# Signals are `(N, C, L)`: samples, channels, length. And since the transpose of the forward matrix is what
# carries gradients backward, the gradient of a convolution *is* a transposed convolution.

# %%
signal = lambda values: minidl.tensor(np.asarray(values, np.float32)).reshape(1, 1, -1)
assert F.conv1d(signal(x), signal(kernel), padding=1).flatten().tolist() == convolve(x, kernel).tolist()
assert F.conv1d(signal(x), signal(kernel), padding=1, stride=2).flatten().tolist() == down.tolist()
assert F.conv_transpose1d(signal(down), signal(kernel), padding=1, stride=2).flatten().tolist() == up.tolist()

leaf = signal(x).requires_grad_()
F.conv1d(leaf, signal(kernel), padding=1, stride=2).backward(signal(down))
assert leaf.grad.flatten().tolist() == up.tolist()

# %% [markdown]
# ## What you can now explain
#
# - why a convolution is a linear map, and what its matrix looks like;
# - what zero padding and stride do to the size: $\lfloor (L + 2p - k)/s \rfloor + 1$;
# - why "transposed convolution" is the right name, and why it needs the flipped kernel;
# - why the gradient of one is the other.
#
# Further reading: Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, arXiv
# 1603.07285.

# %%
if os.environ.get("MPLBACKEND", "").lower() != "agg":
    plt.show()
