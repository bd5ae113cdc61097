# %% [markdown]
# # 17 · CRFs: the last polish, when it helps and when it does not
#
# **At the end you own this sentence:** a CRF asks every voxel to agree with those that are near and look alike, and that
# helps only where the network was unsure and the image knows better.
#
# *Needs:* lesson 13 (softmax, Dice), the Gaussian. *Takes:* 35 minutes. *New:* conditional random field, energy, mean
# field, bilateral filter.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import check, notebook
from minidl.crf import DenseCRF

notebook.style()


def toy(seed: int, noise: float, contrast: float, size: int = 24):
    """Three classes, an image that shows them with some contrast, and what a noisy network says: (y, image, p)."""
    rng = np.random.default_rng(seed)
    y = np.zeros((size, size), int)
    y[6:18, 6:18], y[10:14, 10:22] = 1, 2
    colours = 100 + contrast * np.array([[-1, -1, -1], [1, -1, -1], [-1, 1, -1]])
    image = colours[y] + rng.normal(0, 8, (size, size, 3))
    z = 2 * np.eye(3)[y] + rng.normal(0, noise, (size, size, 3))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    return y, image.transpose(2, 0, 1), p.transpose(2, 0, 1)


def show(pictures, titles) -> None:
    """Images and label maps side by side."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(2.7 * len(pictures), 2.9))
    for axis, picture, title in zip(axes, pictures, titles):
        grey = picture.ndim == 3
        axis.imshow(
            picture.transpose(1, 2, 0).clip(0, 255) / 255 if grey else picture, cmap="cividis", vmin=0, vmax=2
        )
        axis.set(title=title, xticks=[], yticks=[])


y, image, p = toy(0, noise=1.5, contrast=70)
accuracy = lambda q, y: float((q.argmax(0) == y).mean())
show([image, y, p.argmax(0)], ["image", "truth", f"network: {accuracy(p, y):.0%} right"])

# %% [markdown]
# The network gets each pixel right more often than not, but it decides every pixel by itself. We know more: neighbours tend to
# have the same label, above all neighbours of the same colour. The lecture ends with that thought: use nothing
# fancier than a U-Net, *except possibly CRFs as a post-processing step*.
#
# ## An energy
#
# A **conditional random field** gives each labelling $x$ a cost,
#
# $$E(x) = \sum_i U_i(x_i) + \sum_{i<j} \mu(x_i, x_j) \sum_m w_m\, k_m(f_i, f_j),$$
#
# with $U_i = -\log p_i$ from the network, a cost $\mu$ for labels that differ, and Gaussians $k_m$ that say how much two pixels
# have to do with each other: one of their distance (*smoothness*), one of distance and colour (*appearance*).
#
# **Predict:** two pixels, 3 apart, of colours that differ by 26. With $\theta_\alpha = 3$ and $\theta_\beta = 13$, what is
# $k = e^{-|\Delta p|^2 / 2\theta_\alpha^2 \; - \; |\Delta I|^2 / 2\theta_\beta^2}$?

# %%
k = np.exp(-(3**2) / (2 * 3**2) - 26**2 / (2 * 13**2))
print(f"k = e^-2.5 = {k:.3f}")
assert np.isclose(k, np.exp(-2.5)) and round(k, 3) == 0.082

# %% [markdown]
# ## Mean field in twenty lines
#
# To find the best of $3^{576}$ labellings is hopeless. *Mean field* looks for the best independent guess $Q_i$ instead: each pixel
# asks all others what they believe, weighted by $k$, and updates itself; all at once, a few times.
#
# $$Q \leftarrow \mathrm{softmax}\Big(-U - \sum_m w_m\, \mu K_m Q\Big)$$
#
# With Potts costs ($\mu = -1$ for equal labels) that means: add to each label's score what the neighbours believe of it.


# %%
def gaussian_matrix(features: np.ndarray) -> np.ndarray:
    """k(f_i, f_j) for all pairs of columns of (D, P), each row and column scaled by the root of its sum."""
    squares = (features**2).sum(0)
    K = np.exp(-0.5 * (squares[:, None] + squares[None] - 2 * features.T @ features))
    scale = 1 / np.sqrt(K.sum(1))
    return scale[:, None] * K * scale


def mean_field(p, image, smoothness=(3, 3), appearance=(20, 13, 10), iterations=5):
    """p (L, H, W) -> Q of the same shape: the fully connected CRF, over all pairs of pixels."""
    labels, height, width = p.shape
    where = np.mgrid[:height, :width].reshape(2, -1)
    near = gaussian_matrix(where / smoothness[0])
    alike = gaussian_matrix(
        np.concatenate([where / appearance[0], image.reshape(len(image), -1) / appearance[1]])
    )
    minus_u = np.log(p.reshape(labels, -1))
    q = np.exp(minus_u)
    for _ in range(iterations):
        z = minus_u + smoothness[1] * q @ near + appearance[2] * q @ alike
        q = np.exp(z - z.max(0))
        q = q / q.sum(0)
    return q.reshape(p.shape)


q = mean_field(p, image)
show([p.argmax(0), mean_field(p, image, iterations=1).argmax(0), q.argmax(0)],
     [f"network: {accuracy(p, y):.1%}", "one update", f"five updates: {accuracy(q, y):.1%}"])  # fmt: skip
assert accuracy(p, y) < 0.8 < 0.99 < accuracy(q, y) and y.size == 576

# %% [markdown]
# minidl has the same, as a layer: logits and image in, logits out. `method="exact"` sums over all pairs, as above.

# %%
as_batch = lambda a: minidl.tensor(a[None])
with minidl.no_grad():
    exact = minidl.softmax(
        DenseCRF("exact", appearance=(20, 13, 10))(as_batch(np.log(p)), as_batch(image)), 1
    )
assert np.allclose(exact.numpy()[0], q, atol=1e-6)
print("largest difference to the twenty lines:", f"{abs(exact.numpy()[0] - q).max():.0e}")

# %% [markdown]
# ## A flattering toy
#
# Beware. The colours of the toy are three constants: whoever groups pixels by colour needs no network. **Predict:** what
# happens when the image tells less, so that the classes' colours lie closer together?

# %%
contrasts = [70, 40, 20, 10, 5]
gains = np.array([
    [accuracy(mean_field(p, image), y) - accuracy(p, y) for y, image, p in (toy(s, 1.5, c) for s in range(5))]
    for c in contrasts
])  # fmt: skip
plt.figure(figsize=(6, 3.2))
plt.errorbar(contrasts, 100 * gains.mean(1), 100 * gains.std(1), fmt="o-", capsize=4)
plt.axhline(0, color="#999999", linewidth=1)
plt.xlabel("contrast between classes (the noise is 8)")
plt.ylabel("gain (% of pixels):\nmean, deviation of 5 seeds")
assert gains[:3].mean() > 0.2 and (gains[3:].mean(1) < 0.02).all()

# %% [markdown]
# And when the network is already good, or is wrong *with confidence* about a whole region? A CRF cannot tell a confident mistake
# from knowledge. Here the network has missed most of class 2, and is sure of it:

# %%
y, image, p = toy(3, noise=0.3, contrast=20)
wrong = p.copy()
wrong[:, 10:14, 14:22] = np.array([0.96, 0.02, 0.02])[:, None, None]
wrong[:, 10:14, 14:18] = np.array([0.02, 0.96, 0.02])[:, None, None]
after = mean_field(wrong, image)
show([image, y, wrong.argmax(0), after.argmax(0)],
     ["image", "truth", f"network: {accuracy(wrong, y):.1%}", f"CRF: {accuracy(after, y):.1%}"])  # fmt: skip
assert (wrong.argmax(0) != y)[y == 2].mean() > 0.6 and accuracy(after, y) < accuracy(wrong, y)

# %% [markdown]
# ## Fast enough for images
#
# All pairs of a 512 x 512 image are 69 billion. Two ways out, both in minidl: look only at a *window* around each pixel
# (the convolutional CRF: exact inside, and differentiable), or sum approximately on the *permutohedral lattice*.

# %%
size = 64 if notebook.FAST else 192
rng = np.random.default_rng(0)
logits, large = rng.normal(size=(1, 3, size, size)), rng.uniform(0, 255, (1, 3, size, size))
assert round(512**4 / 1e9) == 69
logits, large = minidl.tensor(logits.astype(np.float32)), minidl.tensor(large.astype(np.float32))
for method in ("window", "lattice"):
    with minidl.no_grad():
        begun = time.perf_counter()
        DenseCRF(method)(logits, large)
    print(
        f"{size} x {size}, {method}: {time.perf_counter() - begun:.2f} s; all pairs: {size**4 / 1e9:.2f} billion"
    )

# %% [markdown]
# ## Learning its parameters
#
# Which bandwidths, which weights? With the window every step is differentiable, so gradient descent finds them, behind a
# network and together with it if you like (CRF-as-RNN). **Predict:** the image's contrast is 40, the network's noise is
# larger than before. Will training raise or lower the weight of appearance?

# %%
y, image, p = toy(5, noise=2.0, contrast=40)
crf = DenseCRF("window", window=7, smoothness=(1.0, 0.5), appearance=(5.0, 13.0, 0.5), iterations=3)
optimizer = minidl.optim.Adam(crf.parameters(), lr=0.1)
inputs = as_batch(np.log(p).astype(np.float32)), as_batch(image.astype(np.float32))
target, losses = as_batch(y), []
for _ in range(15 if notebook.FAST else 40):
    optimizer.zero_grad()
    loss = F.cross_entropy(crf(*inputs), target)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
before, learned = np.array([5.0, 13.0, 0.5]), np.exp(crf.log_appearance.detach().numpy())
print("θ_α, θ_β, w:", before, "->", learned.round(2), f"; loss {losses[0]:.3f} -> {losses[-1]:.3f}")
assert learned[2] > 2 * before[2] and losses[-1] < losses[0]

# %% [markdown]
# It trusts the image more. That was one image, and its own truth: on real data the parameters are chosen on the validation set,
# and the gain is measured on the test set. Reports are sober: one or two percent at best on medical volumes, or nothing
# (github.com/sadeepj/crfasrnn_keras, issue 34); no significant difference in 3-D (Monteiro et al. 2018, arXiv 1807.07464). A
# U-Net with a large receptive field has seen the neighbours already.
#
# ## Exercises
#
# **1. Without itself.** In the paper a pixel is not its own neighbour, in the authors' program it is. Write
# `without_self(K)`: the matrix before scaling, without its diagonal, then scaled as `gaussian_matrix` does.


# %% tags=["exercise"]
def without_self(K):
    """Replace the next line."""
    return K


# %% [markdown]
# <details><summary>Hint</summary>
#
# `K - np.diag(np.diag(K))`, and then the sums of the rows are smaller than before.
#
# </details>


# %% tags=["solution"]
def without_self(K):
    """Zero on the diagonal, D^-½ K D^-½."""
    K = K - np.diag(np.diag(K))
    scale = 1 / np.sqrt(K.sum(1))
    return scale[:, None] * K * scale


# %%
points = np.random.default_rng(1).normal(size=(6, 2))
raw = np.exp(-0.5 * ((points[:, None] - points[None]) ** 2).sum(-1))
off = raw * (1 - np.eye(6))
expected = off / np.sqrt(np.outer(off.sum(1), off.sum(1)))
check.function("without_self", without_self, lambda K: expected, (raw,))

# %% [markdown]
# **2. The energy of two pixels.** Potts costs, $p = (0.6, 0.4)$ for the first pixel and $(0.3, 0.7)$ for the second, one kernel with
# $w k = 0.5$, and a cost of 1 for different labels. Fill in the energies of the four labellings, as a 2 x 2 array: row is the first
# pixel's label, column the second's. Which labelling wins, and does it without the kernel?

# %% tags=["exercise"]
energies = np.zeros((2, 2))

# %% [markdown]
# <details><summary>Hint</summary>
#
# $-\log 0.6 - \log 0.3$ in the corner $(0, 0)$; where the labels differ, 0.5 comes on top.
#
# </details>

# %% tags=["solution"]
energies = -np.log([[0.6], [0.4]]) - np.log([[0.3, 0.7]]) + 0.5 * (1 - np.eye(2))

# %%
right = np.array([[0.6 * 0.3, 0.6 * 0.7 * np.exp(-0.5)], [0.4 * 0.3 * np.exp(-0.5), 0.4 * 0.7]])
check.value("the four energies", energies, -np.log(right))
assert np.argmin(-np.log(right)) == 3 and np.argmax(np.outer([0.6, 0.4], [0.3, 0.7])) == 1

# %% [markdown]
# With the kernel both pixels take label 1; without it the first would have kept label 0.
#
# ## What you can now explain
#
# - what a CRF adds to a network: a cost for neighbours that disagree, above all if they look alike;
# - mean field as an update of all pixels at once, and why it is a Gaussian filter of the beliefs;
# - why windows and lattices, and what each gives up;
# - that it repairs noise where the image is clear, and neither confident mistakes nor poor images.
#
# **Where this stands.** P. Krähenbühl and V. Koltun, *Efficient inference in fully connected CRFs with Gaussian edge
# potentials*, arXiv:1210.5644; S. Zheng et al., *Conditional random fields as recurrent neural networks*,
# ICCV 2015; M. Teichmann and R. Cipolla, *Convolutional CRFs for semantic segmentation*, arXiv:1805.04777; A. Adams, J. Baek and
# M. Davis, *Fast high-dimensional filtering using the permutohedral lattice*, Eurographics 2010.
