"""Does each fused kernel earn its place? Forward and backward beside its composition and beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch

import minidl
from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, header, minima, row
from benchmarks.unet import CLASSES, NETS, torch_loss
from minidl.kernels import reference
from minidl.models import UNet
from minidl.nn import functional as F
from minidl.nn.functional import norm, segmentation_loss
from minidl.ops.fused import norm_leaky_relu, softmax_sums

Run = Callable[[], Any]
Sides = tuple[str, Run, Run, Run]  # title; fused, composed, PyTorch

IMAGES = [(4, 32, 128, 128), (2, 16, 48, 48, 48)]


def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _both(library: Any, function: Callable, *arrays: np.ndarray) -> Run:
    """Forward and the gradients of all floating-point inputs."""
    tensors = [library.from_numpy(a) for a in arrays]
    wanted = [t.requires_grad_() for t, a in zip(tensors, arrays) if a.dtype.kind == "f"]
    g = library.from_numpy(np.ones(tuple(function(*tensors).shape), np.float32))
    return lambda: library.autograd.grad(function(*tensors), wanted, g)


def _composed(run: Run, target: Any, name: str, plain: Any) -> Run:
    """The same with another function, the plain one, in the place of the fused one."""

    def instead() -> None:
        with mock.patch.object(target, name, plain):
            run()

    return instead


def _norms() -> Iterator[Sides]:
    for shape in IMAGES:
        arrays = _draw(*shape), _draw(shape[1]), _draw(shape[1])

        def theirs(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            y = torch.nn.functional.instance_norm(x, weight=w, bias=b)
            return torch.nn.functional.leaky_relu(y, 0.01)

        ours = _both(
            minidl, lambda x, w, b: F.instance_norm(x, None, None, w, b, negative_slope=0.01), *arrays
        )
        composed = _composed(ours, norm, "norm_leaky_relu", norm_leaky_relu.composition)
        yield f"instance norm + leaky ReLU {shape}", ours, composed, _both(torch, theirs, *arrays)


def _losses() -> Iterator[Sides]:
    for _, (samples, _, *size) in NETS:
        x = _draw(samples, CLASSES, *size)
        label = np.random.default_rng(1).integers(0, CLASSES, (samples, *size))
        ours = _both(minidl, lambda x, y: F.dice_ce_loss(x, y, batch=True), x, label)
        composed = _composed(ours, segmentation_loss, "softmax_sums", softmax_sums.composition)
        yield f"Dice + cross-entropy {x.shape}", ours, composed, _both(torch, torch_loss, x, label)


def _pools() -> Iterator[Sides]:
    for shape in IMAGES:
        for kernel, padding in ((2, 0), (3, 1)):
            name = f"max_pool{len(shape) - 2}d"

            def run(library: Any, functions: Any, shape=shape, name=name, k=kernel, p=padding) -> Run:
                return _both(library, lambda x: getattr(functions, name)(x, k, 2, p), _draw(*shape))

            ours = run(minidl, F)
            composed = _composed(ours, minidl.kernels, "of", lambda xp: reference)
            yield f"{name} k{kernel} s2 {shape}", ours, composed, run(torch, torch.nn.functional)


def _optimizers() -> Iterator[Sides]:
    shapes = [p.shape for p in UNet(1, CLASSES, NETS[0][0], dims=2).parameters()]
    millions = sum(int(np.prod(s)) for s in shapes) / 1e6
    momentum = dict(lr=1e-3, momentum=0.99, nesterov=True, weight_decay=3e-5)
    for name, options in (("SGD", momentum), ("Adam", {}), ("AdamW", {})):

        def step(library: Any, name=name, options=options) -> Run:
            weights = [library.from_numpy(_draw(*s)).requires_grad_() for s in shapes]
            for w in weights:
                w.grad = library.from_numpy(np.full(tuple(w.shape), 0.1, np.float32))
            return getattr(library.optim, name)(weights, **options).step

        composed = _composed(step(minidl), minidl.kernels, "of", lambda xp: reference)
        yield f"{name}, {millions:.1f} million weights", step(minidl), composed, step(torch)


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print a row per op and shape."""
    header(threads)
    widths = (54, 9, 11, 10, 14, 13)
    titles = ("forward and backward", "fused ms", "composed ms", "PyTorch ms")
    columns((*titles, "composed/fused", "fused/PyTorch"), widths)
    found = []
    for make in (_norms, _losses, _pools, _optimizers):
        for title, *sides in make():
            fused, composed, theirs = minima(rounds, *sides)
            cells = (*(f"{1e3 * t:.2f}" for t in (fused, composed, theirs)), f"{composed / fused:.2f}")
            row((title, *cells, f"{fused / theirs:.2f}"), widths)
            found.append(Comparison("fused op", title, fused, theirs))
    return found
