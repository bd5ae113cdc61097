"""Training spreads the effective field: what lies farther off comes to count as much as what is near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import trange

import minidl
import minidl.nn.functional as F
from figures.drawing import outline, page, picture
from figures.palette import BLUE, ORANGE, SMALL, VERMILION, tint
from minidl.data import phantom_case
from minidl.models import UNet
from minidl.receptive_field import EffectiveField, analyze, effective

SIZE, IMAGES, STEPS, BATCH = 96, 48, 200, 8


def phantoms(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, H, W) and label maps (N, H, W)."""
    cases = [phantom_case(split, i, (SIZE, SIZE)) for i in range(count)]
    return np.stack([image[None] for image, _ in cases]), np.stack([label for _, label in cases])


def train(model: UNet) -> None:
    """Teach the model to segment phantoms."""
    images, labels = phantoms("train", IMAGES)
    optimizer, rng = minidl.optim.Adam(model.parameters(), lr=3e-3), np.random.default_rng(0)
    for _ in trange(STEPS, desc="field_trained", leave=False):
        chosen = rng.integers(0, IMAGES, BATCH)
        optimizer.zero_grad()
        loss = F.dice_ce_loss(model(minidl.tensor(images[chosen])), minidl.tensor(labels[chosen]), batch=True)
        loss.backward()
        optimizer.step()


def measured(model: UNet) -> EffectiveField:
    """The effective field of the pixel in the middle, averaged over test phantoms."""
    images, _ = phantoms("test", 12)
    return effective(model, [minidl.tensor(image[None]) for image in images])


def draw(folder: Path) -> None:
    """The map before and after training, and both profiles."""
    minidl.manual_seed(0)
    model = UNet(1, 3, (8, 16, 32, 64), norm=None)
    (first, last), _ = analyze(model, (1, 1, SIZE, SIZE)).interval((SIZE // 2, SIZE // 2))
    size = last - first + 1
    before = measured(model)
    train(model)
    after = measured(model)
    with page(folder, "field_trained", 3.0, layout="constrained") as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
        for axis, found, name in ((left, before, "untrained"), (middle, after, f"after {STEPS} steps")):
            picture(axis, np.sqrt(found.map), name, cmap="cividis")
            outline(axis, first - 0.5, last + 0.5, size, size, ORANGE)
            edge = f"{found.size(0.5):.0f}"
            axis.set_xlabel(f"above half its peak: {edge} × {edge}", fontsize=SMALL)
        right.axvspan(first, last, color=tint(ORANGE, 0.12), label=f"theoretical: {size}")
        for found, color, name in ((before, BLUE, "untrained"), (after, VERMILION, "trained")):
            right.plot(np.arange(SIZE), found.profile(1), color=color, label=name)
        top = 1.6 * before.profile(1).max()  # leaves room for the legend
        right.set(xlabel="column (pixels)", title="share of each column", ylim=(0, top))
        right.legend(fontsize=SMALL)
