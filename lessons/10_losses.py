# %% [markdown]
# # 10 · Losses
#
# **At the end you own this sentence:** the loss decides which pixels pull at the weights: cross-entropy lets every pixel
# pull alike, Dice lets every *object* pull alike, and each is weak where the other is strong.
#
# *Needs:* lesson 02 (gradients); lesson 09 for the network that is trained. *Takes:* 35 minutes. *New:* loss,
# cross-entropy, logits, the Dice loss, Dice + cross-entropy, absent classes.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import minidl
import minidl.nn.functional as F
from minidl import autograd, check, notebook, optim
from minidl.models import UNet
from minidl.segment.metrics import dice

notebook.style()
CE, DICE, BOTH = COLORS = "#E69F00", "#56B4E9", "#009E73"


def scenes(n: int, radius: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 32, 32): a brighter disc somewhere in smooth noise. Labels (n, 32, 32)."""
    rng, grid = np.random.default_rng(seed), np.mgrid[:32, :32]
    centres = rng.uniform(radius + 1, 31 - radius, (n, 2))
    y = ((grid - centres[:, :, None, None]) ** 2).sum(axis=1) < radius**2
    noise = ndimage.gaussian_filter(rng.normal(size=y.shape), (0, 1, 1))
    return (noise / noise.std() + 1.5 * y)[:, None].astype(np.float32), y.astype(np.int64)


RADII = (9, 4.5, 2.2)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.7))
for axis, radius in zip(axes, RADII):
    image, label = scenes(64, radius, seed=1)
    axis.imshow(image[0, 0])
    axis.contour(label[0], [0.5], colors=CE)
    title = f'{label.mean():.1%} object\n"no object": {(label == 0).mean():.1%} right'
    axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# The smaller the object, the better the answer "there is no object" looks, if pixels are counted. Tumours are small.
#
# ## What a loss is
#
# A loss says with one number how bad an answer is. Training looks for weights for which the sum over the training set
# $\mathcal{T}$ is small:
#
# $$L(W; \mathcal{T}) = \sum_{(x^{(i)},\, y^{(i)}) \in \mathcal{T}} l\big(f(x^{(i)}; W),\, y^{(i)}\big)$$
#
# Only its *gradient* reaches the weights (lesson 02). So this lesson asks of each loss: what does its gradient see?
#
# ## Cross-entropy
#
# For every pixel $p$ the network gives a probability $f_p$ of "object", and $y_p$ is 1 or 0:
#
# $$l_{\mathrm{CE}} = -\sum_p \big[\, y_p \log f_p + (1 - y_p) \log(1 - f_p) \,\big]$$
#
# Each pixel pays the negative logarithm of the probability that it gave to the truth.
#
# **Predict, then run:** four pixels, of which the first is object. Which one pays most? (The numbers are logarithms to
# base 2, to be done in the head; the library's are natural ones.)

# %%
y = np.array([1.0, 0, 0, 0])
f = np.array([1 / 4, 1 / 2, 3 / 4, 0])
pays = np.log2(1 / np.where(y == 1, f, 1 - f))
print("pays, in bits:", pays, " sum:", pays.sum())
assert pays.tolist() == [2, 1, 2, 0]

theirs = F.binary_cross_entropy(minidl.tensor(f), minidl.tensor(y), reduction="sum")
assert np.isclose(theirs.item(), 5 * math.log(2))

# %% [markdown]
# The lecture's formula *sums* over pixels, and libraries take the *mean*. With a sum, an image of twice the width and height
# has four times the gradient, and needs a learning rate four times smaller.

# %%
mean = F.binary_cross_entropy(minidl.tensor(f), minidl.tensor(y))
print(f"sum {theirs.item():.3f}, mean {mean.item():.3f}")
assert np.isclose(theirs.item(), 4 * mean.item())

larger = [minidl.tensor(np.tile(a, 4)) for a in (f, y)]  # the same pixels four times
assert np.isclose(F.binary_cross_entropy(*larger, reduction="sum").item(), 4 * theirs.item())
assert np.isclose(F.binary_cross_entropy(*larger).item(), mean.item())

# %% [markdown]
# ### Logits
#
# A network ends with a **logit** $z$, any number; the sigmoid $f = 1/(1 + e^{-z})$ makes a probability of it. In float32
# that rounds to exactly 1 from $z \approx 17$ on. **Predict:** what does a pixel pay that is background and got $z = 200$?

# %%
z = minidl.tensor([200.0], requires_grad=True)
through_f = F.binary_cross_entropy(minidl.sigmoid(z), minidl.tensor([0.0]))
from_z = F.binary_cross_entropy_with_logits(z, minidl.tensor([0.0]))
assert minidl.sigmoid(minidl.tensor(16.0)).item() < 1 == minidl.sigmoid(minidl.tensor(17.0)).item()
gradients = [autograd.grad(loss, [z])[0].item() for loss in (through_f, from_z)]
print(
    "through the probability:", through_f.item(), " from the logit:", from_z.item(), " gradients:", gradients
)
assert (through_f.item(), from_z.item()) == (100, 200) and gradients == [0, 1]

# %% [markdown]
# The true price is 200. Through the probability it is $-\log 0$, infinite, which the library cuts off at 100; and the
# gradient is gone, for a pixel that could not be more wrong. So losses take logits.
#
# With several classes the softmax replaces the sigmoid. Two classes with the logits $(0, z)$ are the same thing:

# %%
logits, labels = minidl.tensor([-1.0, 0.5, 3]), minidl.tensor([0, 1, 0])
two = minidl.stack([minidl.zeros(3), logits], dim=1)  # (N, C)
one = F.binary_cross_entropy_with_logits(logits, labels.to(minidl.float32))
assert np.isclose(F.cross_entropy(two, labels).item(), one.item())

# %% [markdown]
# ## What the gradient of cross-entropy sees
#
# The derivative by a pixel's logit is short: $\partial l_{\mathrm{CE}} / \partial z_p = f_p - y_p$. Every pixel pulls at its own
# logit, by how wrong it is, and knows of no other.
#
# Let a share $\pi$ of the pixels be object, and an untrained network say $f = \frac12$ everywhere. **Predict:** which share
# of all the pulling is done by the object's pixels?


# %%
def pull_of_the_object(loss, share: float, f: float = 0.5, n: int = 1000) -> float:
    """The object's part of Σ |∂loss/∂z|, where every pixel has the probability f."""
    y = (np.arange(n) < round(share * n)).astype(np.float64)
    z = minidl.tensor(np.full(n, math.log(f / (1 - f))), requires_grad=True)
    pull = abs(autograd.grad(loss(z, minidl.tensor(y)), [z])[0].numpy())
    return float(pull[y == 1].sum() / pull.sum())


cross_entropy = F.binary_cross_entropy_with_logits
shares = (0.25, 0.06, 0.015)
print("object's share of the pull:", [round(pull_of_the_object(cross_entropy, s), 4) for s in shares])
assert np.allclose([pull_of_the_object(cross_entropy, s) for s in shares], shares)

# %% [markdown]
# Exactly $\pi$. At 1.5 % the other 98.5 % of the pull say "background". So that is what the network learns first. How far
# does this take it? The best *constant* answer is $f = \pi$:


# %%
def show_constant(share: float) -> None:
    """The mean cross-entropy of an answer that is the same everywhere."""
    f = np.linspace(0.001, 0.999, 999)
    loss = -share * np.log(f) - (1 - share) * np.log(1 - f)
    plt.figure(figsize=(6, 3))
    plt.plot(f, loss, color=CE)
    plt.plot(
        f[loss.argmin()], loss.min(), "ko", label=f"best: f = {f[loss.argmin()]:.3f}, loss {loss.min():.3f}"
    )
    plt.plot(0.5, math.log(2), "ks", mfc="none", label=f"start: f = 0.5, loss {math.log(2):.3f}")
    plt.xlabel("f, the same for all pixels")
    plt.ylabel("mean cross-entropy")
    plt.ylim(0, 2)
    plt.legend(title=f"{share:.1%} object")


notebook.explore(show_constant, share=(0.015, [0.005, 0.015, 0.05, 0.15, 0.3, 0.5]))

# %%
lowest = lambda share: -share * math.log(share) - (1 - share) * math.log(1 - share)
print({share: f"{1 - lowest(share) / math.log(2):.0%} of the way down" for share in shares})
assert round(1 - lowest(0.015) / math.log(2), 2) == 0.89

# %% [markdown]
# For 1.5 % object, 89 % of the way from the start to zero is done without finding anything. This is what the lecture means
# by "too much weight into correctly classifying background pixels".
#
# ## Dice
#
# The **Dice coefficient** of two sets is twice what they share over the sum of their sizes: 1 for equal sets, 0 for
# disjoint ones. With probabilities instead of a set it is differentiable:
#
# $$D(f, y) = \frac{2 \sum_p f_p\, y_p}{\sum_p f_p + \sum_p y_p}$$
#
# Background that is recognised as such ($f = y = 0$) appears nowhere in it. **Predict, then run:** $D$ of the four pixels
# above, and of "no object".

# %%
coefficient = lambda f, y: 2 * (f * y).sum() / (f.sum() + y.sum())
print("four pixels:", coefficient(f, y), " no object:", coefficient(0 * f, y))
assert coefficient(f, y) == 0.5 / (1.5 + 1) == 0.2 and coefficient(0 * f, y) == 0

inputs = (minidl.tensor(f)[None, None], minidl.tensor(y)[None, None])  # (N, C, L)
theirs = F.dice_loss(*inputs, activation="none", smooth_nr=0, smooth_dr=0)
assert np.isclose(theirs.item(), 1 - 0.2)

# %% [markdown]
# Two traps. The slide calls $D$ itself the loss; but $D$ is large where the answer is *good*, and whoever minimises it
# learns to avoid the object. The loss is $1 - D$. And with no object, and none predicted, $D$ is 0/0; libraries add a small
# number $s$ to both sides of the fraction. More on that below.
#
# ## What the gradient of Dice sees
#
# With the sums $P = \sum f_p$, $Y = \sum y_p$, $T = \sum f_p y_p$, a step by hand gives
#
# $$\frac{\partial (1 - D)}{\partial f_p} = \frac{2T - 2\, y_p\, (P + Y)}{(P + Y)^2}
# = \begin{cases} -2\,(P + Y - T)/(P + Y)^2 & \text{object}\\ +2\,T/(P + Y)^2 & \text{background} \end{cases}$$
#
# All object pixels pull alike, all background pixels pull alike, and the sizes of the *sets* decide how much. At
# $f = \frac12$, with $n$ pixels: $T = \pi n/2$, $P = n/2$, $Y = \pi n$. **Predict** the object's share of the pull, then run.


# %%
def soft_dice(z, y):
    """1 - D of logits."""
    f = minidl.sigmoid(z)
    return 1 - 2 * (f * y).sum() / (f.sum() + y.sum())


pulls = [pull_of_the_object(soft_dice, share) for share in shares]
print("object's share of the pull:", np.round(pulls, 4))
assert np.allclose(pulls, [(1 + share) / 2 for share in shares])

# %%
x = np.array([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
plt.figure(figsize=(6, 3.2))
for name, loss, color in (("cross-entropy", cross_entropy, CE), ("Dice loss", soft_dice, DICE)):
    plt.semilogx(
        100 * x, [100 * pull_of_the_object(loss, share) for share in x], "o-", color=color, label=name
    )
plt.xticks([0.2, 1, 5, 20, 50], ["0.2", "1", "5", "20", "50"])
plt.minorticks_off()
plt.xlabel("object's share of the pixels (%)")
plt.ylabel("its share of the pull (%)")
plt.ylim(0, 100)
plt.legend()
plt.show()

# %% [markdown]
# $(1 + \pi)/2$: at least half, however small the object. That is the whole point of the Dice loss.
#
# ## What Dice does not see
#
# The gradient reaches the logit through the sigmoid, whose slope is $f(1 - f)$. Cross-entropy cancels this factor. Dice
# keeps it. **Predict:** the whole object is missed with great confidence, $z = -8$ everywhere. Who still pulls?

# %%
n, share = 1000, 0.015
object_ = np.arange(n) < share * n
wrong = {}
for name, loss in (("cross-entropy", cross_entropy), ("Dice loss", soft_dice)):
    z = minidl.tensor(np.full(n, -8.0), requires_grad=True)
    gradient = autograd.grad(loss(z, minidl.tensor(object_.astype(float))), [z])[0].numpy()
    wrong[name] = abs(gradient[object_]).sum()
    print(f"{name:14} the object pulls with {wrong[name]:.1e}")
assert wrong["cross-entropy"] > 20 * wrong["Dice loss"] > 0

# %% [markdown]
# Both should shout, since all is wrong. Dice whispers: a network that has settled on "no object" may stay there. Training
# with Dice alone can collapse to zero, depending on the initial weights, writes nnU-Net's author (issue 1395 of that
# project); so nnU-Net always adds cross-entropy:
#
# $$l = (1 - D) + l_{\mathrm{CE}}$$
#
# Cross-entropy, as the mean over pixels, gives every pixel a gradient at all times; Dice keeps small objects from being
# outvoted. In minidl it is `F.dice_ce_loss`.
#
# ## The experiment
#
# The scenes of the first picture, a small U-Net, a *short* training. Each seed draws the initial weights and the order of
# the images once for all three losses.

# %%
LOSSES = {
    "cross-entropy": F.cross_entropy,
    "Dice loss": lambda z, y: F.dice_loss(z, y, include_background=False),
    "both": F.dice_ce_loss,
}


def trained(loss, radius: float, seed: int, steps: int, every: int = 0):
    """The probability of "object" on 24 test scenes, (24, 32, 32): in the end, or every so many steps."""
    minidl.manual_seed(seed)
    net, rng, found = UNet(1, 2, (8, 16)), np.random.default_rng(seed), []
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    images, labels = scenes(64, radius, seed=1)
    for step in range(1, steps + 1):
        batch = rng.integers(64, size=4)
        value = loss(net(minidl.tensor(images[batch])), minidl.tensor(labels[batch]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step == steps or (every and step % every == 0):
            with minidl.no_grad():
                test = minidl.tensor(scenes(24, radius, seed=2)[0])
                found.append(F.softmax(net(test), dim=1).numpy()[:, 1])
    return found if every else found[-1]


def mean_dice(f: np.ndarray, radius: float, threshold: float = 0.5) -> float:
    """Mean Dice coefficient over the test scenes, of the pixels above a threshold."""
    return float(np.mean([dice(a, b == 1) for a, b in zip(f > threshold, scenes(24, radius, seed=2)[1])]))


# %% [markdown]
# **Predict, then run** (a minute): for which object does it matter which loss is used?

# %%
seeds, steps = (2, 40) if notebook.FAST else (5, 50)
radii = RADII[::2] if notebook.FAST else RADII
results = {
    name: np.array([[mean_dice(trained(loss, r, s, steps), r) for r in radii] for s in range(seeds)])
    for name, loss in LOSSES.items()
}
object_shares = np.array([scenes(64, r, seed=1)[1].mean() for r in radii])
print("object's share  ", "".join(f"{share:9.1%}" for share in object_shares))
for name, values in results.items():
    print(f"{name:16}", "".join(f"{v:9.2f}" for v in values.mean(axis=0)), "   mean Dice coefficient")

# %%
for name in ("Dice loss", "both"):
    gain = results[name] - results["cross-entropy"]
    print(f"{name} minus cross-entropy, in pairs:")
    for share, g in zip(object_shares, gain.T):
        print(
            f"  {share:6.1%}  {g.mean():+.2f} ± {g.std(ddof=1):.2f}, better in {(g > 0).sum()} of {seeds} seeds"
        )
    assert gain[:, -1].mean() > 0.1  # the rare object
    assert abs(gain[:, 0].mean()) < 0.1  # the large one: hardly any difference
assert (results["Dice loss"] - results["cross-entropy"] > 0.2)[:, -1].all()
rare = {name: values[:, -1].mean() for name, values in results.items()}
assert rare["cross-entropy"] < 0.1 and rare["both"] < rare["Dice loss"]

# %%
plt.figure(figsize=(6.5, 3.4))
for (name, values), color, shift in zip(results.items(), COLORS, (0.93, 1, 1.07)):
    for seed in range(seeds):
        plt.semilogx(100 * object_shares * shift, values[seed], "o", color=color, alpha=0.5)
    plt.semilogx(100 * object_shares * shift, values.mean(axis=0), color=color, label=name)
plt.xticks(100 * object_shares, [f"{100 * share:.1f}" for share in object_shares])
plt.minorticks_off()
plt.xlabel("object's share of the pixels (%)")
plt.ylabel(f"Dice coefficient after {steps} steps")
plt.ylim(-0.03, 1)
plt.legend()
plt.show()

# %% [markdown]
# Each dot is one seed. For a large object the loss hardly matters. For the rare one cross-entropy found next to nothing in
# this time. The sum of both lies between: it contains cross-entropy, and look how far its dots are apart. That is no reason
# to leave it out, since this training is very short; it is a reason to look at more than one seed.
#
# The ablation of nnU-Net that the lecture shows has the same pattern: with cross-entropy only, the relative
# change of Dice is 0.0 % for the hippocampus, and -25.4 % for lung nodules. (Those runs were
# not repeated with other seeds; lesson 16 reads that table.)
#
# ## Blind, or only late?
#
# **Predict:** will cross-entropy find the rare object if we wait? And what if "object" means $f > 0.15$?

# %%
steps, every = (100, 20) if notebook.FAST else (160, 20)
history = {name: trained(loss, RADII[-1], 0, steps, every) for name, loss in LOSSES.items()}
at = np.arange(every, steps + 1, every)
plt.figure(figsize=(6.5, 3.4))
for (name, found), color in zip(history.items(), COLORS):
    plt.plot(at, [mean_dice(f, RADII[-1]) for f in found], "o-", color=color, label=name)
low = [mean_dice(f, RADII[-1], 0.15) for f in history["cross-entropy"]]
plt.plot(at, low, "o--", color=CE, mfc="white", label="cross-entropy, f > 0.15")
plt.xlabel("step")
plt.ylabel("Dice coefficient")
plt.ylim(-0.03, 1)
plt.legend(loc="lower right")
plt.show()

# %%
early, late = (mean_dice(history["cross-entropy"][k], RADII[-1]) for k in (1, -1))
print(
    f"cross-entropy at step {at[1]}: {early:.2f} with f > 0.5, {low[1]:.2f} with f > 0.15; at the end {late:.2f}"
)
assert early < 0.1 < low[1] and late > 0.4

# %% [markdown]
# In this run: late, not blind. It knew early where the object was likelier than elsewhere, but "likelier" was still below
# a half. Its probabilities mean something; those trained with Dice are pushed to 0 and 1. So a threshold, a class weight
# (exercise 3) or patience helps cross-entropy, too.
#
# ## The absent class
#
# Many patches of a large image show no tumour. What does Dice say about an absent class? $T = Y = 0$, so
# $D = s / (P + s)$. **Predict:** the network predicts 1 pixel too much, or a hundredth of one. How much better is that?

# %%
s = 1e-5
mass = np.logspace(2, -8, 101)
plt.figure(figsize=(6, 3))
plt.semilogx(mass, 1 - s / (mass + s), color=DICE)
plt.xlabel("predicted mass P of the absent class (pixels)")
plt.ylabel("1 - D")
plt.gca().invert_xaxis()
loss_of = lambda mass: 1 - s / (mass + s)
print(f"{loss_of(1):.5f}, {loss_of(0.01):.5f}, {loss_of(1e-5):.5f}")
assert loss_of(1) > 0.9999 and loss_of(0.01) > 0.998 and loss_of(1e-5) == 0.5

# %% [markdown]
# There is no difference to be seen until the mass is near $s$. The absent class costs its full price, 1, whatever the
# network does, and teaches nothing. A remedy is *batch Dice*: add up $T$, $P$ and $Y$ over the batch first, then divide.
# Two samples with three classes; the second sample has no class 2:

# %%
z = minidl.tensor(
    [[[[2, 0, -1, 0.5], [0, 1, 0, -0.5]], [[0, 1, 0, 0], [1, -1, 2, 0]], [[-1, 0, 1, 1], [0, 0, -1, 1]]],
     [[[1, 1, 1, 1], [2, 2, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 1]], [[0, -1, 0, -1], [0, 0, 0, 0]]]]
)  # fmt: skip
y = minidl.tensor([[[0, 1, 2, 2], [1, 0, 1, 2]], [[0, 0, 0, 0], [0, 0, 1, 1]]])
options = dict(include_background=False)
print("each sample and class:\n", F.dice_loss(z, y, reduction="none", **options).numpy().round(3))
sample, batch = (F.dice_loss(z, y, batch=b, **options).item() for b in (False, True))
print(f"cross-entropy {F.cross_entropy(z, y).item():.4f}, sample Dice {sample:.4f}, batch Dice {batch:.4f}")
assert F.dice_loss(z, y, reduction="none", **options)[1, 1].item() > 0.9999
assert np.allclose(
    [F.cross_entropy(z, y).item(), sample, batch], [0.4314070, 1 - 0.4669906, 1 - 0.5754334], atol=1e-6
)
assert np.isclose(F.dice_ce_loss(z, y).item(), sample + F.cross_entropy(z, y).item())

# %% [markdown]
# nnU-Net's planner turns batch Dice on for 2-D slices, where an absent class is the rule. The background is left out of
# the Dice part there: it is large, always found, and would only flatter.
#
# ## Exercises
#
# **1. Cross-entropy that never overflows.** Write `bce(z, y)` for arrays of logits and truths, the *mean*, right for
# $z = \pm 1000$ as well, with no warning.


# %% tags=["exercise"]
def bce(z, y):
    """Replace the next line."""
    return 0.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# $-\log f = \log(1 + e^{-z})$ and $-\log(1 - f) = \log(1 + e^{z}) = z + \log(1 + e^{-z})$. So a pixel pays
# $\log(1 + e^{z}) - y z$; and `np.logaddexp(0, z)` is $\log(e^0 + e^z)$ without overflow.
#
# </details>


# %% tags=["solution"]
def bce(z, y):
    """log(1 + exp(z)) - y z, on average."""
    return (np.logaddexp(0, z) - y * z).mean()


# %%
reference_bce = lambda z, y: cross_entropy(minidl.tensor(z), minidl.tensor(y)).item()
rng = np.random.default_rng(0)
many = rng.normal(size=50), rng.integers(2, size=50).astype(float)
check.function("bce", bce, reference_bce, many, (np.array([1000.0, -1000, 3]), np.array([0.0, 1, 1])))

# %% [markdown]
# **2. Batch Dice.** Write `batch_dice(f, y)`: the probabilities `f` and the truth `y` are tensors (N, C, L). Sum over the
# batch and the pixels, divide per class, with $s = 10^{-5}$ on both sides of the fraction; return 1 - the mean over the
# classes. The check looks at the gradient, too.


# %% tags=["exercise"]
def batch_dice(f, y):
    """Replace the next line."""
    return 1 - f.mean()


# %% [markdown]
# <details><summary>Hint</summary>
#
# `(f * y).sum((0, 2))` is a tensor (C,). Divide first, average after.
#
# </details>


# %% tags=["solution"]
def batch_dice(f, y):
    """One fraction per class, over the whole batch."""
    overlap, sizes = (f * y).sum((0, 2)), (f + y).sum((0, 2))
    return 1 - ((2 * overlap + 1e-5) / (sizes + 1e-5)).mean()


# %%
reference_dice = lambda f, y: F.dice_loss(f, y, activation="none", batch=True)
draw = lambda *shape: minidl.tensor(rng.random(shape), requires_grad=True)
masks = lambda *shape: minidl.tensor((rng.random(shape) < 0.3).astype(float))
cases = [(draw(2, 3, 7), masks(2, 3, 7)), (draw(1, 1, 5), minidl.zeros(1, 1, 5, dtype=minidl.float64))]
check.function("batch_dice", batch_dice, reference_dice, *cases, gradients=True)

# %% [markdown]
# **3. Weighted cross-entropy.** Another remedy: multiply what an object's pixel pays by $w$. Which `w(share)` makes object
# and background pull alike at $f = \frac12$?


# %% tags=["exercise"]
def w(share):
    """Replace the next line."""
    return 1.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# At $f = \frac12$ every pixel pulls with $\frac12$. There are $\pi n$ of one sort and $(1 - \pi) n$ of the other.
#
# </details>


# %% tags=["solution"]
def w(share):
    """As many times more as there are background pixels for one of the object."""
    return (1 - share) / share


# %%
weighted = lambda z, y: cross_entropy(z, y, pos_weight=minidl.tensor(w(y.mean().item())))
check.value(
    "the pull is half", lambda: [pull_of_the_object(weighted, share) for share in (0.2, 0.01)], [0.5, 0.5]
)

# %% [markdown]
# ## What you can now explain
#
# - what a loss is, and that only its gradient reaches the weights;
# - cross-entropy as a price per pixel; sum against mean; why losses take logits;
# - why cross-entropy starts with the background: the object's share of the pull is its share of the pixels;
# - the Dice coefficient and the Dice *loss*; why the object gets half of the pull; where its gradient vanishes;
# - why the two are added; why an absent class asks for batch Dice;
# - that "cross-entropy fails" was "cross-entropy is late" in our run, and depends on how rare the object is.
#
# **Where this stands.** F. Milletari, N. Navab and S. Ahmadi, *V-Net: fully convolutional neural networks for volumetric
# medical image segmentation*, 3DV (2016), arXiv:1606.04797, brought the Dice loss (with squares in the denominator);
# C. Sudre et al., *Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations*, DLMIA
# (2017), arXiv:1707.03237, compare it with weighted cross-entropy; F. Isensee et al., *nnU-Net: self-adapting framework
# for U-Net-based medical image segmentation*, arXiv:1809.10486 (2018), add the two. Lesson 11 is about the search for the
# weights.
