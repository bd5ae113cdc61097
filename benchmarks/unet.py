"""One training step of the U-Net (forward, Dice + cross-entropy, backward, Adam), in 2-D and in 3-D."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

import minidl
from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, header, minima, row
from minidl.models import UNet
from minidl.nn import functional as F

NETS = [((32, 64, 128, 256, 512), (4, 1, 128, 128)), ((16, 32, 64, 128), (2, 1, 48, 48, 48))]
CLASSES = 3


class TorchUNet(torch.nn.Module):
    """The same network in PyTorch: two convolutions a stage, instance norm, leaky ReLU, strides."""

    def __init__(self, features: Sequence[int], dims: int):
        super().__init__()
        layer = lambda name: getattr(torch.nn, f"{name}{dims}d")

        def stage(channels: int, out: int, stride: int) -> torch.nn.Module:
            parts: list[torch.nn.Module] = []
            for a, s in ((channels, stride), (out, 1)):
                parts += [layer("Conv")(a, out, 3, s, 1), layer("InstanceNorm")(out, affine=True)]
                parts.append(torch.nn.LeakyReLU(0.01))
            return torch.nn.Sequential(*parts)

        inputs = [1, *features[:-1]]
        self.encoder = torch.nn.ModuleList(
            stage(a, b, 2 if i else 1) for i, (a, b) in enumerate(zip(inputs, features))
        )
        pairs = list(zip(features[:0:-1], features[-2::-1]))
        self.up = torch.nn.ModuleList(layer("ConvTranspose")(a, b, 2, 2) for a, b in pairs)
        self.decoder = torch.nn.ModuleList(stage(2 * b, b, 1) for _, b in pairs)
        self.head = layer("Conv")(features[0], CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for stage in self.encoder:
            skips.append(x := stage(x))
        skips.pop()
        for up, stage in zip(self.up, self.decoder):
            x = stage(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


def torch_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Batch Dice of the foreground classes and cross-entropy, as `dice_ce_loss(batch=True)`."""
    p = logits.softmax(1)
    truth = torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).to(p.dtype)
    axes = (0, *range(2, logits.ndim))
    dice = (2 * (p * truth).sum(axes) + 1e-5) / (p.sum(axes) + truth.sum(axes) + 1e-5)
    return torch.nn.functional.cross_entropy(logits, target) + 1 - dice[1:].mean()


def _data(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    return x, rng.integers(0, CLASSES, (shape[0], *shape[2:]))


def our_step(
    features: Sequence[int], shape: tuple[int, ...], checkpoint: bool = False
) -> tuple[Callable[[], None], int]:
    """A training step of minidl, and the number of parameters."""
    x, y = map(minidl.from_numpy, _data(shape))
    net = UNet(1, CLASSES, features, dims=len(shape) - 2, checkpoint=checkpoint)
    optimizer = minidl.optim.Adam(net.parameters())

    def step() -> None:
        loss = F.dice_ce_loss(net(x), y, batch=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, sum(p.numel() for p in net.parameters())


def their_step(features: Sequence[int], shape: tuple[int, ...]) -> tuple[Callable[[], None], int]:
    """The same step of PyTorch."""
    x, y = map(torch.from_numpy, _data(shape))
    net = TorchUNet(features, len(shape) - 2)
    optimizer = torch.optim.Adam(net.parameters())

    def step() -> None:
        loss = torch_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, sum(p.numel() for p in net.parameters())


def title(features: Sequence[int], shape: tuple[int, ...]) -> str:
    """The network's name in a table."""
    return f"{len(shape) - 2}-D, {'x'.join(map(str, shape))}, base {features[0]}"


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print a row per network."""
    header(threads)
    widths = (40, 10, 8, 9, 5)
    columns(("network", "parameters", "minidl s", "PyTorch s", "ratio"), widths)
    found = []
    for features, shape in NETS:
        ours, parameters = our_step(features, shape)
        theirs, their_parameters = their_step(features, shape)
        if parameters != their_parameters:
            raise ValueError(f"the networks differ: {parameters} and {their_parameters} parameters")
        step = Comparison("training step", title(features, shape), *minima(rounds, ours, theirs))
        cells = f"{parameters:,}", f"{step.minidl:.3f}", f"{step.other:.3f}", f"{step.ratio:.2f}"
        row((step.what, *cells), widths)
        found.append(step)
    return found
