# %% [markdown]
# # 13 · A 2-D U-Net, start to finish
#
# **At the end you own this sentence:** training is the short part; what makes a result worth having is what
# stands around it: a clean split, a baseline, numbers per class, and a look at the failures.
#
# *Needs:* lessons 09 (U-Net), 10 (losses), 11 (training), 12 (normalisation). *Takes:* 40 minutes. *New:*
# splitting by patient, augmenting image and label alike, choosing weights by validation, the test that is
# made once.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, models, notebook, optim, plot
from minidl.data import CLASSES, PhantomDataset, split_indices
from minidl.data.augment import AUGMENTATIONS
from minidl.receptive_field import analyze
from minidl.segment.baselines import best_threshold, mean_label_prior
from minidl.segment.metrics import bootstrap_interval, dice

notebook.style()


def phantoms(split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw images (n, 1, 64, 64) and labels (n, 64, 64): 0 background, 1 organ, 2 lesion."""
    dataset = PhantomDataset(split, n, shape=(64, 64))
    cases = [dataset.load(i) for i in range(n)]
    return np.stack([c.image.array for c in cases]), np.stack([c.label.array for c in cases]).astype(np.int64)


raw_x, train_y = phantoms("train", 48 if notebook.FAST else 320)
figure, axes = plt.subplots(2, 5, figsize=(11, 4.7))
for column, case in zip(axes.T, range(5)):
    column[0].imshow(raw_x[case, 0], vmin=0, vmax=1.2)
    column[1].imshow(plot.label_overlay(raw_x[case, 0], train_y[case], 3))
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("image")
axes[1, 0].set_ylabel("truth")
plt.show()

# %% [markdown]
# Generated images: an organ (blue) with lesions (orange), under noise and uneven brightness. A ring around
# the organ and thin vessels are as bright as lesions, and many lesions have a dark core. So brightness does
# not settle the matter: shape and place do.
#
# ## 1. Look at the data before you train
#
# **Predict, then run:** what share of the pixels is lesion? How many pixels would a network get right that
# never finds a lesion and makes no other mistake? And what would its Dice for lesions be?

# %%
share = np.array([(train_y == c).mean() for c in range(3)])
print({name: f"{s:.1%}" for name, s in zip(CLASSES, share)})
without = (train_y == 2).any(axis=(1, 2)).mean()
print(f"{1 - share[2]:.1%} of pixels right, Dice of lesions 0; {without:.0%} of the images show a lesion")
assert 0.02 < share[2] < 0.04 and 0.6 < without < 0.95
assert dice(np.zeros_like(train_y, bool), train_y == 2) == 0

# %% [markdown]
# So the accuracy says nothing here: we shall give the Dice *of each class*, and choose a loss that does not
# forget the rare one (lesson 10).
#
# ## 2. Split by patient
#
# Three sets. *Training* fits the weights; *validation* makes the choices (when to stop, which learning
# rate); *test* is used once, in the end. What must never sit on both sides is a **patient**: two slices of
# one head are nearly the same image.
#
# **Predict:** eight patients, three slices each. If the 24 slices are dealt at random, half to training, how
# many patients end up on both sides?

# %%
patient = np.repeat(np.arange(8), 3)
shuffled = np.random.default_rng(0).permutation(24)
by_slice = set(patient[shuffled[:12]]) & set(patient[shuffled[12:]])
train_patients, _, test_patients = split_indices(8, ratio=(4, 1, 3))
by_patient = set(train_patients) & set(test_patients)
print(f"dealt by slice: {len(by_slice)} of 8 patients on both sides; by patient: {len(by_patient)}")
assert len(by_slice) >= 5 and len(by_patient) == 0

# %% [markdown]
# Each phantom is a patient of its own, with one image; the three sets come from different random seeds. A
# fourth set, *shifted*, has more noise and a stronger bias field: another scanner.
#
# Every image is brought to mean 0 and standard deviation 1 **by its own numbers**. A mean over all images,
# the test set among them, would be a small leak, too.


# %%
def normalised(x: np.ndarray) -> np.ndarray:
    """Each image with mean 0 and standard deviation 1."""
    return (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)


train_x = normalised(raw_x)
sets = {
    name: (normalised(x), y)
    for name, n in (("validation", 24), ("test", 48), ("shifted", 48))
    for x, y in [phantoms(name, n)]
}
print({name: len(x) for name, (x, _) in sets.items()}, "and", len(train_x), "for training")
assert np.allclose(train_x.mean(axis=(1, 2, 3)), 0, atol=1e-5) and np.allclose(
    train_x.std(axis=(1, 2, 3)), 1, atol=1e-4
)

# %% [markdown]
# ## 3. Baselines first
#
# What does no network at all reach? One band of grey values per class, the best on the training set; and a
# map of where a class usually is, which looks at no image. **Predict:** which class is hard for both?


# %%
def mean_dice(table: np.ndarray) -> np.ndarray:
    """Mean over cases of (cases, classes). nan is a class that is absent and was not predicted: it is left out."""
    return np.nanmean(table, axis=0)


test_x, test_y = sets["test"]
baselines = {
    "threshold": best_threshold(list(train_x), list(train_y), list(test_x), list(test_y), 3),
    "usual place": mean_label_prior(list(train_y), list(test_y), 3),
}
for name, table in baselines.items():
    print(f"{name:12} Dice of organ {mean_dice(table)[0]:.2f}, of lesion {mean_dice(table)[1]:.2f}")
    assert mean_dice(table)[0] > 0.78 and mean_dice(table)[1] < 0.3

# %% [markdown]
# An organ Dice of 0.8 is free of charge. Whoever reports 0.85 without this line has reported little.
#
# ## 4. Augmentation: image and label alike
#
# A lesion on the left could as well be on the right. Mirroring makes four images of one, as long as the
# label is mirrored **with** the image. Noise and contrast, on the other hand, change the image alone.

# %%
tiny_x = np.arange(4.0).reshape(1, 2, 2)
tiny_y = np.array([[0, 0], [0, 2]])  # the brightest pixel, 3, is the lesion
rng = np.random.default_rng(0)
seen = set()
for _ in range(50):
    x, y = AUGMENTATIONS["mirror"].patch(tiny_x, tiny_y, (0, 0), (2, 2), rng)
    assert x[0][y == 2] == 3  # wherever they went, they went together
    seen.add(tuple(x.ravel().astype(int).tolist()))
print(len(seen), "different images from one:", sorted(seen))
assert len(seen) == 4

# %%
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6))
rng = np.random.default_rng(4)
pictures = [(train_x[3], train_y[3])]
pictures += [AUGMENTATIONS["nnunet"].patch(train_x[3], train_y[3], (0, 0), (64, 64), rng) for _ in range(4)]
for k, (axis, (x, y)) in enumerate(zip(axes, pictures)):
    axis.imshow(plot.label_overlay(x[0], np.where(y == 2, 2, 0), 3))
    axis.set(title="as it is" if k == 0 else f"nnU-Net's, draw {k}", xticks=[], yticks=[])

# %% [markdown]
# nnU-Net also turns, scales, blurs, and bends the grey values (lesson 15). That pays in long trainings; in
# our short one we mirror only.
#
# ## 5. Network, loss, optimizer
#
# Three stages are enough to see more than a typical lesion. **Predict:** two 3x3 convolutions, then twice
# more the same after halving: how many pixels does the *bottleneck* see? (5, then 11, then...; lesson 05.)
# And the output?

# %%
minidl.manual_seed(0)
net = models.UNet(1, 3, features=(8, 16, 32))
print(f"{sum(p.numel() for p in net.parameters()):,} weights")
bare = models.UNet(1, 3, features=(8, 16, 32), norm=None)  # the convolutions alone: a norm sees all
bottleneck = analyze(lambda x: bare.encoder[2](bare.encoder[1](bare.encoder[0](x))), (1, 1, 64, 64)).size
output = analyze(bare, (1, 1, 64, 64)).size
lesions = (train_y == 2).sum(axis=(1, 2))
width = np.median(2 * np.sqrt(lesions[lesions > 0] / np.pi))  # of discs of the same area
print(f"the bottleneck sees {bottleneck}, the output up to {output}; median lesion {width:.0f} pixels wide")
assert analyze(bare.encoder[0], (1, 1, 64, 64)).size == (5, 5)
assert analyze(lambda x: bare.encoder[1](bare.encoder[0](x)), (1, 1, 64, 64)).size == (11, 11)
assert bottleneck == (23, 23) and output == (35, 35) and width < 23

# %% [markdown]
# The loss is Dice + cross-entropy; the optimizer Adam, its rate falling to 0. The Dice part sums over the
# whole batch before it divides, so that an image without a lesion is no trouble (lesson 10).


# %%
def dice_table(net, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The Dice of organ and lesion in every image: (cases, 2)."""
    return np.array([[dice(p == c, t == c) for c in (1, 2)] for p, t in zip(predict(net, x), y)])


def predict(net, x: np.ndarray) -> np.ndarray:
    """The most likely class of every pixel."""
    with minidl.no_grad():
        return net(minidl.tensor(x)).numpy().argmax(axis=1)


def train(x, y, augmentation: str, steps: int, seed: int = 0):
    """A network, and a row (step, loss, training Dice, validation Dice) for every tenth of the way."""
    minidl.manual_seed(seed)
    net, rng = models.UNet(1, 3, features=(8, 16, 32)), np.random.default_rng(seed)
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    schedule = optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    history, losses, best = [], [], (-1.0, None)
    for step in range(1, steps + 1):
        batch = [
            AUGMENTATIONS[augmentation].patch(x[i], y[i], (0, 0), (64, 64), rng)
            for i in rng.integers(len(x), size=4)
        ]
        inputs, target = (minidl.tensor(np.stack(arrays)) for arrays in zip(*batch))
        loss = F.dice_ce_loss(net(inputs), target, batch=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % (steps // 10) == 0:
            validation = mean_dice(dice_table(net, *sets["validation"]))
            history.append((step, np.mean(losses), mean_dice(dice_table(net, x[:24], y[:24])), validation))
            losses = []
            if validation.mean() > best[0]:
                best = validation.mean(), {k: v.numpy().copy() for k, v in net.state_dict().items()}
    net.load_state_dict({k: minidl.tensor(v) for k, v in best[1].items()})
    return net, history


# %% [markdown]
# The weights that did best on the *validation* set are kept. Now run it. (Half a minute. The second training
# has sixteen images and no augmentation; it is there to be looked at.)
#
# **Predict:** which of the two reaches the higher Dice on its own training images? On the validation images?

# %%
steps = 60 if notebook.FAST else 200
net, history = train(train_x, train_y, "mirror", steps)
few, few_history = train(train_x[:16], train_y[:16], "none", steps)

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.3))
for name, rows, mark in (
    ("all images, mirrored", history, "o-"),
    ("16 images, as they are", few_history, "s--"),
):
    at, loss, own, validation = (np.array(column) for column in zip(*rows))
    axes[0].plot(at, loss, mark, label=name)
    for c in (0, 1):
        axes[1 + c].plot(at, validation[:, c], mark, color=plot.OKABE_ITO[0 if mark == "o-" else 1])
        axes[1 + c].plot(at, own[:, c], mark, color="#BBBBBB", zorder=0, markersize=4)
axes[0].set(xlabel="step", ylabel="training loss", ylim=(0, None))
axes[0].legend(fontsize=10)
for axis, name in zip(axes[1:], CLASSES[1:]):
    axis.set(title=f"{name}: grey = training images", xlabel="step", ylabel="Dice", ylim=(-0.03, 1.03))

# %% [markdown]
# Look at the lesions. The dashed grey curve is a network that learns its sixteen images *by heart*; the
# dashed orange one says what that is worth on others. The distance between the two is the **generalisation
# gap** (lesson 11), and the training loss alone does not show it: the run with the lower loss is the worse
# network.

# %%
for name, rows in (("all images", history), ("16 images", few_history)):
    _, loss, own, validation = rows[-1]
    print(f"{name:10} loss {loss:.2f}, lesion Dice: training {own[1]:.2f}, validation {validation[1]:.2f}")
gap = few_history[-1][2][1] - few_history[-1][3][1]
assert gap > 0.1 and few_history[-1][1] < history[-1][1]
assert notebook.FAST or few_history[-1][3][1] < history[-1][3][1]

# %% [markdown]
# ## 6. The test, once
#
# All choices are made. Now, and only now, the test set. The intervals come from drawing the *cases* anew
# (bootstrap): they say what other patients might give. They do not say what another training would give:
# that takes more seeds (lesson 16).

# %%
results = {
    **baselines,
    "16 images": dice_table(few, test_x, test_y),
    "U-Net": dice_table(net, test_x, test_y),
}
results["U-Net, shifted"] = dice_table(net, *sets["shifted"])
print(f"{'':16}{'organ':>20}{'lesion':>22}")
for name, table in results.items():
    cells = []
    for column in table.T:
        known = column[~np.isnan(column)]
        low, high = bootstrap_interval(known)
        cells.append(f"{known.mean():.2f} [{low:.2f}, {high:.2f}]")
    print(f"{name:16}{cells[0]:>22}{cells[1]:>22}")

# %% [markdown]
# The fair question is whether it beats the best baseline *on the same images*: differences in pairs, class
# by class.


# %%
def gain(other: str, c: int) -> tuple[float, float, float]:
    """By how much the U-Net is better than another, image by image: mean, and its interval."""
    difference = (results["U-Net"] - results[other])[:, c]
    difference = difference[~np.isnan(difference)]
    return difference.mean(), *bootstrap_interval(difference)


for c, name in enumerate(CLASSES[1:]):
    strongest = max(baselines, key=lambda b: mean_dice(baselines[b])[c])
    for other in (strongest, "16 images"):
        mean, low, high = gain(other, c)
        print(f"{name:6} U-Net - {other:12} {mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    assert gain(strongest, c)[1] > 0 or (notebook.FAST and c == 1)

# %% [markdown]
# So in this run both classes beat what is free. That is the good news. The network of sixteen images is not
# as far behind as its last validation score let us expect: the weights that were kept are those of its
# *best* validation score, before it knew its images by heart. That is **early stopping**. Read the last
# interval: is it surely behind?
#
# The lesion's Dice itself is poor, and the next section asks why.
#
# ## 7. Look at the failures
#
# Best, middle and worst test image by lesion Dice. Green is right, red-orange too much, yellow missed, pink
# the wrong class.

# %%
prediction = predict(net, test_x)
scores = results["U-Net"][:, 1]
ranked = [i for i in np.argsort(scores)[::-1] if (test_y[i] == 2).any()]


def show_case(rank: int, column=None) -> None:
    """The image of that rank by lesion Dice (0 = best), its truth, the answer, and what is wrong with it."""
    case = ranked[min(rank, len(ranked) - 1)]
    column = plt.subplots(1, 4, figsize=(11, 3))[1] if column is None else column
    image = test_x[case, 0]
    overlays = (image, plot.label_overlay(image, test_y[case], 3), plot.label_overlay(image, prediction[case], 3),
                plot.error_overlay(image, prediction[case], test_y[case]))  # fmt: skip
    names = (f"rank {rank}: lesion {scores[case]:.2f}", "truth", "U-Net", "errors")
    for axis, picture, name in zip(column, overlays, names):
        axis.imshow(picture)
        axis.set(title=name, xticks=[], yticks=[])


figure, axes = plt.subplots(3, 4, figsize=(11, 8.6))
for row, rank in zip(axes, (0, len(ranked) // 2, len(ranked) - 1)):
    show_case(rank, row)
# %%
notebook.explore(show_case, rank=(len(ranked) // 4, 0, len(ranked) - 1))

# %% [markdown]
# **Predict:** is it the small lesions that are missed? And what does the network say where there is none?

# %%
area = (test_y == 2).sum(axis=(1, 2))
plt.figure(figsize=(6, 3.4))
plt.semilogx(area[area > 0], scores[area > 0], "o")
plt.xticks([10, 20, 50, 100, 200, 400], ["10", "20", "50", "100", "200", "400"])
plt.minorticks_off()
plt.xlabel("true lesion area in the image (pixels)")
plt.ylabel("lesion Dice")
plt.ylim(-0.03, 1.03)
invented = (prediction[area == 0] == 2).sum(axis=(1, 2))
print(f"{(area == 0).sum()} images without a lesion; pixels called lesion there: {invented.tolist()}")
small, large = (scores[(area > 0) & side].mean() for side in (area <= 60, area > 60))
print(f"mean lesion Dice: up to 60 pixels {small:.2f}, above {large:.2f}")
assert (invented > 0).mean() > 0.5

# %% [markdown]
# What fails here, then:
#
# - vessels, as bright as lesions, are taken for some. The network hardly ever says "none": an image
#   *without* a lesion gets one, and that counts as Dice 0, however small;
# - large lesions with a dark core: whoever looks at brightness sees a thin ring, and to fill it takes a view
#   of the whole;
# - small lesions: a pixel more or less around a dozen pixels is a large part of the Dice. But the picture
#   shows no simple rule "large is easy";
# - and 200 steps are very few. nnU-Net makes 250,000 (lesson 15). Longer training, more widths and stronger
#   augmentation are the next things to try, on the *validation* set.
#
# From now on it is one command: `minidl train` (without a folder: on phantoms) does these steps with a plan,
# checkpoints and a report.
#
# ## Exercises
#
# **1. The mean that leaves out.** Write `lesion_score(predictions, truths)` for boolean masks (n, H, W): the
# mean Dice over the cases; a case where both masks are empty does not count.


# %% tags=["exercise"]
def lesion_score(predictions, truths):
    """Replace the next line."""
    return 0.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# Sums over the last two axes give $|A \cap B|$ and $|A| + |B|$ of each case. Keep the cases whose $|A| +
# |B|$ is positive, then divide, then take the mean.
#
# </details>


# %% tags=["solution"]
def lesion_score(predictions, truths):
    """Mean of 2 |A ∩ B| / (|A| + |B|) over cases where the denominator is not 0."""
    both = (predictions & truths).sum(axis=(1, 2))
    total = predictions.sum(axis=(1, 2)) + truths.sum(axis=(1, 2))
    return (2 * both[total > 0] / total[total > 0]).mean()


# %%
expected_score = lambda a, b: np.nanmean([dice(p, t) for p, t in zip(a, b)])
masks = np.random.default_rng(0).random((2, 4, 5, 6)) < 0.4
masks[:, 1] = False
check.function("lesion_score", lesion_score, expected_score, masks, (prediction == 2, test_y == 2))

# %% [markdown]
# **2. Turn both.** Write `turned(image, label, k)`: image (C, H, W) and label (H, W), both turned by $k$
# quarter turns in the plane.


# %% tags=["exercise"]
def turned(image, label, k):
    """Replace the next line."""
    return np.rot90(image, k), label


# %% [markdown]
# <details><summary>Hint</summary>
#
# `np.rot90` turns the *first two* axes unless told otherwise: those of the image are 1 and 2.
#
# </details>


# %% tags=["solution"]
def turned(image, label, k):
    """A quarter turn, k times, of image and label."""
    return np.rot90(image, k, axes=(1, 2)), np.rot90(label, k)


# %%
expected_turn = lambda x, y, k: tuple(
    np.stack([np.rot90(c, k) for c in a]) if a.ndim == 3 else np.rot90(a, k) for a in (x, y)
)
check.function(
    "turned", turned, expected_turn, (train_x[0], train_y[0], 1), (train_x[1, :, :9], train_y[1, :9], 3)
)

# %% [markdown]
# **3. Find the leak.** Write `leaks(train, test)`: the sorted list of patients that occur in both of two
# lists of file names such as `"p07_slice3"`; the patient is what stands before the `_`.


# %% tags=["exercise"]
def leaks(train, test):
    """Replace the next line."""
    return [""]


# %% [markdown]
# <details><summary>Hint</summary>
#
# `name.split("_")[0]`, two sets, `&`, `sorted`.
#
# </details>


# %% tags=["solution"]
def leaks(train, test):
    """Patients on both sides."""
    left, right = ({name.split("_")[0] for name in names} for names in (train, test))
    return sorted(left & right)


# %%
names = [f"p{p:02}_slice{s}" for p in range(8) for s in range(3)]
sides = [names[i] for i in shuffled[:12]], [names[i] for i in shuffled[12:]]
check.value("leaks", lambda: " ".join(leaks(*sides)), " ".join(f"p{p:02}" for p in sorted(by_slice)))

# %% [markdown]
# ## What you can now explain
#
# - why accuracy hides a rare class, and the Dice per class does not;
# - what a split by patient prevents, and what each of the three sets is for;
# - why baselines come first, and what a difference in pairs adds;
# - which augmentations change the label, and which must not;
# - the generalisation gap, read off two curves, and why the lower training loss can be the worse network;
# - what an interval over cases says, and what it does not say.
#
# **Where this stands.** O. Ronneberger, P. Fischer and T. Brox, *U-Net*, arXiv:1505.04597; F. Isensee et
# al., *nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation*, Nature
# Methods 18 (2021); D. Kingma and J. Ba, *Adam*, arXiv:1412.6980; L. Maier-Hein et al., *Metrics reloaded*,
# Nature Methods 21 (2024), on which number to report for which task; B. Efron, *Bootstrap methods: another
# look at the jackknife*, Annals of Statistics 7 (1979).
