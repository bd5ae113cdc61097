"""One image through three ways of up-sampling: the pattern at the start, and what training leaves of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import trange

import minidl
import minidl.nn.functional as F
from figures.drawing import page, picture
from figures.palette import SMALL
from minidl import nn
from minidl.checkerboard import phase_variance_ratio, upsampler
from minidl.data import phantom_case

SIZE, IMAGES, STEPS, BATCH = 64, 24, 100, 8
FACTOR, BORDER = 4, 16  # of both up-samplings together; what zero padding may reach
KINDS = {
    "transpose": "transposed\nconvolution 3×3",
    "interpolate": "interpolation\n+ convolution",
    "subpixel": "sub-pixel\nconvolution",
    "icnr": "sub-pixel, ICNR\ninitialisation",
}


class Autoencoder(nn.Sequential):
    """Two strided convolutions to a quarter of the size, two up-samplings back: (N, 1, H, W) both ways."""

    def __init__(self, kind: str):
        super().__init__(
            nn.Conv2d(1, 16, 3, 2, 1), nn.LeakyReLU(0.1),
            nn.Conv2d(16, 32, 3, 2, 1), nn.LeakyReLU(0.1),
            upsampler(kind, 32, 16), nn.LeakyReLU(0.1),
            upsampler(kind, 16, 1),
        )  # fmt: skip


def train(model: nn.Module, kind: str) -> None:
    """Teach the model to give its input back."""
    images = np.stack([phantom_case("train", i, (SIZE, SIZE))[0][None] for i in range(IMAGES)])
    optimizer, rng = minidl.optim.Adam(model.parameters(), lr=2e-3), np.random.default_rng(0)
    for _ in trange(STEPS, desc=kind, leave=False):
        batch = minidl.tensor(images[rng.integers(0, IMAGES, BATCH)])
        optimizer.zero_grad()
        F.mse_loss(model(batch), batch).backward()
        optimizer.step()


@minidl.no_grad()
def measured(model: nn.Module) -> tuple[np.ndarray, float, np.ndarray, float]:
    """The image given back and its phase-variance ratio; flat grey given back and its pattern in percent."""
    image, _ = phantom_case("test", 2, (SIZE, SIZE))
    output = model(minidl.tensor(image[None, None])).numpy()
    inner = slice(BORDER, SIZE - BORDER)
    flat = model(minidl.full((1, 1, SIZE, SIZE), 0.5)).numpy()[0, 0, inner, inner]
    share = 100 * flat.std() / np.sqrt((flat**2).mean())
    return output[0, 0], phase_variance_ratio(output, FACTOR, BORDER), flat, float(share)


def spectrum(image: np.ndarray) -> np.ndarray:
    """Power in decades below the highest, frequency 0 in the middle; a window hides the border's cross."""
    window = np.hanning(len(image))
    power = abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * np.outer(window, window)))) ** 2
    return np.log10(power / power.max() + 1e-12)


def draw(folder: Path) -> None:
    """A row per way of up-sampling: output and spectrum before and after training, then flat grey."""
    titles = (
        "output,\nuntrained",
        "its\nspectrum",
        f"after {STEPS}\nsteps",
        "its\nspectrum",
        "trained,\nflat grey in",
    )
    with page(folder, "checkerboard", 7.9, layout="constrained") as figure:
        for row, (kind, name) in zip(figure.subplots(len(KINDS), 5), KINDS.items()):
            minidl.manual_seed(0)
            model = Autoencoder(kind)
            before = measured(model)
            train(model, kind)
            after = measured(model)
            for axes, (output, ratio, _, _) in ((row[0:2], before), (row[2:4], after)):
                picture(axes[0], output, vmin=np.percentile(output, 1), vmax=np.percentile(output, 99))
                axes[0].set_xlabel(f"ratio {ratio:.3f}", fontsize=SMALL)
                extent = (-0.5, 0.5, 0.5, -0.5)
                picture(axes[1], spectrum(output), cmap="cividis", vmin=-5, vmax=0, extent=extent)
                axes[1].set_xticks((-0.25, 0, 0.25), ("−¼", "0", "¼"), fontsize=SMALL)
            mean = after[2].mean()
            picture(row[4], after[2], vmin=0.95 * mean, vmax=1.05 * mean)
            row[4].set_xlabel(f"{before[3]:.0f} % → {after[3]:.1f} %", fontsize=SMALL)
            row[0].set_ylabel(name, fontsize=SMALL)
        for axis, title in zip(figure.axes, titles):
            axis.set_title(title)
        figure.supxlabel(
            "ratio: share of the phase means in the variance; frequencies in cycles per pixel;\n"
            "percent: standard deviation over root mean square of the last column, untrained → trained",
            fontsize=SMALL,
        )
