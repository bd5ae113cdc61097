# %% [markdown]
# # 14 · Three dimensions: where memory goes
#
# **At the end you own this sentence:** in 3-D the weights weigh nothing; what fills the memory are the feature maps that
# backward waits for, most of them at the finest resolution, so that is where one saves.
#
# *Needs:* lesson 13 (a 2-D U-Net from start to finish). *Takes:* 40 minutes. *New:* the memory of a training step, gradient
# accumulation, recomputation (checkpointing), patches and what they cost.

# %%
import math
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, models, nn, notebook, optim, plot
from minidl.data import PhantomDataset
from minidl.data.augment import AUGMENTATIONS
from minidl.models.blocks import ConvNormAct
from minidl.receptive_field import analyze
from minidl.segment.inference import sliding_window
from minidl.segment.metrics import dice
from minidl.segment.plan.topology import nnunet_topology
from minidl.segment.sampling import Sampler
from minidl.summary import summary
from minidl.utils.checkpoint import checkpoint_sequential

notebook.style()
MiB, GiB = 2**20, 2**30
EDGE = 32 if notebook.FAST else 64


def measure(dims: int = 3, edge: int = EDGE, features=(8, 16, 32, 64), batch: int = 1, **options):
    """What a U-Net keeps and costs in a training step (minidl.summary)."""
    net = models.UNet(1, 3, features=features, dims=dims, **options)
    return summary(net, (batch, 1) + (edge,) * dims)


deep = measure()
layers = [layer for layer in deep.layers if layer.kept]
colours = {"encoder": "#0072B2", "decoder": "#E69F00", "upsamplers": "#E69F00"}
plt.figure(figsize=(10, 3.4))
plt.bar(range(len(layers)), [layer.kept / MiB for layer in layers],
        color=[colours.get(layer.name.split(".")[0], "#999999") for layer in layers])  # fmt: skip
plt.bar(len(layers) + 1, deep.weights / MiB, color="#009E73")
for name, colour in {
    "encoder": "#0072B2",
    "decoder": "#E69F00",
    "head and loss": "#999999",
    "all weights": "#009E73",
}.items():
    plt.bar(0, 0, color=colour, label=name)
plt.legend(ncols=2)
plt.xticks([])
plt.xlabel("operations, from first to last")
plt.ylabel("kept for backward (MiB)")
plt.title(f"a small U-Net on one volume of {EDGE} x {EDGE} x {EDGE}")
plt.show()

# %% [markdown]
# Every bar is an operation that keeps an array, because its gradient will need it. The tall ones stand at both ends of the
# network, where the resolution is full. All weights together are the small green bar at the right.
#
# ## 1. By hand
#
# A feature map with 8 channels of $64 \times 64$ numbers, 4 bytes each, takes $8 \cdot 64^2 \cdot 4$ bytes = 128 KiB. **Predict:** and the
# same with $64 \times 64 \times 64$?

# %%
flat, solid = 8 * 64**2 * 4, 8 * 64**3 * 4
print(f"2-D: {flat / 1024:.0f} KiB, 3-D: {solid / MiB:.0f} MiB, which is {solid // flat} times as much")
assert flat == 128 * 1024 and solid == 8 * MiB and solid // flat == 64

# %% [markdown]
# 64 times, the edge. And whoever doubles the edge pays 4 times in 2-D, 8 times in 3-D.
#
# Why are maps kept at all? A convolution's gradient towards its weights needs its **input** (lesson 04). A norm needs its input to
# know mean and deviation. So every map of the forward pass waits until backward comes by. `minidl.summary` weighs it: it
# runs the network once and watches what each operation keeps. **Predict:** one convolution (8 → 8 channels), a norm with its leaky ReLU,
# and one more convolution, on $16^3$. Two maps of 8 channels are kept beside the input; whose?

# %%
tiny = nn.Sequential(ConvNormAct(8, 8, dims=3), nn.Conv3d(8, 8, 3, padding=1))
found = summary(tiny, (1, 8, 16, 16, 16), loss=lambda y: y.sum())
one_map = 8 * 16**3 * 4
for layer in found.layers:
    print(f"{layer.kind:15} keeps {layer.kept / one_map:.1f} maps, {layer.parameters:5} weights")
assert 2 * one_map <= found.kept < 2.1 * one_map

# %% [markdown]
# The norm keeps what the first convolution made, the second convolution keeps what the norm made. The first one's input is the
# image, which is there anyway. Rule of thumb: **two maps per block**.
#
# ## 2. How much, and at which resolution
#
# Each halving has $2^d$ times fewer voxels and twice as many channels. **Predict:** by which factor does a map shrink from stage to
# stage in 2-D, and in 3-D? What share of all maps lies in the finest stage?

# %%
for dims in (2, 3):
    maps = np.array([2**k / 2 ** (dims * k) for k in range(4)])
    print(f"{dims}-D: maps {maps} -> the finest holds {maps[0] / maps.sum():.0%}")
    assert (maps[1:] == 2 ** (1 - dims) * maps[:-1]).all()
assert np.isclose(maps[0] / maps.sum(), 0.75, atol=0.01)

# %% [markdown]
# Half, and then a quarter. In 3-D three quarters of the memory are in the finest stage, by this count. And measured?


# %%
def by_stage(s, of) -> np.ndarray:
    """The sum of a quantity over the layers of each stage of a four-stage U-Net; head and loss are the finest."""
    total = np.zeros(4)
    for layer in s.layers:
        kind, *number = layer.name.split(".")
        level = int(number[0]) if kind == "encoder" else 2 - int(number[0]) if number else 0
        total[level] += of(layer)
    return total / total.sum()


kept, weights = by_stage(deep, lambda layer: layer.kept), by_stage(deep, lambda layer: layer.parameters)
figure, axis = plt.subplots(figsize=(7, 3))
axis.bar(np.arange(4) - 0.2, 100 * kept, 0.4, label="kept for backward")
axis.bar(np.arange(4) + 0.2, 100 * weights, 0.4, label="weights")
axis.set(xlabel="stage (0 = full resolution)", ylabel="share (%)", xticks=range(4))
axis.legend()
print("memory", kept.round(2), " weights", weights.round(2))
assert 0.7 < kept[0] < 0.73 and weights[3] + weights[2] > 0.85 and weights[0] < 0.05

# %% [markdown]
# Seven tenths: the count was about right. Memory lives at the top, weights at the bottom.
#
# Now the table for a real size. nnU-Net begins with 32 channels. What is kept grows with the number of voxels alone, so we measure a
# small cube and multiply (the assert checks that this is allowed). Move the slider.

# %%
assert np.isclose(measure(edge=32).kept / measure(edge=16).kept, 8, rtol=0.02)


def draw_memory(width: int) -> None:
    """GiB kept for backward against the edge of the patch."""
    edges = np.array([32, 48, 64, 96, 128, 160, 192, 256])
    features = [width * 2**k for k in range(3)]
    plt.figure(figsize=(7, 3.6))
    for batch, again, mark in ((2, False, "o-"), (1, False, "s-"), (1, True, "^--")):
        once = measure(edge=16, features=features, checkpoint=again).kept
        name = f"batch {batch}{', recomputed' if again else ''}"
        plt.plot(edges, batch * once * (edges / 16) ** 3 / GiB, mark, label=name)
    plt.axhline(8, color="#999999", linewidth=1)
    plt.text(34, 9, "a card of 8 GiB", color="#767676")
    plt.xscale("log", base=2)
    plt.yscale("log")
    plt.xticks([32, 64, 128, 256], ["32³", "64³", "128³", "256³"])
    plt.gca().set(
        xlabel="patch (voxels)", ylabel="kept for backward (GiB)", title=f"first stage: {width} channels"
    )
    plt.legend()
    plt.show()


notebook.explore(draw_memory, width=(32, [8, 16, 32, 64]))
cube = 512 * measure(edge=16, features=(32, 64, 128)).kept / GiB  # of 128³
assert 6 < 2 * cube < 8 and 3 * 8 < 8 * cube < 3.5 * 8
growth = lambda: measure(edge=32, features=(32, 64, 128)).kept - measure(edge=16, features=(32, 64, 128)).kept
with minidl.autocast("cpu"):
    in_half = growth()
assert 0.5 < in_half / growth() < 0.53

# %% [markdown]
# With 32 channels two patches of 128³ just about fill 8 GiB in float32, and one volume of 256³ would fill three such cards. (The
# dashed line is section 6; it says what waits, not the peak. With half
# precision, lesson 18, it would be about half of that.)
#
# The lecture names the ways out: *a shallower network, strided convolutions instead of max-pooling, fewer images per batch*. Let us
# measure each.
#
# ## 3. Shallower?
#
# **Predict:** the U-Net has four stages, 8 to 64 channels. How much memory is saved by the last one's removal? (Look at the last figure
# but one.) How many weights?

# %%
stages = {n: measure(features=(8, 16, 32, 64, 128)[:n]) for n in (2, 3, 4, 5)}
for n, s in stages.items():
    print(f"{n} stages: {s.kept / MiB:6.1f} MiB kept, {s.parameters:9,} weights ({s.weights / MiB:.1f} MiB)")
assert nnunet_topology((1, 1, 1), (128,) * 3).pools == (5, 5, 5)
assert nnunet_topology((1, 1), (512, 512)).pools == (7, 7)
assert stages[3].kept > 0.95 * stages[4].kept and 0.2 < stages[3].parameters / stages[4].parameters < 0.27

# %% [markdown]
# Hardly any memory, three quarters of the weights. Depth is cheap in 3-D, and the receptive field needs it. So what does the
# lecture's advice mean? In 3-D nets *are* shallower, for a patch of 128³ is halved five times only, one of 512² seven times (lesson 15). What saves memory is
# **fewer channels at the finest stage** and **smaller patches**.
#
# ## 4. Strided instead of pooling?
#
# Two ways to halve. *Pooling:* a convolution at full resolution, then keep the largest of 8. *Strided:* the convolution computes only
# every eighth value at once. **Predict:** how many times fewer multiply-adds for the strided one?

# %%
block = lambda i, o, stride=1: ConvNormAct(i, o, dims=3, stride=stride)
pooled = summary(nn.Sequential(block(8, 8), nn.MaxPool3d(2)), (1, 8, 32, 32, 32), loss=lambda y: y.sum())
strided = summary(nn.Sequential(block(8, 8, 2)), (1, 8, 32, 32, 32), loss=lambda y: y.sum())
for name, s in {"convolution, pooling": pooled, "strided convolution": strided}.items():
    print(f"{name:21} {s.kept / 1024:6.0f} KiB kept, {s.multiply_adds / 1e6:5.1f} million multiply-adds")
assert pooled.multiply_adds == 8 * strided.multiply_adds and pooled.kept > 8 * strided.kept

# %% [markdown]
# Eight times less work and less than an eighth of the memory. That is the lecture's point, and it holds *where the strided
# convolution takes the place of one at full resolution*.
#
# In a U-Net it does not. The skip connection needs the fine map in any case, and both networks have two convolutions per stage. **Predict:** the
# whole U-Net with either?

# %%
both = {down: measure(down=down) for down in ("max", "conv")}
for down, s in both.items():
    print(f"down={down!r:6} {s.kept / MiB:6.1f} MiB kept, {s.multiply_adds / 1e9:.2f} billion multiply-adds")
assert both["max"].multiply_adds == both["conv"].multiply_adds
assert 0.9 < both["max"].kept / both["conv"].kept < 1

# %% [markdown]
# Nothing is gained; in minidl pooling even keeps a little *less*. It remembers a place per window, while the strided convolution keeps
# its input. In PyTorch it is the other way round: there pooling keeps its input as well, and 8 bytes for each place. So it
# depends on the program. What the strided convolution does offer: it learns what to keep (lesson 06).
#
# ## 5. Fewer images per batch
#
# Memory is in proportion to the batch, so 3-D trains with 2 images or 1. That harms what looks across the batch: batch norm's mean and
# deviation come from so few images (lesson 12). nnU-Net takes **instance norm**, which looks at one image only.
#
# Must the gradient be noisier, too? No: add the gradients of several small batches, then make one step. **Predict:** is the sum of two half-batch
# gradients *exactly* the whole batch's, with instance norm? With batch norm?


# %%
def gradient(net, x, y, parts: int) -> np.ndarray:
    """The gradient of the mean cross-entropy, from so many parts of the batch, one after the other."""
    net.zero_grad()
    n = len(x) // parts
    for k in range(parts):
        part = slice(k * n, (k + 1) * n)
        loss = F.cross_entropy(net(minidl.tensor(x[part])), minidl.tensor(y[part])) / parts
        loss.backward()  # adds to what is there
    return np.concatenate([p.grad.numpy().ravel() for p in net.parameters()])


rng = np.random.default_rng(0)
x = rng.normal(size=(4, 1, 8, 8, 8)).astype(np.float32) * np.array([1, 2, 3, 4], np.float32).reshape(
    4, 1, 1, 1, 1
)
y = rng.integers(0, 2, (4, 8, 8, 8))
difference = {}
for norm in ("instance", "batch"):
    minidl.manual_seed(0)
    net = models.UNet(1, 2, features=(4, 8), dims=3, norm=norm)
    whole, halves = gradient(net, x, y, 1), gradient(net, x, y, 2)
    difference[norm] = abs(whole - halves).max() / abs(whole).max()
    print(f"{norm:8} norm: largest difference {difference[norm]:.0e} of the largest gradient")
assert difference["instance"] < 1e-4 < 1e-2 < difference["batch"]

# %% [markdown]
# With instance norm accumulation is the same but for rounding, with batch norm it is another training. (A Dice that sums over the batch
# before it divides does not split up either.)
#
# ## 6. Compute twice instead of keeping
#
# Keep a map only now and then; when backward needs those in between, compute them **again** from the last one kept. Take 16 layers in
# 4 segments: keep 4 segment inputs, and, while backward works on one segment, its 4 maps. 8 instead of 16. **Predict:** which number of segments
# is best for 16 layers, and what is paid?

# %%
counts = np.arange(1, 17)
need = [s + math.ceil(16 / s) for s in counts]
plt.figure(figsize=(6, 2.8))
plt.plot(counts, need, "o-")
plt.axhline(16, color="#999999", linewidth=1)
plt.text(4, 16.5, "keep everything: 16", color="#767676")
plt.xlabel("segments")
plt.ylabel("maps in memory")
plt.ylim(0, 19)
print(f"best: {counts[np.argmin(need)]} segments, {min(need)} maps")
assert counts[np.argmin(need)] == 4 and min(need) == 8

# %% [markdown]
# $\sqrt n$ segments, about $2 \sqrt n$ maps; the price is one more forward pass. (The last segment need not be recomputed, so in truth
# it is a little cheaper.) With minidl's own function, on 16 equal layers:

# %%
minidl.manual_seed(0)
chain = nn.Sequential(*(nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.LeakyReLU(0.01)) for _ in range(16)))
start = minidl.randn(1, 4, 12, 12, 12)
gradients = {}
for segments in (1, 4):
    chain.zero_grad()
    loss = (checkpoint_sequential(chain, segments, start) ** 2).mean()
    loss.backward()
    gradients[segments] = np.concatenate([p.grad.numpy().ravel() for p in chain.parameters()])
print("largest difference of the gradients:", abs(gradients[1] - gradients[4]).max())
assert np.array_equal(gradients[1], gradients[4])

# %% [markdown]
# Equal to the last bit: the same numbers are computed, only later. `models.UNet(..., checkpoint=True)` does that with each stage. First
# what `summary` predicts, then what Python's own book-keeping of memory says, and the time. **Predict:** kept before backward: less by half, by
# three quarters?

# %%
edge = 24 if notebook.FAST else 48
volume, target = minidl.randn(1, 1, edge, edge, edge), minidl.zeros(1, edge, edge, edge, dtype="int64")
measured = {}
for again in (False, True):
    net = models.UNet(1, 3, features=(8, 16, 32, 64), dims=3, checkpoint=again)
    F.dice_ce_loss(net(volume), target, batch=True).backward()  # warm up
    net.zero_grad()
    tracemalloc.start()
    loss = F.dice_ce_loss(net(volume), target, batch=True)
    held = tracemalloc.get_traced_memory()[0]
    loss.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        F.dice_ce_loss(net(volume), target, batch=True).backward()
        seconds.append(time.perf_counter() - begun)
    predicted = measure(edge=edge, checkpoint=again)
    measured[again] = held, peak
    print(f"checkpoint={again!s:5} kept {held / MiB:5.1f} MiB (predicted {predicted.kept / MiB:5.1f}), "
          f"peak {peak / MiB:5.1f} MiB, {min(seconds):.2f} s")  # fmt: skip
assert measured[True][0] < 0.25 * measured[False][0] and measured[True][1] < 0.85 * measured[False][1]

# %% [markdown]
# What waits is a quarter or less. The *peak* falls less: when backward recomputes the finest stage of the decoder, all of its maps are
# there at once, and that stage is most of the network. Where one stage dominates, segments cannot be equal.
#
# ## 7. Patches
#
# The last lever is the largest: do not look at the whole volume. Train on **patches**, and predict in windows. The price is the border of
# a patch: what lies beyond it is replaced by zeros. How far in does that reach? By the receptive field (lesson 05), half of it.
#
# **Predict:** a U-Net of two stages with random weights. We give it a whole volume, and a patch cut from its middle. Where do the answers
# differ, with no norm? With instance norm?

# %%
size, cut = (40, 28) if notebook.FAST else (56, 40)
whole_volume = np.random.default_rng(1).normal(size=(1, 1, size, size, size)).astype(np.float32)
a = (size - cut) // 2
a -= a % 2  # on the grid of the coarse stage
inside = (slice(None), slice(None)) + (slice(a, a + cut),) * 3
grid = np.indices((cut,) * 3)
depth = np.minimum(grid, cut - 1 - grid).min(0)  # voxels to the nearest border
errors = {}
for norm in (None, "instance"):
    minidl.manual_seed(0)
    net = models.UNet(1, 2, features=(4, 8), dims=3, norm=norm)
    with minidl.no_grad():
        all_of_it = net(minidl.tensor(whole_volume)).numpy()[inside]
        patch = net(minidl.tensor(whole_volume[inside])).numpy()
    error = abs(all_of_it - patch).max((0, 1)) / abs(all_of_it).max()
    errors[norm] = np.array([error[depth == d].max() for d in range(cut // 2)])
field = analyze(models.UNet(1, 2, features=(4, 8), norm=None), (1, 1, 64, 64)).size[0]  # per axis, as in 3-D
print(f"receptive field {field}: the border reaches at most {field // 2 + 1} voxels in")

# %%
plt.figure(figsize=(7, 3.2))
for (norm, error), mark in zip(errors.items(), ("o-", "s--")):
    plt.semilogy(error + 1e-8, mark, label=f"{norm} norm" if norm else "no norm")
plt.axvline(field // 2 + 1, color="#999999", linewidth=1)
plt.text(field // 2 + 1.2, 0.3, "half the receptive field", color="#767676")
plt.xticks(range(0, cut // 2, 2))
plt.xlabel("distance to the border of the patch (voxels)")
plt.ylabel("largest difference (share)")
plt.legend(loc="center right")
assert errors[None][field // 2 + 1 :].max() < 1e-6 < 1e-3 < errors["instance"][-1]

# %% [markdown]
# Without a norm a patch is exact from half a receptive field inwards; below about $10^{-6}$ is rounding. With instance norm it is **nowhere exact**: mean and
# deviation are those of the patch, not of the volume. Windows that overlap, and count their middle more, soften it (lesson 15);
# it does not vanish.
#
# So the patch should be as large as memory allows, and larger than the receptive field: that is why memory is worth so much here.
#
# ## 8. All of it
#
# A 3-D U-Net, batch 2, patches of $32^3$ from volumes of $48^3$, recomputed, strided, instance norm. (About a quarter of a minute.)


# %%
def volumes(split: str, n: int):
    """Generated cases, each with mean 0 and standard deviation 1."""
    dataset = PhantomDataset(split, n, dims=3, shape=(48, 48, 48))
    cases = [dataset.load(i) for i in range(n)]
    for case in cases:
        array = case.image.array
        array[...] = (array - array.mean()) / array.std()
    return cases


minidl.manual_seed(0)
steps = 20 if notebook.FAST else 80
sampler = Sampler(
    volumes("train", 4 if notebook.FAST else 12), (32, 32, 32), 2, AUGMENTATIONS["mirror"], seed=0
)
net = models.UNet(1, 3, features=(8, 16, 32), dims=3, checkpoint=True)
optimizer, losses = optim.Adam(net.parameters(), lr=1e-2), []
schedule = optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
for step in range(1, steps + 1):
    images, labels = map(minidl.tensor, sampler.batch(step))
    loss = F.dice_ce_loss(net(images), labels, batch=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
print(f"loss {np.mean(losses[:5]):.2f} -> {np.mean(losses[-5:]):.2f}")
assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1

# %%
net.eval()


def network(batch: np.ndarray) -> np.ndarray:
    """Logits of windows (N, 1, d, h, w)."""
    with minidl.no_grad():
        return net(minidl.tensor(batch)).numpy()


case = volumes("test", 1)[0]
image, truth = case.image.array, case.label.array
answer = sliding_window(network, image, (32, 32, 32)).argmax(0)
figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
for axis, z in zip(axes, (12, 20, 28, 36)):
    axis.imshow(plot.error_overlay(image[0, z], answer[z], truth[z]))
    axis.set(title=f"slice {z}", xticks=[], yticks=[])
organ, lesion = (dice(answer == c, truth == c) for c in (1, 2))
print(f"in this run, on one volume: Dice of organ {organ:.2f}, of lesions {lesion:.2f}")
assert organ > 0.7 and lesion < 0.1 and 332 < math.sqrt(48**3) < 333

# %% [markdown]
# Green is right, orange-red too much, yellow missed, pink the wrong class. In this run the organ is
# found and the lesions are not, yet. A volume of $48^3$ has as many voxels as a picture of 333 x
# 333: this is the smallest 3-D there is.
#
# ## Exercises
#
# **1. The share of the finest stage.** Write `finest(dims, stages)`: the share of all maps that lies in stage 0, if each stage has one map, twice the channels
# and $2^d$ times fewer voxels than the stage above.


# %% tags=["exercise"]
def finest(dims, stages):
    """Replace the next line."""
    return 1 / stages


# %% [markdown]
# <details><summary>Hint</summary>
#
# Stage $k$ has $2^k / 2^{dk}$ of what stage 0 has. Divide 1 by the sum.
#
# </details>


# %% tags=["solution"]
def finest(dims, stages):
    """1 / Σ_k 2^((1 - d) k)."""
    return 1 / sum(2 ** ((1 - dims) * k) for k in range(stages))


# %%
series = lambda dims, stages: (1 - 2.0 ** (1 - dims)) / (1 - 2.0 ** ((1 - dims) * stages))
check.function("finest", finest, series, (2, 4), (3, 4), (3, 6))

# %% [markdown]
# **2. Accumulate.** Write `accumulated(w, x, y, parts)`: the gradient of the *mean* of $(x w - y)^2$ towards $w$, with only one of `parts` equal parts
# of x and y in memory at a time. (Plain numbers: the gradient of one sample is $2 x (x w - y)$.)


# %% tags=["exercise"]
def accumulated(w, x, y, parts):
    """Replace this: it looks at the first part only."""
    n = len(x) // parts
    return (2 * x[:n] * (x[:n] * w - y[:n])).mean()


# %% [markdown]
# <details><summary>Hint</summary>
#
# Add up the means of the parts and divide each by the number of parts: `loss / parts`, as in section 5.
#
# </details>


# %% tags=["solution"]
def accumulated(w, x, y, parts):
    """Σ over parts of (mean of the part) / parts."""
    total, n = 0.0, len(x) // parts
    for k in range(parts):
        a, b = x[k * n : (k + 1) * n], y[k * n : (k + 1) * n]
        total += (2 * a * (a * w - b)).mean() / parts
    return total


# %%
at_once = lambda w, x, y, parts: (2 * x * (x * w - y)).mean()
rng = np.random.default_rng(2)
cases = [(0.5, rng.normal(size=12), rng.normal(size=12), parts) for parts in (2, 3, 6)]
check.function("accumulated", accumulated, at_once, *cases)

# %% [markdown]
# **3. How many segments?** Write `segments(n)`: the number of segments for n equal layers for which fewest maps are in memory, segment inputs plus the maps of the longest
# segment; the smallest such number.


# %% tags=["exercise"]
def segments(n):
    """Replace the next line."""
    return n


# %% [markdown]
# <details><summary>Hint</summary>
#
# Try all: $s + \lceil n / s \rceil$ for s from 1 to n. `min(range(...), key=...)` gives the first of the best.
#
# </details>


# %% tags=["solution"]
def segments(n):
    """The first s with the least s + ceil(n / s)."""
    return min(range(1, n + 1), key=lambda s: s + math.ceil(n / s))


# %%
best = lambda n: int(np.argmin([s + -(-n // s) for s in range(1, n + 1)])) + 1
check.function("segments", segments, best, (16,), (10,), (64,), (50,))

# %% [markdown]
# ## What you can now explain
#
# - why 3-D fills memory: maps, not weights, and about three quarters of them at full resolution;
# - what each way out saves, measured: channels and patches much, the batch in proportion, recomputing most of what waits, depth next
#   to nothing, strides instead of pooling in a U-Net nothing;
# - that accumulating gradients is the same as a larger batch, if nothing looks across the batch;
# - what a patch costs at its border, and why instance norm makes every window a little different.
#
# **Where this stands.** Ö. Çiçek et al., *3D U-Net*, arXiv:1606.06650 (2016), takes the U-Net to volumes; F. Milletari et al., *V-Net*,
# arXiv:1606.04797 (2016), replaces pooling by strided convolutions; T. Chen et al., *Training deep nets with sublinear memory
# cost*, arXiv:1604.06174 (2016), recomputes; F. Isensee et al., Nature Methods 18 (2021), plans patches and batches by memory (lesson 15).
