# %% [markdown]
# # 16 · The ablation: read a table, make one
#
# **At the end you own this sentence:** a difference between two trainings means nothing until you know how
# much two trainings differ when nothing was changed.
#
# *Needs:* lessons 10 (losses), 13 (a whole training), 15 (nnU-Net). *Takes:* 35 minutes. *New:* ablation,
# paired differences, confidence interval over seeds, "no difference shown" against "no difference".

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import minidl
import minidl.nn.functional as F
from minidl import check, models, notebook, optim
from minidl.segment.ablate import lecture, paired_interval
from minidl.segment.metrics import dice

notebook.style()

DATA_SETS = [
    "BraTS",
    "Liver\nlowres",
    "Liver\nfullres",
    "Hippo-\ncampus",
    "Prostate",
    "Lung\nnodule",
    "Pancreas",
]
VANILLA = np.array([0.72, 0.79, 0.78, 0.89, 0.77, 0.65, 0.65])  # mean Dice of nnU-Net
CHANGES = {  # in per cent
    "batch norm": [1.0, -0.1, 2.9, -0.1, -1.3, -14.2, -3.7],
    "no norm": [1.1, -4.6, -22.8, -0.2, -4.2, 3.0, -100.0],
    "ReLU": [0.6, 0.0, 1.0, -0.1, -0.2, -0.4, 0.5],
    "no augmentation": [-0.8, -4.9, 1.5, -1.5, -0.4, 4.2, -11.3],
    "only CE": [-0.6, -12.0, -6.3, 0.0, -1.4, -25.4, -8.8],
    "only Dice": [0.9, -2.5, -10.1, -0.3, -3.0, -11.5, 1.6],
}
table = np.array(list(CHANGES.values()))
assert (table == list(lecture.CHANGES.values())).all() and (VANILLA == lecture.DICE).all()


def show_table(table: np.ndarray, title: str) -> None:
    """Rows of changes in per cent, purple for better, orange for worse; the colours end at ±15."""
    figure, axis = plt.subplots(figsize=(9.5, 3.6))
    axis.imshow(table, cmap="PuOr", vmin=-15, vmax=15, aspect="auto")
    for (i, j), change in np.ndenumerate(table):
        axis.text(j, i, f"{change:+.1f}", ha="center", va="center", color="white" if abs(change) > 9 else "k")
    axis.set(xticks=range(7), xticklabels=DATA_SETS, yticks=range(len(table)), title=title)
    axis.set_yticklabels(list(CHANGES)[: len(table)])
    axis.tick_params(length=0)


show_table(table, "change of Dice against vanilla nnU-Net (%)")

# %% [markdown]
# This is the table of the lecture; it stems from the later preprint on nnU-Net (F. Isensee et al.,
# arXiv:1904.08128). Each row changes *one* choice and leaves the rest: an **ablation**. The lecture
# concludes that *there is generally not a large effect of any hyperparameter choice*. Does the table say so?
#
# ## What are the numbers?
#
# "-25.4 %" of what? Read as a share of vanilla's Dice, or as points of Dice on a scale to 100, it is not the
# same. **Predict:** lung nodules, only cross-entropy: which Dice is that, in the one reading and in the
# other?

# %%
relative, points = 0.65 * (1 - 0.254), 0.65 - 0.254
print(f"relative: {relative:.3f}, points: {points:.3f}")
assert round(relative, 3) == 0.485 and round(points, 3) == 0.396
print(f"pancreas without norm: relative {0.65 * (1 - 1.0):.2f}, points {0.65 - 1.0:.2f}")
assert 0.65 - 1.0 < 0  # a Dice below 0 does not exist

# %% [markdown]
# The -100.0 settles it: points would give a negative Dice. So we read the changes as *relative*; and -100 %
# means that the network found nothing at all.
#
# ## "Not a large effect"
#
# **Predict:** of the 42 changes, how many lie within ±1 %? How many are worse than -10 %?

# %%
print(
    "within ±1 %:",
    (abs(table) <= 1).sum(),
    " beyond ±5 %:",
    (abs(table) > 5).sum(),
    " below -10 %:",
    (table < -10).sum(),
)
for name, row in zip(CHANGES, table):
    print(
        f"{name:16} median size {np.median(abs(row)):5.1f}, worst {row.min():+7.1f}, best {row.max():+5.1f}"
    )
assert table.size == 42 and (abs(table) <= 1).sum() == 17 and (table < -10).sum() == 8
assert np.median(abs(table)) < 2
assert abs(table[2]).max() == 1.0  # ReLU

# %% [markdown]
# Both are true at once: the *typical* change is small, and the *worst* is ruin. A method that is meant to
# work on a data set nobody has seen yet is chosen by its worst row. So a sharper sentence is: "ReLU or leaky
# ReLU: at most 1 % on each of these seven; each other choice costs between 11 and 100 % on one of them."

# %%
worst = {name: float(row.min()) for name, row in zip(CHANGES, table) if name != "ReLU"}
print(worst)
assert max(worst.values()) < -11 and min(worst.values()) == -100

# %% [markdown]
# ## What the table does not say
#
# How much would vanilla itself change, trained again with other random numbers? There is no seed and no
# interval in the table. So we cannot tell a change from luck. To get a feeling: a table in which **nothing
# was changed**, and two trainings of the same method differ by luck alone. Move the slider.


# %%
def show_luck(luck: float) -> None:
    """A table of no effects at all: each number is the difference of two equal methods."""
    rng = np.random.default_rng(3)
    show_table(
        rng.normal(0, luck, (6, 7)), f"nothing was changed; luck with a standard deviation of {luck:g} %"
    )


notebook.explore(show_luck, luck=(3.0, 0.0, 10.0))

# %% [markdown]
# One would find stories in this one, too. Which rows of the real table stand out of such a background
# depends on how large the luck is, and *that differs between data sets*: where objects are small, and one
# more or less is found, a Dice moves more than where all are large. The ReLU row suggests that luck can be
# small; a single row cannot prove it.
#
# Without seeds, one thing can be asked: the **signs**. If a change made no difference, better and worse
# would be a coin toss on every data set. **Predict:** "only CE" is worse on six and equal on one. How likely
# are six tails in six tosses? Six equal faces?

# %%
for name, row in zip(CHANGES, table):
    worse, better = int((row < 0).sum()), int((row > 0).sum())
    p = stats.binomtest(worse, worse + better).pvalue
    print(f"{name:16} worse on {worse}, better on {better}: p = {p:.2f}")
    assert (p < 0.05) == (name == "only CE") and (p > 0.4) == (name != "only CE")
assert (table[4] < 0).sum() == 6 and (table[4] > 0).sum() == 0
assert np.isclose(stats.binomtest(6, 6).pvalue, 2 / 64)  # both ends count: six tails, or six heads

# %% [markdown]
# $p$ is 1 in 32 for "only CE", and nothing for the others. But six rows were asked, and of six coins one shows
# something rare more easily; and "liver" is in the table twice. It is a hint, not a proof.
#
# ## Pairs
#
# To do better we train several times. A **seed** fixes the first weights, the data and the order of the
# batches, for *all* arms. Luck that both arms share cancels in the difference. By hand:
#
# | seed | vanilla | changed | difference |
# |---|---|---|---|
# | 0 | 0.60 | 0.58 | -0.02 |
# | 1 | 0.70 | 0.69 | -0.01 |
# | 2 | 0.80 | 0.77 | -0.03 |
#
# **Predict:** the mean difference is -0.02. The standard deviation of the differences? That of vanilla? Is
# -0.02 sure with three seeds?

# %%
vanilla, changed = np.array([0.60, 0.70, 0.80]), np.array([0.58, 0.69, 0.77])
difference = changed - vanilla
print(
    f"standard deviation of vanilla {vanilla.std(ddof=1):.2f}, of the differences {difference.std(ddof=1):.2f}"
)
half = stats.t.ppf(0.975, df=2) * difference.std(ddof=1) / np.sqrt(3)
print(f"mean {difference.mean():+.3f} ± {half:.3f}")
assert np.allclose([difference.mean(), vanilla.std(ddof=1), difference.std(ddof=1)], [-0.02, 0.1, 0.01])
assert round(half, 3) == 0.025  # 4.303 · 0.01 / √3
assert stats.t.ppf(0.975, [2, 4]).round(1).tolist() == [4.3, 2.8]  # the factor for three and five seeds
assert np.allclose(paired_interval(difference), (difference.mean() - half, difference.mean() + half))

# %% [markdown]
# Pairing made the noise ten times smaller, and still the 95 % interval from -0.045 to +0.005 holds 0: three
# seeds are few. The factor $t$ is 4.3 for three seeds and 2.8 for five. What an interval allows us to say:

# %%
MARGIN = 0.05  # a Dice of 0.05 more or less: what we call large, chosen before we look


def words(low: float, high: float) -> str:
    """A sentence that claims no more than a 95 % interval allows."""
    size = f"{MARGIN:g}"
    if low > 0 or high < 0:
        way, nearest, farthest = ("better", low, high) if low > 0 else ("worse", -high, -low)
        if nearest > MARGIN:
            return f"{way}, by more than {size}"
        return (
            f"{way}, by at most {size}"
            if farthest <= MARGIN
            else f"{way}; whether by more than {size} is open"
        )
    if low >= -MARGIN and high <= MARGIN:
        return f"no difference shown; if there is one, it is at most {size}"
    return "undecided"


for interval in ((-0.03, -0.01), (-0.01, 0.02), (-0.2, 0.1), (-0.3, -0.1), (0.01, 0.09)):
    print(interval, "->", words(*interval))
assert words(-0.2, 0.1) == "undecided" != words(-0.01, 0.02)

# %% [markdown]
# The second and third lines differ, and that is the point: *no difference shown* with a narrow interval is a
# finding. With a wide one it is only ignorance.
#
# ## A small ablation
#
# One column of the table is worth a closer look: "only CE" costs 25.4 % on lung nodules, which are tiny, and
# 0.0 % on the hippocampus, which fills much of its images. **Hypothesis:** cross-entropy alone hurts where
# the foreground is rare. We make two data sets that differ in nothing but the radius of the disc that is to
# be found, among bright lines, in noise.


# %%
def discs(n: int, radius: float, rng: np.random.Generator, size: int = 32):
    """Images (n, 1, size, size) with bright lines and a bright disc, and the masks of the discs."""
    grid = np.mgrid[:size, :size]
    x = np.zeros((n, 1, size, size), np.float32)
    y = np.zeros((n, size, size), np.int64)
    for image, mask in zip(x[:, 0], y):
        for _ in range(4):
            along, (row, column) = rng.uniform(0, np.pi), grid - rng.uniform(0, size, 2)[:, None, None]
            image[abs(row * np.cos(along) + column * np.sin(along)) < 0.8] = 1
        r = radius * rng.uniform(0.8, 1.2)
        row, column = grid - rng.uniform(4, size - 4, 2)[:, None, None]
        mask[row**2 + column**2 < r**2] = 1
        image[mask == 1] = 1
    return x + rng.normal(0, 0.4, x.shape).astype(np.float32), y


SETS = {"rare": 2.2, "common": 7.0}  # the radius in pixels
tests = {name: discs(64, radius, np.random.default_rng(999)) for name, radius in SETS.items()}
figure, axes = plt.subplots(1, 6, figsize=(11, 2.4))
for k, (name, (x, y)) in enumerate(tests.items()):
    for case in range(3):
        axis = axes[3 * k + case]
        axis.imshow(x[case, 0])
        axis.contour(y[case], [0.5], colors="#E69F00", linewidths=1.5)
        axis.set(title=f"{name}: {y.mean():.1%}" if case == 1 else "", xticks=[], yticks=[])
assert tests["rare"][1].mean() < 0.02 < 0.1 < tests["common"][1].mean()

# %% [markdown]
# An arm is one change of vanilla: Dice + CE, leaky ReLU. Everything else is the same, and short: a second
# or two a run.

# %%
STEPS = 16 if notebook.FAST else 50
LOSSES = {
    "Dice + CE": lambda z, y: F.dice_ce_loss(z, y, batch=True),
    "only CE": F.cross_entropy,
    "only Dice": lambda z, y: F.dice_loss(z, y, include_background=False, batch=True),
}
ARMS = {name: (name, "leaky_relu") for name in LOSSES} | {"ReLU": ("Dice + CE", "relu")}


def run(arm: str, name: str, seed: int, steps: int) -> float:
    """Train one arm on one data set from one seed; the Dice of all test images together."""
    loss, activation = ARMS[arm]
    rng = np.random.default_rng(seed)
    train_x, train_y = discs(64, SETS[name], rng)
    minidl.manual_seed(seed)
    net = models.UNet(1, 2, features=(4, 8, 16), activation=activation)
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        batch = rng.integers(len(train_x), size=4)
        value = LOSSES[loss](net(minidl.tensor(train_x[batch])), minidl.tensor(train_y[batch]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    test_x, test_y = tests[name]
    with minidl.no_grad():
        return dice(net(minidl.tensor(test_x)).numpy().argmax(axis=1) == 1, test_y == 1)


# %% [markdown]
# First: are pairs pairs? The same seed twice must give the same number, to the last bit.

# %%
assert run("Dice + CE", "rare", 0, 8) == run("Dice + CE", "rare", 0, 8)

# %% [markdown]
# **Predict, then run** (most of a minute): which of the three arms differ from vanilla on *rare*? Which on
# *common*? Write it down first, with a number.

# %%
seeds = range(3 if notebook.FAST else 5)
scores = {(arm, name): np.array([run(arm, name, s, STEPS) for s in seeds]) for name in SETS for arm in ARMS}
for (arm, name), values in scores.items():
    print(f"{name:7} {arm:10}", " ".join(f"{v:.3f}" for v in values), f"  mean {values.mean():.3f}")

# %%
intervals = {
    (arm, name): paired_interval(scores[arm, name] - scores["Dice + CE", name])
    for name in SETS
    for arm in list(ARMS)[1:]
}
figure, axes = plt.subplots(1, 2, figsize=(10.5, 2.9), sharex=True, sharey=True)
for axis, name in zip(axes, SETS):
    for row, arm in enumerate(list(ARMS)[1:]):
        low, high = intervals[arm, name]
        difference = scores[arm, name] - scores["Dice + CE", name]
        axis.plot([low, high], [row, row], color="#0072B2", linewidth=3)
        axis.plot(difference, np.full(len(difference), row + 0.22), "o", color="#E69F00", markersize=5)
        axis.plot(difference.mean(), row, "k|", markersize=14)
    axis.axvspan(-MARGIN, MARGIN, color="#EEEEEE", zorder=0)
    axis.axvline(0, color="#999999", linewidth=1)
    axis.set(title=f"{name} foreground", xlabel="Dice - Dice of vanilla", yticks=range(3), ylim=(2.6, -0.5))
    axis.set_yticklabels(list(ARMS)[1:])

# %% [markdown]
# Orange: one seed. Blue: the 95 % interval of the mean difference (black). Grey: what we had called small. And in
# words:

# %%
for (arm, name), (low, high) in intervals.items():
    print(f"{name:7} {arm:10} [{low:+.3f}, {high:+.3f}]  {words(low, high)}")
outside = sum(low > 0 or high < 0 for low, high in intervals.values())
print(f"\n{outside} of {len(intervals)} intervals leave out 0; by chance alone 1 in 20 would")

# %% [markdown]
# Look at "only CE" in the two panels.

# %%
ce = {name: scores["only CE", name] - scores["Dice + CE", name] for name in SETS}
print({name: d.round(3).tolist() for name, d in ce.items()})
nothing = {arm: int((scores[arm, "rare"] < 0.01).sum()) for arm in ARMS}
print(f"runs on rare foreground that found nothing, of {len(seeds)}: {nothing}")
assert ce["rare"].max() < 0.01 and (scores["Dice + CE", "rare"][ce["rare"] > -0.01] < 0.01).all()
assert notebook.FAST or (ce["rare"].mean() < -0.1 and abs(ce["common"]).max() < 0.05)

# %% [markdown]
# On rare foreground none of these seeds gains, and their mean loss is more than 0.1; where one loses
# nothing, vanilla had found nothing either. On common foreground no seed moves by 0.05. The same change, an
# effect here and none shown there: whoever had tried one data set only would have told one half of the
# story. It fits the table's row, from 0.0 to -25.4, which "generally no large effect" hides.
#
# Note how wide the intervals on the left are, with five seeds. That is what luck looks like where a run
# finds the disc or does not. A table with one run per cell would have shown you *one* of the orange dots.
#
# ## Is it the loss, or the time?
#
# Be your own critic. 50 steps are a short training. **Predict:** does cross-entropy alone find the rare
# discs, if it gets four times as many steps?

# %%
long = {arm: run(arm, "rare", 0, 4 * STEPS) for arm in ("Dice + CE", "only CE")}
for arm, value in long.items():
    print(f"{arm:10} {STEPS} steps: {scores[arm, 'rare'][0]:.3f}   {4 * STEPS} steps: {value:.3f}")
assert long["only CE"] >= (0 if notebook.FAST else 0.3) + scores["only CE", "rare"][0]

# %% [markdown]
# One seed, so read it as an example: given time, cross-entropy finds the discs as well. It tells what our
# ablation did measure: not "how good is cross-entropy", but "how good after so many steps, at this learning
# rate". The honest sentence carries its conditions with it.
#
# What else stands on thin ice here: the interval takes the differences for normally distributed, which they
# are not when some runs collapse to 0; the learning rate was tuned for none of the arms; and 32 x 32 discs
# are not lungs.
#
# The same with the real pipeline, seeds in parallel, the table and the words: `minidl ablate`.
#
# ## Exercises
#
# **1. Back to Dice.** Write `absolute(vanilla, changes)`: the Dice of each cell, from vanilla's Dice (7,)
# and relative changes in per cent (rows, 7).


# %% tags=["exercise"]
def absolute(vanilla, changes):
    """Replace the next line."""
    return np.asarray(vanilla) + np.asarray(changes)


# %% [markdown]
# <details><summary>Hint</summary>
#
# 25.4 % less than 0.65 is $0.65 \cdot (1 - 0.254)$.
#
# </details>


# %% tags=["solution"]
def absolute(vanilla, changes):
    """vanilla · (1 + changes / 100)."""
    return np.asarray(vanilla) * (1 + np.asarray(changes) / 100)


# %%
expected = np.array([[v + v * c / 100 for v, c in zip(VANILLA, row)] for row in table])
check.function("absolute", absolute, lambda *arguments: expected, (VANILLA, table))

# %% [markdown]
# **2. The interval.** Write `interval(a, b)`: the 95 % interval (low, high) of the mean of $b - a$, for two
# arrays paired by seed.


# %% tags=["exercise"]
def interval(a, b):
    """Replace the next line."""
    return b.min() - a.max(), b.max() - a.min()


# %% [markdown]
# <details><summary>Hint</summary>
#
# $\bar d \pm t\, s / \sqrt n$ with `stats.t.ppf(0.975, n - 1)` and `ddof=1` in the standard deviation.
#
# </details>


# %% tags=["solution"]
def interval(a, b):
    """Student's interval of the mean difference."""
    d = b - a
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return d.mean() - half, d.mean() + half


# %%
rng = np.random.default_rng(0)
pairs = [tuple(rng.normal(0.7, 0.1, (2, n))) for n in (3, 8)]
check.function("interval", interval, lambda a, b: paired_interval(b - a), *pairs)

# %% [markdown]
# **3. How many seeds?** The differences have standard deviation $s$. Write `seeds_needed(s, half)`: the
# smallest $n \ge 2$ for which the interval reaches no further than `half` to either side.


# %% tags=["exercise"]
def seeds_needed(s, half):
    """Replace the next line."""
    return 2


# %% [markdown]
# <details><summary>Hint</summary>
#
# $t$ depends on $n$ too, so count upwards from 2 until $t\, s / \sqrt n \le$ `half`.
#
# </details>


# %% tags=["solution"]
def seeds_needed(s, half):
    """The first n with t(0.975, n - 1) · s / √n <= half."""
    n = 2
    while stats.t.ppf(0.975, n - 1) * s / np.sqrt(n) > half:
        n += 1
    return n


# %%
enough = lambda s, half: next(n for n in range(2, 9999) if stats.t.ppf(0.975, n - 1) * s <= half * n**0.5)
check.function("seeds_needed", seeds_needed, enough, (0.01, 0.01), (0.03, 0.01), (0.1, 0.02))

# %% [markdown]
# ## What you can now explain
#
# - what an ablation is, and what "relative" does to its numbers;
# - why "no large effect" and "-100 %" can stand in one table, and which of them a careful reader plans for;
# - why a single run per cell cannot tell an effect from luck, and what pairs of seeds buy;
# - the difference between *no difference shown* and *no difference*;
# - that in our small example cross-entropy alone suffered where foreground was rare and training short.
#
# **Where this stands.** F. Isensee et al., arXiv:1904.08128, is the source of the table; Student, *The
# probable error of a mean*, Biometrika 6 (1908); X. Bouthillier et al., *Accounting for variance in machine
# learning benchmarks*, MLSys (2021), on how much seeds and splits move a result; F. Isensee et al., *nnU-Net
# revisited*, arXiv:2404.09556 (2024), on what becomes of claimed gains when the comparison is fair.
