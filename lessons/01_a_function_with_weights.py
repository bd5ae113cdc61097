# %% [markdown]
# # 01 · A function with weights
#
# **At the end you own this sentence:** a neural network is a chain of layers, each an affine map followed by a bend, and
# with enough bends a chain can follow any curve.
#
# *Needs:* matrices. *Takes:* 25 minutes. *New:* weights, affine map, activation, composition, the network as
# $f(x; W) \approx y$.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import check, nn, notebook

notebook.style()
x = np.linspace(-3, 3, 301)

relu = lambda z: np.maximum(z, 0)
bump = relu(x + 1) - 2 * relu(x) + relu(x - 1)

figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), sharey=True)
axes[0].set_ylabel("f(x)")
for axis, values, name in zip(
    axes, (x, relu(x), bump), ("affine: a line", "ReLU: one bend", "three bends: a bump")
):
    axis.plot(x, values)
    axis.set(title=name, xlabel="x", ylim=(-1.2, 2.2))

# %% [markdown]
# In deep learning we look for a function. It gets an image and returns which pixel belongs to what, and nobody can write it
# down. So we write down a *family* of functions with many adjustable numbers, the **weights** $W$, and look for
# weights with
#
# $$f(x; W) \approx y$$
#
# for all the examples $(x, y)$ that we have. This lesson is about the family; lessons 02 and 11 are about the search.
#
# ## One layer: an affine map, then a bend
#
# $$f_k(x; A, b) = \varphi(Ax + b)$$
#
# $A$ is a matrix, $b$ a vector: together they are the layer's weights. $\varphi$ is the **activation function**, applied
# to each number by itself. The most common one is the ReLU, $\varphi(x) = \max(x, 0)$. The *leaky* ReLU keeps a little
# of the negative side, $\varphi_a(x) = \max(x, ax)$ with a small $a$, so that its slope is never zero.
#
# **Predict, then run:** with $A = \begin{pmatrix}1 & -1\\ 2 & 0\end{pmatrix}$, $b = (0, -3)$ and $x = (1, 2)$, what
# is $Ax + b$, and what do ReLU and leaky ReLU ($a = 0.01$) make of it?

# %%
A, b = np.array([[1.0, -1], [2, 0]]), np.array([0.0, -3])
z = A @ np.array([1.0, 2]) + b
leaky_relu = lambda z, a: np.maximum(z, a * z)
print("Ax + b:", z, " ReLU:", relu(z), " leaky ReLU:", leaky_relu(z, 0.01))
assert (
    z.tolist() == [-1, -1] and relu(z).tolist() == [0, 0] and leaky_relu(z, 0.01).tolist() == [-0.01, -0.01]
)
# max(x, ax) is the leaky ReLU for slopes up to 1 only: beyond, the *larger* of the two is the other one
assert leaky_relu(np.array([-1.0, 1.0]), 2).tolist() == [-1, 2] != [-2, 1]

# %% [markdown]
# ## Why the bend?
#
# A network is a **composition** of layers, $f(x; W) = f_n(f_{n-1}(\dots f_1(x; W_1)\dots; W_{n-1}); W_n)$. Without
# activations that would buy nothing: affine after affine is affine. **Predict:** which single layer equals these two?

# %%
rng = np.random.default_rng(0)
A1, b1, A2, b2 = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=(2, 3)), rng.normal(size=2)
point = rng.normal(size=2)
two_layers = A2 @ (A1 @ point + b1) + b2
one_layer = (A2 @ A1) @ point + (A2 @ b1 + b2)
assert np.allclose(two_layers, one_layer)
print("two affine layers:", two_layers.round(3), " one:", one_layer.round(3))

# %% [markdown]
# ## The universal wiggle
#
# With bends it is different. `relu(x - c)` is flat, then bends at $c$. A weighted sum of many of them is a curve made of
# straight pieces, with a bend wherever we like: that is a network with one hidden layer. Choose the bends, and the
# slopes follow.


# %%
def wiggle(target, bends: int):
    """A one-hidden-layer network that meets `target` at evenly spaced points: (A, b, slopes, offset)."""
    knots = np.linspace(-3, 3, bends + 1)
    heights = target(knots)
    slopes = np.diff(heights) / np.diff(knots)
    changes = np.diff(slopes, prepend=0)  # what each bend adds to the slope
    return np.ones((bends, 1)), -knots[:-1], changes, heights[0]


def network(x, A, b, slopes, offset):
    """offset + slopes · relu(A x + b) for many x at once."""
    return offset + relu(x[:, None] @ A.T + b) @ slopes


target = lambda x: np.sin(2 * x) + 0.3 * x


def show_wiggle(bends: int) -> None:
    """The target, and the network with so many bends."""
    plt.figure(figsize=(7, 3))
    plt.plot(x, target(x), color="#BBBBBB", linewidth=6, label="target")
    error = abs(network(x, *wiggle(target, bends)) - target(x)).max()
    plt.plot(x, network(x, *wiggle(target, bends)), label=f"{bends} bends, largest error {error:.2f}")
    plt.xlabel("x")
    plt.ylabel("f(x)")
    plt.legend()


notebook.explore(show_wiggle, bends=(8, 1, 60))

# %% [markdown]
# **Predict:** when the number of bends doubles, what happens to the largest error?

# %%
counts = np.array([8, 16, 32, 64, 128])
errors = np.array([abs(network(x, *wiggle(target, n)) - target(x)).max() for n in counts])
slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
print({int(n): round(float(e), 4) for n, e in zip(counts, errors)}, f"log-log slope {slope:.1f}")
assert -2.4 < slope < -1.7  # twice the bends, a quarter of the error: straight pieces on a smooth curve

plt.figure(figsize=(5, 3))
plt.loglog(counts, errors, "o-")
plt.xticks(counts, counts)
plt.minorticks_off()
plt.xlabel("bends (hidden units)")
plt.ylabel("largest error")
plt.show()

# %% [markdown]
# So one hidden layer can follow any continuous curve on an interval. Cybenko 1989 and Hornik 1991 proved it for other
# activations and for many inputs: the *universal approximation theorem*. It says that good weights exist, not that we
# find them, nor that it takes few units.
#
# ## Depth
#
# Composing bends *multiplies* them. A zigzag layer folds the line; a zigzag of a zigzag folds it twice. **Predict:** how
# many straight pieces have three such layers of two units each, and how many units would one hidden layer need?

# %%
fold = lambda x: 2 * relu(x) - 4 * relu(x - 0.5)  # 0 -> 0, ½ -> 1, 1 -> 0
unit = np.linspace(0, 1, 1025)
folded = [unit]
for _ in range(10):
    folded.append(fold(folded[-1]))
bends = [int((np.diff(np.sign(np.diff(y))) != 0).sum()) for y in folded]
assert [bends[layers] for layers in (1, 2, 3, 10)] == [1, 3, 7, 1023]

figure, axes = plt.subplots(1, 3, figsize=(11, 2.6), sharey=True)
axes[0].set_ylabel("f(x)")
for axis, y, n in zip(axes, folded[1:], bends[1:]):
    axis.plot(unit, y)
    axis.set(title=f"{n + 1} pieces", xlabel="x")

# %% [markdown]
# Six units in three layers make eight pieces; a single layer would need seven bends. With ten layers it is 20 units
# against 1,023.
#
# ## The same in minidl
#
# A layer is `nn.Linear` and an activation; a network is a list of them. What is chosen here, the activation, the
# structure of the linear maps, the way they are composed, is called the **architecture**.

# %%
minidl.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 16), nn.LeakyReLU(0.01), nn.Linear(16, 1))
print(net)
weights = sum(p.numel() for p in net.parameters())
print(weights, "weights")
assert weights == (1 * 16 + 16) + (16 * 16 + 16) + (16 * 1 + 1) == 321

first = net[0]
points = minidl.tensor(x[:5, None].astype(np.float32))
by_hand = points.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy()
assert np.allclose(first(points).detach().numpy(), by_hand, atol=1e-6)

# %% [markdown]
# ## Exercises
#
# **1. A layer.** Write `layer(x, A, b, a)`: the affine map and the leaky ReLU of slope $a$.


# %% tags=["exercise"]
def layer(x, A, b, a):
    """Replace the next line."""
    return x


# %% [markdown]
# <details><summary>Hint</summary>
#
# `A @ x + b`, then where that is negative, multiply it by `a`: `np.where(condition, this, that)`.
#
# </details>


# %% tags=["solution"]
def layer(x, A, b, a):
    """φ_a(Ax + b)."""
    z = A @ x + b
    return np.where(z < 0, a * z, z)


# %%
reference = lambda x, A, b, a: leaky_relu(A @ x + b, a)
check.function(
    "layer", layer, reference, (point, A1, b1, 0.1), (np.array([1.0, 2]), A, b, 0.01), (point, A1, b1, 0)
)

# %% [markdown]
# **2. A hat.** Find weights with which `network` is the hat that is 0 up to $-1$, rises to 1 at 0, falls to 0 at 1 and
# stays there. Fill in three bends $b$ and three changes of slope.

# %% tags=["exercise"]
hat_b, hat_slopes = np.zeros(3), np.zeros(3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# A bend at $c$ is `relu(x - c)`, so $b = -c$. The slope goes 0, 1, -1, 0: what are its three changes?
#
# </details>

# %% tags=["solution"]
hat_b, hat_slopes = np.array([1.0, 0, -1]), np.array([1.0, -2, 1])

# %%
hat = lambda x: np.maximum(1 - abs(x), 0)
check.value("the hat", lambda: network(x, np.ones((3, 1)), hat_b, hat_slopes, 0), hat(x))

# %% [markdown]
# ## What you can now explain
#
# - what the weights of a network are, and what $f(x; W) \approx y$ asks for;
# - a layer as an affine map and an activation; ReLU and leaky ReLU;
# - why a network without activations is a single affine map;
# - why many bends follow any curve, how the error falls, and why depth is cheaper than width;
# - the word *architecture*.
#
# **Where this stands.** G. Cybenko, *Approximation by superpositions of a sigmoidal function*, Mathematics of Control,
# Signals and Systems 2 (1989); K. Hornik, *Approximation capabilities of multilayer feedforward networks*, Neural
# Networks 4 (1991); M. Telgarsky, *Benefits of depth in neural networks*, COLT (2016), for the folds. Lesson 02 finds
# the weights' derivatives, lesson 03 chooses the matrix that images want.
