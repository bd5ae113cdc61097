# %% [markdown]
# # 12 · Normalisation
#
# **At the end you own this sentence:** a normalisation layer brings every channel back to mean 0 and variance 1, so that
# nothing explodes on the way; over *which* pixels it averages decides what the network can no longer see.
#
# *Needs:* lesson 11 (learning rate, gradients). *Takes:* 35 minutes. *New:* exploding and vanishing activations, He's
# initialisation, batch, instance, group and layer normalisation, running statistics.

# %%
import math
import warnings

import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import autograd, check, nn, notebook, optim
from minidl.data import PhantomDataset
from minidl.models import UNet
from minidl.segment.metrics import dice

notebook.style()
minidl.manual_seed(0)
warnings.filterwarnings("ignore", category=RuntimeWarning)  # some networks here explode, on purpose
DEPTH, WIDTH = 20, 64
plain = lambda z: z
standardized = lambda z: (
    (z - z.mean(0, keepdim=True)) * minidl.rsqrt(z.var(0, unbiased=False, keepdim=True) + 1e-5)
)


def chain(scale: float, norm=plain, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Size of the activations after each of 20 layers, and of the gradient of each layer's weights."""
    rng = np.random.default_rng(seed)
    x, weights, sizes = minidl.tensor(rng.normal(size=(128, WIDTH))), [], []
    for _ in range(DEPTH):
        drawn = rng.normal(size=(WIDTH, WIDTH)) * scale * math.sqrt(2 / WIDTH)
        weights.append(minidl.tensor(drawn, requires_grad=True))
        x = minidl.relu(norm(x @ weights[-1]))
        sizes.append(math.sqrt((x * x).mean().item()))
    loss = (x * minidl.tensor(rng.normal(size=x.shape))).mean()
    return np.array(sizes), np.array([g.norm().item() for g in autograd.grad(loss, weights)])


SCALES = (0.7, 1.0, 1.4)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for axis, norm, title in zip(axes, (plain, standardized), ("without normalisation", "with normalisation")):
    for scale, marker, size in zip(SCALES, "vo^", (10, 7, 4)):
        sizes, label = chain(scale, norm)[0], f"weights × {scale}"
        axis.semilogy(range(1, DEPTH + 1), sizes, marker + "-", ms=size, label=label)
    axis.set(title=title, xlabel="layer", xticks=range(0, DEPTH + 1, 5))
axes[0].set_ylabel("size of the activations")
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# Twenty layers with random weights. On the left, weights that are 1.4 times too large make the signal *explode*, weights
# that are 0.7 times as large make it *vanish*. On the right the three lines lie on top of each other.
#
# ## Why it explodes
#
# A layer sums $n$ products. If the inputs have size 1 and the weights standard deviation $\sigma$, the sum has a variance of
# $n \sigma^2$, and ReLU cuts away half of it. To keep the size, $\sigma = \sqrt{2/n}$: **He's initialisation**. A factor
# $c$ too much in *each* layer becomes $c^{20}$.
#
# **Predict, then run:** how large is $1.4^{20}$? And $0.7^{20}$?

# %%
size = {scale: chain(scale)[0] for scale in SCALES}
for c in (0.7, 1.4):
    print(f"{c}^20 = {c**DEPTH:.2g}   measured {size[c][-1] / size[1.0][-1]:.2g}")
    assert np.isclose(size[c][-1] / size[1.0][-1], c**DEPTH)
print(f"He's initialisation: from 1 to {size[1.0][-1]:.2f} in 20 layers")
assert 0.2 < size[1.0][-1] < 5

# %% [markdown]
# Backward it is the same game, through the transposed matrices (lesson 02): the gradient of a weight is the product of what
# comes in and what comes back, and both have such factors.

# %%
plt.figure(figsize=(6, 3.2))
for scale, marker in zip(SCALES, "vo^"):
    slopes = chain(scale)[1]
    plt.semilogy(range(1, DEPTH + 1), slopes, marker + "-", ms=5, label=f"weights × {scale}")
    print(f"weights × {scale}: mean gradient {slopes.mean():.1e}")
plt.xlabel("layer")
plt.ylabel("size of the weights' gradient")
plt.xticks(range(0, DEPTH + 1, 5))
plt.legend(bbox_to_anchor=(1, 1))
ratio = chain(1.4)[1].mean() / chain(1.0)[1].mean()
print(f"1.4 against 1.0: {ratio:.0f} times")
assert round(ratio, -2) == 600
assert np.isclose(ratio, 1.4 ** (DEPTH - 1))  # the layer's own weights are the one factor that is missing

# %% [markdown]
# With a gradient 600 times as large, a learning rate that was good makes steps 600 times too long. He's numbers fix
# that for the *first* step. After it the weights are no longer the drawn ones.
#
# ## Normalise
#
# Take the values of a channel, subtract their mean, divide by their standard deviation. Then let the network have a
# learned weight $\gamma$ and bias $\beta$ back:
#
# $$y = \gamma\, \frac{x - \mathrm{mean}}{\sqrt{\mathrm{var} + \varepsilon}} + \beta$$
#
# But *which* values? Two images with one channel of two pixels: $(3, 9)$ and $(11, 17)$. **Predict, then run:** the
# *batch* norm takes all four together (mean 10, standard deviation 5), the *instance* norm each image by itself.

# %%
x = minidl.tensor([[[3.0, 9]], [[11, 17]]])  # (N, C, L) = (2, 1, 2)
together = F.batch_norm(x, None, None, training=True, eps=1e-12)
alone = F.instance_norm(x, eps=1e-12)
print("batch norm:", together.numpy().ravel().round(3), " instance norm:", alone.numpy().ravel())
assert np.allclose(together.flatten().numpy(), [-1.4, -0.2, 0.2, 1.4])
assert alone.flatten().tolist() == [-1, 1, -1, 1]

# %% [markdown]
# After the instance norm both images are the same. *That the second one was brighter is gone.* Keep this in mind.
#
# There are four such layers, and they differ in the axes of (N, C, *space) that they average over:

# %%
x = minidl.randn(3, 4, 5, 5)
axes_of = {
    "batch": (F.batch_norm(x, None, None, training=True), (0, 2, 3)),
    "instance": (F.instance_norm(x), (2, 3)),
    "layer": (F.layer_norm(x, (4, 5, 5)), (1, 2, 3)),
}
for theirs, over in axes_of.values():
    a = x.numpy()
    by_hand = (a - a.mean(over, keepdims=True)) / np.sqrt(a.var(over, keepdims=True) + 1e-5)
    assert np.allclose(theirs.numpy(), by_hand, atol=1e-5)
assert np.allclose(F.group_norm(x, 4).numpy(), F.instance_norm(x).numpy(), atol=1e-5)  # a group per channel
assert np.allclose(F.group_norm(x, 1).numpy(), F.layer_norm(x, (4, 5, 5)).numpy(), atol=1e-5)  # one group


# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 2.9))
members = {
    "batch": lambda n, c: c == 1,
    "instance": lambda n, c: (c == 1) & (n == 1),
    "layer": lambda n, c: n == 1,
    "group (of 2)": lambda n, c: (n == 1) & (c < 2),
}
for axis, (name, member) in zip(axes, members.items()):
    axis.pcolormesh(member(*np.mgrid[:3, :4]), cmap="Blues", vmax=1.6, edgecolors="#999999")
    axis.set(title=name, xlabel="channel", xticks=np.arange(4) + 0.5, xticklabels=range(4))
    axis.set(yticks=np.arange(3) + 0.5, yticklabels=range(3), aspect="equal")
    axis.invert_yaxis()
axes[0].set_ylabel("sample")
plt.show()

# %% [markdown]
# Every square stands for all the pixels of one channel of one sample; the blue ones share one mean and one variance.
#
# ## What it does to the weights
#
# Multiply a convolution's weights by 5: the outputs are 5 times as large, and the norm divides that away. **Predict:** what
# happens to the *gradient* of these weights? And which component does it not have at all?

# %%
images, pattern = minidl.randn(4, 3, 8, 8), minidl.randn(4, 2, 8, 8)
weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)


def gradient(scale: float) -> np.ndarray:
    """The loss's gradient by the weights of a convolution that a norm follows."""
    w = minidl.tensor(scale * weight, requires_grad=True)
    y = F.batch_norm(F.conv2d(images, w, padding=1), None, None, training=True)
    return autograd.grad((y * pattern).sum(), [w])[0].numpy()


small, large = gradient(1), gradient(5)
along = (small * weight).sum() / np.linalg.norm(small) / np.linalg.norm(weight)
print(
    f"gradient {np.linalg.norm(small):.2f} and {np.linalg.norm(large):.2f}; its part along the weights {along:.0e}"
)
assert np.allclose(5 * large, small, atol=1e-2 * abs(small).max()) and abs(along) < 1e-4

# %% [markdown]
# Five times the weights, a *fifth* of the gradient: large weights are moved little, so they do not run away. And the
# gradient is at right angles to the weights, since their length does not matter. So each step can only make them
# longer, which makes the next step smaller: a brake against exploding.
#
# ## Does it help? Learning rates
#
# The organ of generated phantoms, a small U-Net, SGD with momentum 0.9, **two images a batch**, as memory allows in 3-D.
# **Predict, then run:** for which learning rates will each network learn?


# %%
def phantoms(split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 32, 32) of mean 0 and standard deviation 1, and the organ's masks (n, 32, 32)."""
    dataset = PhantomDataset(split, n, shape=(32, 32))
    cases = [dataset.load(i) for i in range(n)]
    x = np.stack([c.image.array for c in cases])
    x = (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)
    return x, np.stack([c.label.array > 0 for c in cases])


train_x, train_y = phantoms("train", 32)
test_x, test_y = phantoms("test", 24)


def trained(norm: str | None, seed: int, rate: float, images=train_x, steps: int = 40) -> UNet:
    """A U-Net after so many steps of two images; it stops where the loss is no longer a number."""
    minidl.manual_seed(seed)
    net, rng = UNet(1, 2, (8, 16), norm=norm), np.random.default_rng(seed)
    optimizer = optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        batch = rng.integers(len(images), size=2)
        loss = F.cross_entropy(
            net(minidl.tensor(images[batch])), minidl.tensor(train_y[batch].astype(np.int64))
        )
        if not math.isfinite(loss.item()):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def score(net, images=test_x) -> float:
    """Dice of the organ on the test images; 0 for a network that has exploded."""
    with minidl.no_grad():
        return dice(net(minidl.tensor(images)).numpy().argmax(axis=1) == 1, test_y)


# %%
NORMS, rates = (None, "batch", "instance"), (0.01, 0.1, 1.0)
seeds = 2 if notebook.FAST else 5
by_rate = {
    norm: np.array([[score(trained(norm, s, r)) for r in rates] for s in range(seeds)]) for norm in NORMS
}
print("learning rate    ", "".join(f"{rate:15g}" for rate in rates))
for norm, values in by_rate.items():
    cells = (f"{column.mean():.2f} ({column.min():.2f})" for column in values.T)
    print(f"{norm or 'no norm':17}", "".join(f"{cell:>15}" for cell in cells), "  mean Dice (worst seed)")
assert (by_rate[None][:, 2] < 0.1).all()  # exploded, each time
assert (by_rate["instance"] > 0.8).all() and by_rate["batch"].mean(axis=0).min() > 0.6
assert by_rate[None][:, 0].mean() > by_rate["instance"][:, 0].mean() - 0.05  # the smallest rate: just as well

# %% [markdown]
# At the largest rate the network without norm is lost, in every seed; with an instance norm it learns at every rate and in
# every seed, with a batch norm nearly so (look at the worst seeds). But read the smallest rate, too: there this shallow
# network learns without a norm just as well. In the ablation that the lecture shows it is the same: no normalisation costs
# 0.2 % for the hippocampus, whose network is shallow, and 100 % for the pancreas.
#
# ## Batch or instance, two images at a time
#
# The batch norm's mean and variance come from the images that happen to be in the batch. So in training *the answer for
# one image depends on its companion*:

# %%
net = trained("batch", 0, 0.1).train()
first, second, third = (minidl.tensor(test_x[i : i + 1]) for i in range(3))
with minidl.no_grad():
    answers = [F.softmax(net(minidl.cat([first, other])), dim=1)[0, 1] for other in (second, third)]
print(f"another companion moves a probability by up to {abs(answers[0] - answers[1]).max().item():.2f}")
assert abs(answers[0] - answers[1]).max().item() > 0.01

# %% [markdown]
# That is noise, and with fewer images there is more of it. And when the network is used there is no batch. Then it takes
# **running statistics**: in each training step they move by a tenth towards what was just seen,
# $r \leftarrow 0.9\, r + 0.1\, s$.
#
# **Predict:** they start at 0, and the batches all say 1. Where are they after 10 steps? When within 1 %?

# %%
layer = nn.BatchNorm1d(1)
signal = minidl.tensor([[[0.0, 2]], [[0, 2]]])  # mean 1
means = []
for _ in range(60):
    layer(signal)
    means.append(layer.running_mean.item())
print(f"after 10 steps {means[9]:.2f}, within 1 % after {int(np.argmax(np.array(means) > 0.99)) + 1}")
assert np.allclose(means, 1 - 0.9 ** np.arange(1, 61), atol=1e-6) and np.argmax(np.array(means) > 0.99) == 43

# %% [markdown]
# So training and use differ. How much that hurts depends on how different the images are. Make them differ: multiply each
# by a factor of its own, between $1/g$ and $g$, as scanners without a common unit do (magnetic resonance).
#
# **Predict, then run** (half a minute): which of the three suffers from $g = 8$? Which one cannot?


# %%
def rescaled(images: np.ndarray, g: float, seed: int) -> np.ndarray:
    """Each image times its own factor, 1/g to g, equally likely on a logarithmic scale."""
    factors = np.exp(np.random.default_rng(seed).uniform(-math.log(g), math.log(g), len(images)))
    return (images * factors[:, None, None, None]).astype(np.float32)


def scores_at(norm: str | None, g: float) -> np.ndarray:
    """Dice of each seed, where the training and the test images are rescaled."""
    images, test = rescaled(train_x, g, seed=1), rescaled(test_x, g, seed=2)
    return np.array([score(trained(norm, seed, 0.1, images), test) for seed in range(seeds)])


factors = (1, 8) if notebook.FAST else (1, 3, 8)
by_factor = {norm: np.stack([scores_at(norm, g) for g in factors], axis=1) for norm in NORMS}

# %%
plt.figure(figsize=(6.5, 3.4))
for (norm, values), marker in zip(by_factor.items(), "s^o"):
    (line,) = plt.semilogx(factors, values.mean(axis=0), label=norm or "no norm")
    plt.semilogx(np.tile(factors, (seeds, 1)), values, marker, color=line.get_color(), alpha=0.6)
plt.xticks(factors, factors)
plt.minorticks_off()
plt.xlabel("g: images are multiplied by 1/g to g")
plt.ylabel("Dice")
plt.legend(title="mean of the seeds")
for g, pair in zip(factors, (by_factor["instance"] - by_factor["batch"]).T):
    print(
        f"g = {g}: instance minus batch {pair.mean():+.3f} ± {pair.std(ddof=1):.3f}, better in {(pair > 0).sum()} of {seeds}"
    )
assert abs((by_factor["instance"] - by_factor["batch"])[:, 0].mean()) < 0.03
assert np.allclose(by_factor["instance"][:, 0], by_factor["instance"][:, -1], atol=0.02)
assert (by_factor["instance"] - by_factor["batch"])[:, -1].mean() > 0.01
assert by_factor[None][:, -1].mean() < by_factor["batch"][:, -1].mean()

# %% [markdown]
# With images that are alike ($g = 1$) batch and instance norm are about equal, even at batch 2: the noise alone did no
# harm here. With images of different scale the batch norm loses, and the instance norm does not even notice. nnU-Net took the
# instance norm. The ablation's figures for batch instead of instance norm go from -14.2 % to +2.9 %; their sign is not guaranteed.
#
# ## What instance norm cannot see
#
# It does not notice, because it *cannot*. **Predict:** the same network looks at an image and at three times this image.

# %%
net = trained("instance", 0, 0.1)
with minidl.no_grad():
    once, thrice = (net(minidl.tensor(c * test_x[:2])) for c in (1, 3))
print(
    f"logits of size {abs(once).max().item():.1f}; largest difference {abs(once - thrice).max().item():.0e}"
)
assert abs(once - thrice).max().item() < 1e-2 * abs(once).max().item()

# %% [markdown]
# If absolute brightness carries the answer, as the Hounsfield units of computed tomography do, it is lost after the first
# layer. (What differs *within* an image, bone against lung, stays.) Two more limits:
#
# - The statistics are those of the whole input. A tile of an image gives other answers than the image, however wide its
#   margin.
# - At the bottom of a deep network a channel may have a single pixel left. Its mean is itself.

# %%
x = minidl.tensor(test_x[:1])
tile_of_norm, norm_of_tile = F.instance_norm(x)[..., :16], F.instance_norm(x[..., :16])
print(f"whole image against tile: up to {abs(tile_of_norm - norm_of_tile).max().item():.2f}")
assert abs(tile_of_norm - norm_of_tile).max().item() > 0.05
try:
    F.instance_norm(minidl.randn(2, 3, 1, 1))
except ValueError as error:
    print(error)
else:
    raise AssertionError("a single pixel has no variance")

# %% [markdown]
# ## How deep is too deep?
#
# The chain of the beginning, with a slider for the scale of its weights. The dashed line has the norm.


# %%
def show_chain(scale: float) -> None:
    """Activations of the chain with weights of this scale, with and without norm."""
    plt.figure(figsize=(6, 3))
    plt.semilogy(range(1, DEPTH + 1), chain(scale)[0], "o-", label="without")
    plt.semilogy(range(1, DEPTH + 1), chain(scale, standardized)[0], "--", label="with")
    plt.ylim(1e-6, 1e6)
    plt.xticks(range(0, DEPTH + 1, 5))
    plt.xlabel("layer")
    plt.ylabel("size of the activations")
    plt.legend(title=f"weights × {scale:.2f}")


notebook.explore(show_chain, scale=(1.2, 0.5, 2.0))

# %%
slopes = np.mean([chain(1.0, standardized, seed)[1] for seed in range(5)], axis=0)
print(f"with norm: the first layer's gradient is {slopes[0] / slopes[-1]:.0f} times that of the last")
assert slopes[0] > 5 * slopes[-1]

# %% [markdown]
# It is not a cure for everything. With a batch norm in each of 20 layers the activations are tame, and yet the gradients
# *grow* on their way back. Very deep networks need short cuts as well; the skips of a U-Net
# are short cuts, too.
#
# ## Exercises
#
# **1. Instance norm.** Write `my_instance_norm(x)` for a tensor (N, C, H, W), with $\varepsilon = 10^{-5}$. The check
# compares the gradient, too.


# %% tags=["exercise"]
def my_instance_norm(x):
    """Replace the next line."""
    return x * 1.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# `x.mean((2, 3), keepdim=True)`. The variance is the mean of the squared deviations; `minidl.rsqrt` is $1/\sqrt{\cdot}$.
#
# </details>


# %% tags=["solution"]
def my_instance_norm(x):
    """Mean and variance over space."""
    deviation = x - x.mean((2, 3), keepdim=True)
    var = (deviation * deviation).mean((2, 3), keepdim=True)
    return deviation * minidl.rsqrt(var + 1e-5)


# %%
leaf = lambda *shape: minidl.randn(*shape, dtype=minidl.float64, requires_grad=True)
cases = [(leaf(2, 3, 4, 5),), (leaf(1, 1, 2, 2),)]
check.function("my_instance_norm", my_instance_norm, F.instance_norm, *cases, gradients=True)

# %% [markdown]
# **2. Fold it away.** In use a batch norm is a fixed affine map, so it can be built into the convolution before it. Write
# `fold(weight, bias, norm)`: arrays (O, C, kh, kw) and (O,), and an `nn.BatchNorm2d`; return the new weight and bias.


# %% tags=["exercise"]
def fold(weight, bias, norm):
    """Replace the next line."""
    return weight, bias


# %% [markdown]
# <details><summary>Hint</summary>
#
# With $r = \gamma / \sqrt{\mathrm{running\ var} + \varepsilon}$, one number for each output channel: the weights times $r$,
# and $(b - \mathrm{running\ mean})\, r + \beta$. The four arrays are `norm.weight`, `norm.bias`, `norm.running_mean`,
# `norm.running_var`; `.detach().numpy()` makes arrays of them.
#
# </details>


# %% tags=["solution"]
def fold(weight, bias, norm):
    """The convolution that does both."""
    of = lambda tensor: tensor.detach().numpy()
    r = of(norm.weight) / np.sqrt(of(norm.running_var) + norm.eps)
    return weight * r[:, None, None, None], (bias - of(norm.running_mean)) * r + of(norm.bias)


# %%
block = trained("batch", 1, 0.1, steps=10).encoder[0][0]
weight, bias = (p.detach().numpy() for p in (block.conv.weight, block.conv.bias))
with_folded = lambda x: F.conv2d(x, *(minidl.tensor(a) for a in fold(weight, bias, block.norm)), padding=1)
with_both = lambda x: block.norm(block.conv(x))
check.function("conv and norm in one", with_folded, with_both, (minidl.tensor(test_x[:1]),), tolerance=1e-3)

# %% [markdown]
# **3. How long do running statistics remember?** With a momentum of $m$ (0.1 above) they hold
# $r \leftarrow (1 - m)\, r + m\, s$. Write `steps_to_forget(m)`: the smallest number of steps after which less than 1 % of
# the initial $r$ is left.


# %% tags=["exercise"]
def steps_to_forget(m):
    """Replace the next line."""
    return 0


# %% [markdown]
# <details><summary>Hint</summary>
#
# After $k$ steps $(1 - m)^k$ is left. Solve for $k$ with logarithms, and round up.
#
# </details>


# %% tags=["solution"]
def steps_to_forget(m):
    """(1 - m)^k < 0.01."""
    return math.floor(math.log(0.01) / math.log(1 - m)) + 1


# %%
reference_steps = lambda m: next(k for k in range(10_000) if (1 - m) ** k < 0.01)
check.function("steps_to_forget", steps_to_forget, reference_steps, (0.1,), (0.01,), (0.5,))

# %% [markdown]
# ## What you can now explain
#
# - why activations and gradients explode or vanish like a power of the depth, and what He's initialisation repairs;
# - mean, variance, $\gamma$, $\beta$, and over which axes batch, instance, layer and group norm average;
# - why a norm allows larger learning rates: the gradient is at right angles to the weights, and shrinks as they grow;
# - running statistics, and why training and use differ with the batch norm;
# - when instance norm beats batch norm at batch 2, when not, and what it makes invisible;
# - that a shallow network with a modest learning rate may not need any.
#
# **Where this stands.** K. He et al., *Delving deep into rectifiers*, ICCV (2015), arXiv:1502.01852; S. Ioffe and
# C. Szegedy, *Batch normalization*, ICML (2015), arXiv:1502.03167; J. Ba, J. Kiros and G. Hinton, *Layer normalization*,
# arXiv:1607.06450 (2016); D. Ulyanov, A. Vedaldi and V. Lempitsky, *Instance normalization*, arXiv:1607.08022 (2016);
# Y. Wu and K. He, *Group normalization*, ECCV (2018), arXiv:1803.08494, on small batches. S. Santurkar et al., *How does
# batch normalization help optimization?*, NeurIPS (2018), arXiv:1805.11604, doubt the usual explanation; G. Yang et al., *A
# mean field theory of batch normalization*, ICLR (2019), arXiv:1902.08129, derive the growing gradients. Lesson 13 puts
# all together.
