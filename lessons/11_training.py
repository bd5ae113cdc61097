# %% [markdown]
# # 11 · Training
#
# **At the end you own this sentence:** training is walking downhill with steps that are too long for the steep directions or
# too short for the flat ones; momentum, Adam and a schedule are three remedies, and none of them is about the error on
# *new* images.
#
# *Needs:* lesson 10 (losses). *Takes:* 40 minutes. *New:* learning rate, momentum, Adam, mini-batches, schedules, the
# generalisation gap.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, notebook, optim
from minidl.data import PhantomDataset
from minidl.models import UNet
from minidl.segment.metrics import dice

notebook.style()
CURVATURE = np.array([1.0, 10.0])  # of the bowl ½ (a w1² + b w2²)


def walk(make, steps: int, curvature=CURVATURE, start=(8.0, 1.0), schedule=None, noise=0.0) -> np.ndarray:
    """The places (steps + 1, 2) that an optimiser visits in the bowl ½ Σ curvature · w²."""
    w = minidl.tensor(np.array(start), requires_grad=True)
    optimizer, rng, places = make([w]), np.random.default_rng(0), [np.array(start)]
    plan = schedule(optimizer) if schedule else None
    for _ in range(steps):
        w.grad = minidl.tensor(curvature * places[-1] + noise * rng.normal(size=2))
        optimizer.step()
        places.append(w.detach().numpy().copy())
        if plan:
            plan.step()
    return np.array(places)


def sgd(rate: float, momentum: float = 0):
    """What makes an optimiser for parameters: SGD with these options."""
    return lambda params: optim.SGD(params, lr=rate, momentum=momentum)


def draw_path(axis, places: np.ndarray, name: str, color="#0072B2") -> None:
    """The bowl's contours and the places on the way."""
    w1, w2 = np.meshgrid(np.linspace(-5, 9, 100), np.linspace(-1.6, 1.6, 100))
    axis.contour(
        w1, w2, 0.5 * (w1**2 + 10 * w2**2), levels=[0.3, 1, 3, 8, 16, 28], colors="#BBBBBB", linewidths=1
    )
    axis.plot(*places.T, "o-", color=color, ms=4, linewidth=1.2)
    axis.plot(0, 0, "k*", ms=10)
    axis.set(title=name, xlim=(-5, 9), ylim=(-1.6, 1.6), xlabel="$w_1$")


figure, axes = plt.subplots(1, 3, figsize=(11, 2.4), sharey=True)
draw_path(axes[0], walk(sgd(0.19), 20), "SGD, 20 steps")
draw_path(axes[1], walk(sgd(0.05, 0.7), 20), "with momentum, 20 steps")
draw_path(axes[2], walk(lambda p: optim.Adam(p, lr=0.7), 20), "Adam, 20 steps")
axes[0].set_ylabel("$w_2$")
plt.show()

# %% [markdown]
# The loss of a network is a landscape over all its weights. Near a minimum it looks like a long valley: steep in some
# directions, flat in others. Three optimisers walk in the same valley, from the same place, to the star.
#
# ## Gradient descent by hand
#
# $$w \leftarrow w - \eta\, \nabla L(w)$$
#
# The number $\eta$ is the **learning rate**. Take the bowl $L = \frac12 (w_1^2 + 10\, w_2^2)$; its gradient is
# $(w_1, 10\, w_2)$. So each step multiplies $w_1$ by $1 - \eta$ and $w_2$ by $1 - 10\,\eta$.
#
# **Predict, then run:** from $(8, 1)$, where is one step with $\eta = 0.1$, two steps with $0.2$, two steps with $0.3$?

# %%
for rate, steps in ((0.1, 1), (0.2, 2), (0.3, 2)):
    print(f"learning rate {rate}:", walk(sgd(rate), steps).round(3).tolist())
ends = [walk(sgd(r), n)[-1] for r, n in ((0.1, 1), (0.2, 2), (0.3, 2))]
assert np.allclose(ends, [[7.2, 0], [8 * 0.8**2, 1], [8 * 0.7**2, 4]])

# %% [markdown]
# With 0.2 the steep direction jumps from side to side for ever, with more it *explodes*: the learning rate must stay below
# $2 / b$, $b$ being the largest curvature. But the flat direction with curvature $a$ then needs many steps. The ratio
# $\kappa = b / a$ says how bad it is. The best that one rate can do is to shrink both alike, by
# $(\kappa - 1)/(\kappa + 1)$ a step.


# %%
def steps_needed(make, curvature) -> int:
    """Steps until the distance to the minimum is a thousandth of that of the start."""
    distance = np.linalg.norm(walk(make, 1200, curvature, start=(1.0, 1.0)), axis=1)
    return int(np.argmax(distance < 1e-3 * distance[0]))


ratios = (10, 100)
plain = [steps_needed(sgd(2 / (k + 1)), np.array([1.0, k])) for k in ratios]
print("ratio of curvatures:", ratios, " steps of plain gradient descent:", plain)
predicted = [np.log(1e-3) / np.log((k - 1) / (k + 1)) for k in ratios]
assert np.allclose(plain, predicted, atol=1) and round(plain[1] / plain[0]) == 10

# %% [markdown]
# Ten times the ratio, ten times the steps.
#
# ## Momentum
#
# Remember the way so far: $v \leftarrow \mu v + g$, then $w \leftarrow w - \eta v$. Steps that agree add up; steps that jump
# from side to side cancel.
#
# **Predict, then run:** the gradient is 1 in every step, $\mu = \frac12$. What is $v$ after one, two, three steps? After
# many? And with $\mu = 0.99$?

# %%
for mu in (0.5, 0.99):
    v, seen = 0.0, []
    for _ in range(2000):
        v = mu * v + 1
        seen.append(v)
    print(f"momentum {mu}: {seen[0]:g}, {seen[1]:g}, {seen[2]:g}, ... {seen[-1]:g}")
    assert np.isclose(seen[-1], 1 / (1 - mu)) and np.allclose(seen[:3], [1, mu + 1, mu * (mu + 1) + 1])

# %% [markdown]
# So a momentum of 0.99 makes steps up to 100 times as long: whoever adds momentum must lower the learning rate. In our
# bowl, with the best rate and momentum for each ratio (Polyak 1964), the factor per step tends to
# $(\sqrt\kappa - 1)/(\sqrt\kappa + 1)$; the first steps gain less. **Predict** the steps for $\kappa = 100$:


# %%
def best_momentum(ratio: float):
    """Polyak's choice for curvatures from 1 to `ratio`."""
    root = np.sqrt(ratio)
    return sgd(4 / (root + 1) ** 2, ((root - 1) / (root + 1)) ** 2)


heavy = [steps_needed(best_momentum(k), np.array([1.0, k])) for k in ratios]
print("plain:", plain, " momentum:", heavy)
assert heavy[1] < plain[1] / 5 and heavy[1] / heavy[0] < 5  # the root of 10, not 10
distance = np.linalg.norm(walk(best_momentum(100), 200, np.array([1.0, 100]), start=(1.0, 1.0)), axis=1)
assert np.isclose(distance[-1] / distance[-2], 9 / 11, rtol=0.01) and distance[1] / distance[0] > 9 / 11

# %% [markdown]
# Move the momentum, at the same learning rate. Too little: it crawls. Too much: it swings like a ball in a bowl.


# %%
def show_momentum(momentum: float) -> None:
    """Thirty steps with this momentum."""
    axis = plt.figure(figsize=(6, 3)).gca()
    draw_path(axis, walk(sgd(0.03, momentum), 30), f"momentum {momentum:.2f}")
    axis.set_ylabel("$w_2$")


notebook.explore(show_momentum, momentum=(0.9, [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99]))

# %% [markdown]
# ## Adam
#
# Momentum is one remedy. Another one: give each weight its own step. **Adam** keeps two running averages for each weight,
# of the gradient and of its square, and walks by their ratio:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \qquad
# w \leftarrow w - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \varepsilon}$$
#
# The divisions by $1 - \beta^t$ repair the start from zero. **Predict, then run:** at the first step $m/(1 - \beta_1) = g$
# and $v/(1 - \beta_2) = g^2$. How far does each weight go, if the gradients are 0.001 and -1000?


# %%
def adam(w, gradients, lr=0.1, betas=(0.9, 0.999), eps=1e-8):
    """Adam by hand: the weights after one step for each gradient."""
    m = v = 0
    for t, g in enumerate(gradients, start=1):
        m, v = (beta * a + (1 - beta) * b for beta, a, b in zip(betas, (m, v), (g, g * g)))
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


first = adam(np.zeros(2), [np.array([0.001, -1000])])
print("after one step of Adam with learning rate 0.1:", first)
assert np.allclose(first, [-0.1, 0.1], rtol=1e-4)

gradients = np.random.default_rng(0).normal(size=(20, 3))
w = minidl.zeros(3, dtype=minidl.float64, requires_grad=True)
optimizer = optim.Adam([w], lr=0.1)
for g in gradients:
    w.grad = minidl.tensor(g)
    optimizer.step()
assert np.allclose(w.detach().numpy(), adam(np.zeros(3), gradients))

# %% [markdown]
# Only the sign counts at first. So Adam's steps have the length of its learning rate, whatever the units of the loss.
# **Predict:** the loss is multiplied by 1000 (say, it is summed over pixels instead of averaged). What do the two
# optimisers do?

# %%
rates = np.logspace(-5, 1, 25)
makers = {
    "SGD": sgd,
    "Adam": lambda rate: lambda p: optim.Adam(p, lr=rate),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
best = {}
for axis, (name, make) in zip(axes, makers.items()):
    for scale, style in ((1, "-"), (1000, "--")):
        with np.errstate(all="ignore"):  # some of these explode
            ends = [np.linalg.norm(walk(make(rate), 200, scale * CURVATURE)[-1]) for rate in rates]
        axis.loglog(rates, np.clip(np.nan_to_num(ends, nan=1e9), 1e-8, 1e3), style, label=f"loss × {scale}")
        best[name, scale] = rates[int(np.nanargmin(ends))]
    axis.set(title=f"{name}, 200 steps", xlabel="learning rate", ylim=(1e-5, 1e3))
axes[0].set_ylabel("distance to the minimum")
axes[0].legend()
print({key: f"{rate:.3g}" for key, rate in best.items()})

# %%
assert np.isclose(best["SGD", 1] / best["SGD", 1000], 1000)
assert best["Adam", 1] == best["Adam", 1000]

# %% [markdown]
# The good rates of SGD move by a factor of 1000, and above them it explodes (the line along the top). Adam's do not
# move. This is why the lecture says: *first* minimise with an adaptive method such as Adam. It is the one that works before you know anything.
#
# ## Mini-batches and schedules
#
# A step looks at a few images, not at all. Their gradient is right on average, and noisy: with $B$ images drawn at random,
# its standard deviation falls like $1/\sqrt{B}$. **Predict:** how many more images does half the noise cost?

# %%
rng = np.random.default_rng(0)
features, truth = rng.normal(size=(1000, 5)), np.ones(5)
slopes = -features * (features @ truth)[:, None]  # the gradient of ½ (x·w - y)² at w = 0, for each sample
spread = [
    slopes[rng.integers(1000, size=(4000, size))].mean(axis=1).std(axis=0).mean() for size in (1, 4, 16)
]
print("standard deviation of the gradient for 1, 4, 16 samples:", np.round(spread, 3))
assert np.allclose(np.divide(spread[:-1], spread[1:]), 2, atol=0.15)

# %% [markdown]
# With noise a constant learning rate never arrives. It hovers. So the rate is lowered on the way: a **schedule**. nnU-Net's
# is $\eta_0 (1 - t/T)^{0.9}$, from 0.01. **Predict** what the three curves below look like in the end.

# %%
total = 400
decay = lambda optimizer: optim.lr_scheduler.PolynomialLR(optimizer, total, power=0.9)
paths = {
    "constant": walk(sgd(0.1), total, noise=3.0),
    "polynomial": walk(sgd(0.1), total, noise=3.0, schedule=decay),
    "constant, a tenth": walk(sgd(0.01), total, noise=3.0),
}
losses = {name: 0.5 * (CURVATURE * places**2).sum(axis=1) for name, places in paths.items()}
plt.figure(figsize=(6.5, 3.2))
for name, loss in losses.items():
    plt.semilogy(np.convolve(loss, np.ones(20) / 20, mode="valid"), label=name)
plt.xlabel("step")
plt.ylabel("loss, mean of 20 steps")
plt.legend(title="learning rate", bbox_to_anchor=(1, 1))

last = {name: loss[-20:].mean() for name, loss in losses.items()}
print({name: round(float(loss), 3) for name, loss in last.items()})
assert last["polynomial"] < min(last["constant"], last["constant, a tenth"]) / 3

# %% [markdown]
# The schedule has both: long steps early, little noise late.
#
# ## A U-Net, and images it has not seen
#
# The training loss is not what we want. We want to be right on *new* images. The difference between the loss on new images
# and on those of the training is the **generalisation gap**. The organ of generated phantoms, few of them for the
# training:


# %%
def phantoms(split: str, n: int) -> tuple[minidl.Tensor, np.ndarray]:
    """Images (n, 1, 32, 32) of mean 0 and standard deviation 1, and the organ's masks (n, 32, 32)."""
    dataset = PhantomDataset(split, n, shape=(32, 32))
    cases = [dataset.load(i) for i in range(n)]
    x = np.stack([c.image.array for c in cases])
    x = (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)
    return minidl.tensor(x), np.stack([c.label.array > 0 for c in cases])


def loss_of(net, images, masks) -> minidl.Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(net(images), minidl.tensor(masks.astype(np.int64)))


train_x, train_y = phantoms("train", 32)
new_x, new_y = phantoms("validation", 32)


def trained(make, n: int, seed: int, steps: int, every: int = 10):
    """Train on the first n images; (losses (2, k) on those and on new ones along the way, Dice on new ones)."""
    minidl.manual_seed(seed)
    net, rng, history = UNet(1, 2, (8, 16)), np.random.default_rng(seed), []
    optimizer = make(net.parameters())
    schedule = optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    for step in range(1, steps + 1):
        batch = rng.integers(n, size=4)
        loss = loss_of(net, train_x[batch], train_y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % every == 0:
            with minidl.no_grad():
                sets = ((train_x[:n], train_y[:n]), (new_x, new_y))
                history.append([loss_of(net, *pair).item() for pair in sets])
    with minidl.no_grad():
        masks = net(new_x).numpy().argmax(axis=1) == 1
    return np.array(history).T, dice(masks, new_y)


# %% [markdown]
# **Predict, then run:** both losses, over the steps, for 4 and for 32 training images. Which curves fall, which come apart?

# %%
steps = 60 if notebook.FAST else 120
use_adam, use_sgd = (lambda p: optim.Adam(p, lr=0.01)), sgd(0.1, 0.9)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.3), sharey=True)
gaps = {}
for axis, n in zip(axes, (4, 32)):
    (seen, new), _ = trained(use_adam, n, seed=0, steps=steps)
    axis.semilogy(np.arange(10, steps + 1, 10), seen, "o-", label="training images")
    axis.semilogy(np.arange(10, steps + 1, 10), new, "s-", label="new images")
    axis.set(title=f"{n} training images", xlabel="step", yticks=[0.02, 0.05, 0.1, 0.2, 0.5])
    axis.set_yticklabels(["0.02", "0.05", "0.1", "0.2", "0.5"])
    gaps[n] = new[-1] - seen[-1]
    assert n == 32 or new.min() < new[-1]  # the four images: the best was earlier
    print(
        f"{n:2} images: loss {seen[-1]:.3f} seen, {new[-1]:.3f} new, gap {gaps[n]:.3f}; best {new.min():.3f}"
    )
axes[0].set_ylabel("cross-entropy")
axes[0].legend()
assert gaps[4] > 2 * abs(gaps[32])

# %% [markdown]
# On its four images the network gets better and better; on new ones it soon stops improving (the lowest point of the orange
# curve is printed as "best"). It learns these four images, *overfitting*. In this run, eight times as many images closed
# most of the gap. If you cannot have more, make more: augmentation (lesson 15).
#
# ## Does SGD generalise better?
#
# The lecture's advice: if the generalisation error is large, try SGD with momentum instead of Adam. Test it where the gap
# is large: 4 images, each optimiser with its learning rate (0.01 and 0.1, the better ones of a few that we tried), pairs of
# equal seeds.

# %%
seeds = 2 if notebook.FAST else 6
runs = {
    name: [trained(make, 4, seed, steps, every=steps) for seed in range(seeds)]
    for name, make in (("Adam", use_adam), ("SGD", use_sgd))
}
seen, new = ({k: np.array([run[0][i, -1] for run in v]) for k, v in runs.items()} for i in (0, 1))
overlap = {name: np.array([run[1] for run in v]) for name, v in runs.items()}
for name in runs:
    print(
        f"{name:5} seen {seen[name].mean():.3f}  new {new[name].mean():.3f}  Dice {overlap[name].mean():.3f}"
    )
for what, values in (("loss on new images", new), ("Dice", overlap)):
    d = values["SGD"] - values["Adam"]
    print(
        f"SGD minus Adam, {what}: {d.mean():+.3f} ± {d.std(ddof=1):.3f}; positive in {(d > 0).sum()} of {seeds}"
    )
assert all((new[name] > seen[name]).all() for name in runs)

# %% [markdown]
# Read the last two lines with care: how large is the difference, next to the spread from seed to seed, and next to what 32
# instead of 4 images bring? Two more things differ than the name: the learning rates, and with them how far each has come
# on the images it has *seen*. A smaller gap after less training is no surprise.
#
# ## Where the optimiser *does* decide
#
# Here is a case that can be seen through. Twenty equations, forty unknown weights: many solutions have a training loss of
# zero. Which one is found depends on the walk. SGD from zero never leaves the span of the samples, and so ends at the
# solution of the smallest length. Adam divides each weight's step by its own gradients, leaves that span, and ends
# elsewhere.
#
# **Predict:** which is nearer to the truth, if the true weights are a few large ones? If all of them are $\pm 1$?


# %%
def solve(features, answers, make, steps: int) -> np.ndarray:
    """Weights from zero by full gradients of the mean squared error."""
    w = minidl.zeros(features.shape[1], dtype=minidl.float64, requires_grad=True)
    optimizer = make([w])
    schedule = optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    for _ in range(steps):
        slope = 2 / len(answers) * features.T @ (features @ w.detach().numpy() - answers)
        w.grad = minidl.tensor(slope)
        optimizer.step()
        schedule.step()
    return w.detach().numpy()


few = lambda rng: np.where(np.arange(40) < 3, 4.0, 0.0) * rng.choice([-1, 1], 40)
all_equal = lambda rng: rng.choice([-1.0, 1.0], 40)
solvers = {"SGD": sgd(0.02, 0.9), "Adam": lambda p: optim.Adam(p, lr=0.01)}
away = {}
for kind, draw in (("a few large", few), ("all ±1", all_equal)):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        features, truth = rng.normal(size=(20, 40)), draw(rng)
        for name, make in solvers.items():
            w = solve(features, features @ truth, make, 1500)
            assert np.mean((features @ (w - truth)) ** 2) < 0.02 * np.mean((features @ truth) ** 2)
            if name == "SGD":
                assert np.allclose(w, np.linalg.pinv(features) @ features @ truth, atol=1e-3)
            away.setdefault((kind, name), []).append(((w - truth) ** 2).sum() / (truth**2).sum())

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for axis, kind in zip(axes, ("a few large", "all ±1")):
    pair = np.array([away[kind, "SGD"], away[kind, "Adam"]])
    axis.plot([0, 1], pair, "o-", color="#56B4E9", linewidth=1)
    axis.set(
        title=f"true weights: {kind}",
        xticks=[0, 1],
        xticklabels=["SGD", "Adam"],
        xlim=(-0.4, 1.4),
        ylim=(0, None),
    )
    print(
        f"{kind:12} SGD {pair[0].mean():.2f}, Adam {pair[1].mean():.2f}; SGD nearer in {(pair[0] < pair[1]).sum()} of 10"
    )
axes[0].set_ylabel("relative squared error")
assert (np.array(away["a few large", "SGD"]) < np.array(away["a few large", "Adam"])).all()
assert 1 <= sum(a < b for a, b in zip(away["all ±1", "SGD"], away["all ±1", "Adam"])) <= 9

# %% [markdown]
# Both fit what they have seen. On what they have not seen SGD wins clearly in the first case, in every draw; in the second
# neither does. So "SGD generalises better" is not a law: it depends on whether the truth looks like the solutions that the
# walk prefers. The lecture's "*try*" is the right word.
#
# ## Exercises
#
# **1. Momentum.** Write `momentum_sgd(w, gradients, lr, mu)`: the weights after one step for each gradient. The first $v$
# is the first gradient.


# %% tags=["exercise"]
def momentum_sgd(w, gradients, lr, mu):
    """Replace the next line."""
    return w


# %% [markdown]
# <details><summary>Hint</summary>
#
# Two lines in a loop: $v \leftarrow \mu v + g$ and $w \leftarrow w - \eta v$, starting from $v = 0$.
#
# </details>


# %% tags=["solution"]
def momentum_sgd(w, gradients, lr, mu):
    """v <- mu v + g; w <- w - lr v."""
    v = 0
    for g in gradients:
        v = mu * v + g
        w = w - lr * v
    return w


# %%
def reference_sgd(w, gradients, lr, mu):
    """minidl's SGD, fed with the gradients."""
    w = minidl.tensor(np.array(w), requires_grad=True)
    optimizer = optim.SGD([w], lr=lr, momentum=mu)
    for g in gradients:
        w.grad = minidl.tensor(g)
        optimizer.step()
    return w.detach().numpy()


start = np.array([1.0, -2, 0.5])
steps_of = np.random.default_rng(1).normal(size=(6, 3))
check.function(
    "momentum_sgd", momentum_sgd, reference_sgd, (start, steps_of, 0.1, 0.9), (start, steps_of, 0.3, 0.0)
)

# %% [markdown]
# **2. A schedule with a warm-up.** Write `rate(t, T, warm)`: the factor by which the initial rate is multiplied at step
# $t$. It rises in a straight line to 1 over the first `warm` steps, $(t + 1)/\mathrm{warm}$, and then follows
# $(1 - t/T)^{0.9}$.


# %% tags=["exercise"]
def rate(t, T, warm):
    """Replace the next line."""
    return 2.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# One `if`. With $t = \mathrm{warm} - 1$ the straight line reaches 1.
#
# </details>


# %% tags=["solution"]
def rate(t, T, warm):
    """Up along a line, down along the polynomial."""
    return (t + 1) / warm if t < warm else (1 - t / T) ** 0.9


# %%
reference_rate = lambda t, T, warm: min((t + 1) / warm, 1) * (1 if t < warm else (1 - t / T) ** 0.9)
check.function(
    "rate", rate, reference_rate, (0, 100, 10), (9, 100, 10), (10, 100, 10), (50, 100, 10), (100, 100, 5)
)

# %% [markdown]
# **3. How large may the learning rate be?** For the loss $\frac12\, w^\top H w$ with a symmetric positive matrix $H$, write
# `largest_rate(H)`: above it gradient descent explodes.


# %% tags=["exercise"]
def largest_rate(H):
    """Replace the next line."""
    return 1.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# In the right coordinates $H$ is a bowl like ours; the curvatures are its eigenvalues (`np.linalg.eigvalsh`).
#
# </details>


# %% tags=["solution"]
def largest_rate(H):
    """2 over the largest curvature."""
    return 2 / np.linalg.eigvalsh(H).max()


# %%
reference_largest = lambda H: 2 / np.linalg.norm(H, 2)
mixed = np.array([[3.0, 1, 0], [1, 2, 0.5], [0, 0.5, 1]])
check.function("largest_rate", largest_rate, reference_largest, (np.diag([1.0, 10]),), (mixed,))

# %% [markdown]
# ## What you can now explain
#
# - why the steepest direction limits the learning rate, and the flattest one sets the time;
# - what momentum adds up, why 0.99 means steps up to 100 times as long, and its formula;
# - Adam's two averages, its first step, and why the units of the loss do not matter to it;
# - why mini-batches are noisy, and what a schedule does about it;
# - the generalisation gap, and that more data closes it;
# - why "try SGD if the gap is large" is advice and not a law.
#
# **Where this stands.** B. Polyak, *Some methods of speeding up the convergence of iteration methods*, USSR Computational
# Mathematics and Mathematical Physics 4 (1964); D. Kingma and J. Ba, *Adam: a method for stochastic optimization*, ICLR
# (2015), arXiv:1412.6980. A. Wilson et al., *The marginal value of adaptive gradient methods in machine learning*, NeurIPS
# (2017), arXiv:1705.08292, argue for SGD; D. Choi et al., *On empirical comparisons of optimizers for deep learning*,
# arXiv:1910.05446 (2019), find that the difference goes away when everything is tuned. nnU-Net first used Adam and later
# SGD with a momentum of 0.99. Lesson 12 makes the valley less steep.
