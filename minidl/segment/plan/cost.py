"""What a planned network costs: parameters, memory, work; and how fast this computer works."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import minidl
from minidl import optim
from minidl.models import PlannedUNet
from minidl.nn.functional import deep_supervision_loss, dice_ce_loss
from minidl.segment.plan.topology import Topology, nnunet_topology

# nnU-Net's constants: so many numbers of the proxy at that batch fill 8 GB (in PyTorch, with half precision).
NNUNET_REFERENCE = {2: (85_000_000, 12), 3: (560_000_000, 2)}
NNUNET_MEMORY = 8_000_000_000

# minidl's, measured by `python -m benchmarks plan`: float32, and what is kept of a block for its gradient is
# the convolution's output and the activation (4 + 4 bytes a number); the rest is workspace.
BYTES_PER_OUTPUT = 10
BYTES_PER_PARAMETER = 12  # weight, gradient, momentum

# Beside its multiply-adds each output is normalised, activated, and written and read several times, which
# takes as long as so many multiply-adds (measured likewise).
MULTIPLY_ADDS_PER_OUTPUT = 1900


class _Layer(NamedTuple):
    """A convolution: how many numbers it makes, each a sum of how many terms; its weights; what it adds."""

    outputs: int
    terms: int
    weights: int
    channel_parameters: int  # biases, and weight and bias of the norm that follows


def widths(base: int, topology: Topology) -> tuple[int, ...]:
    """Channels per stage: doubled with every halving up to 512 (2-D) or 320 (3-D)."""
    largest = 320 if len(topology.patch) == 3 else 512
    return tuple(min(base * 2**level, largest) for level in range(len(topology.strides)))


def stage_sizes(topology: Topology) -> list[tuple[int, ...]]:
    """The patch's size in each stage."""
    sizes, size = [], topology.patch
    for stride in topology.strides:
        sizes.append(size := tuple(n // s for n, s in zip(size, stride)))
    return sizes


@lru_cache(maxsize=256)
def _layers(topology: Topology, features: tuple[int, ...], channels: int, classes: int) -> tuple[_Layer, ...]:
    """The convolutions: 2 per encoder stage, 1 transposed and 2 per decoder stage, and the finest head."""
    voxels = [math.prod(size) for size in stage_sizes(topology)]

    def block(level: int, fan_in: int) -> _Layer:
        width = features[level]
        terms = fan_in * math.prod(topology.kernels[level])
        return _Layer(voxels[level] * width, terms, terms * width, 3 * width)

    layers = []
    for level, width in enumerate(features):
        layers += [block(level, features[level - 1] if level else channels), block(level, width)]
    for level in reversed(range(len(features) - 1)):
        width, coarse = features[level], features[level + 1]
        window = math.prod(topology.strides[level + 1])
        up = _Layer(voxels[level] * width, coarse, coarse * width * window, width)
        layers += [up, block(level, 2 * width), block(level, width)]
    head = _Layer(voxels[0] * classes, features[0], features[0] * classes, classes)
    return (*layers, head)


def memory_proxy(topology: Topology, features: Sequence[int], channels: int, classes: int) -> int:
    """nnU-Net's estimate of memory: the numbers that all convolutions make from one patch."""
    return sum(layer.outputs for layer in _layers(topology, tuple(features), channels, classes))


def parameters(topology: Topology, features: Sequence[int], channels: int, classes: int) -> int:
    """The parameters of the network, with the heads of deep supervision."""
    layers = _layers(topology, tuple(features), channels, classes)
    coarser_heads = sum((width + 1) * classes for width in features[1:-1])
    return sum(layer.weights + layer.channel_parameters for layer in layers) + coarser_heads


def multiply_adds(topology: Topology, features: Sequence[int], channels: int, classes: int) -> int:
    """Multiply-adds of all convolutions for one patch, forward and backward.

    Backward computes two convolutions of the same cost, towards the input and towards the weights.
    """
    layers = _layers(topology, tuple(features), channels, classes)
    return 3 * sum(layer.outputs * layer.terms for layer in layers)


def nnunet_batch(proxy: int, dims: int, memory: float = NNUNET_MEMORY) -> int:
    """The batch that nnU-Net's own rule lets into a GPU's memory."""
    reference, batch = NNUNET_REFERENCE[dims]
    return round(reference * memory / NNUNET_MEMORY / proxy * batch)


def training_memory(proxy: int, parameters: int, batch: int) -> int:
    """Bytes that a training step of minidl takes."""
    return round(BYTES_PER_OUTPUT * proxy * batch) + BYTES_PER_PARAMETER * parameters


def work(multiply_adds: int, proxy: int) -> float:
    """What a training step costs, in multiply-adds: those of the convolutions, and memory traffic as such."""
    return multiply_adds + MULTIPLY_ADDS_PER_OUTPUT * proxy


def training_step(
    topology: Topology, features: Sequence[int], channels: int, classes: int, batch: int
) -> Callable[[], None]:
    """A function that does one step of training on images of zeros: what measurements are made with."""
    model = PlannedUNet(channels, classes, features, topology.kernels, topology.strides)
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.99, nesterov=True)
    image = minidl.zeros(batch, channels, *topology.patch)
    label = minidl.zeros(batch, *topology.patch, dtype=minidl.int64)

    def step() -> None:
        loss = deep_supervision_loss(model(image), label, dice_ce_loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds_of(step: Callable[[], None], repeats: int = 4) -> float:
    """How long a step takes this computer if nothing else runs: the least of several, after a first one.

    Other programs lengthen the time by the clock, but not the processor's time for this one. So no more is
    counted than that time, divided among the threads, and a fifth for their waiting for one another.
    """
    step()
    times = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        step()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        times.append(min(wall, 1.2 * processor / minidl.get_num_threads()))
    return min(times)


def measure_speed(dims: int) -> float:
    """Work per second of this computer in training, from a few steps of a small network: some seconds."""
    topology = nnunet_topology((1.0,) * dims, (32, 48, 32) if dims == 3 else (128, 128))
    network, batch = (topology, widths(16, topology), 1, 2), 2
    step_work = batch * work(multiply_adds(*network), memory_proxy(*network))
    return step_work / seconds_of(training_step(*network, batch))
