"""Where a training stands, in one file: what is needed to go on as if it had never stopped.

A .safetensors file: the weights as "model.NAME", what the optimiser remembers as "optimizer.NUMBER.NAME", and
the rest as JSON in its metadata, with a SHA-256 of it all. It is data and never code: nothing in it is
executed, every value is checked against its declared type, and memory is taken for what the file holds, not
for what it claims. It is written whole or not at all, so that a kill at any instant leaves the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np

from minidl import backend, serialize
from minidl.autograd import Tensor
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.segment.config import Config
from minidl.segment.plan.schema import parse
from minidl.segment.schedule import STATE

CHECKPOINT = "checkpoint.safetensors"
VERSION = 1


@dataclass(frozen=True)
class Record:
    """A line of history: the mean training loss since the last one, and how the validation cases fare."""

    step: int
    done: float
    minutes: float
    learning_rate: float
    train_loss: float
    validation_loss: float
    dice: dict[str, float]

    def row(self) -> dict[str, float]:
        """As a row of a table."""
        values = asdict(self)
        return values | {f"dice {name}": dice for name, dice in values.pop("dice").items()}


@dataclass(frozen=True)
class Random:
    """The state of the engine's generator (PCG64)."""

    state: int
    inc: int
    has_uint32: int
    uinteger: int

    def __post_init__(self) -> None:
        limits = (2**128, 2**128, 2, 2**32)
        if not all(0 <= value < limit for value, limit in zip(astuple(self), limits)):
            raise ValueError(f"no state of a random generator: {astuple(self)}")

    @classmethod
    def now(cls) -> Random:
        """That of this moment."""
        state = backend.generator().bit_generator.state
        return cls(**state["state"], has_uint32=state["has_uint32"], uinteger=state["uinteger"])

    def restore(self) -> None:
        """Go on from it."""
        backend.generator().bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": self.state, "inc": self.inc},
            "has_uint32": self.has_uint32,
            "uinteger": self.uinteger,
        }


@dataclass(frozen=True)
class Progress:
    """Everything but the tensors. The data order needs nothing but the step: see `Sampler`."""

    version: int
    config: Config
    data: str  # `Splits.digest`
    step: int
    minutes: float
    validation_minutes: float  # what the last validation cost
    losses: tuple[float, ...]  # since the last line of history
    history: tuple[Record, ...]
    random: Random
    schedule: dict[str, float]

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"version {self.version} of checkpoints is not known, only {VERSION}")
        if self.step < 0 or self.minutes < 0:
            raise ValueError(f"step {self.step} and minutes {self.minutes} must not be negative")


def save(path: Path, progress: Progress, model: Module, optimizer: Optimizer) -> None:
    """Write where the training stands; OSError if it cannot be written, and then the last one stays."""
    tensors = {f"model.{name}": backend.to_numpy(t.array) for name, t in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": backend.to_numpy(v) for name, v in state.items()}
    tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}  # scalars too
    text = json.dumps(asdict(progress), allow_nan=False)
    try:
        serialize.save(
            {name: Tensor(array) for name, array in tensors.items()},
            path,
            {"progress": text, "sha256": _digest(text, tensors)},
        )
    except OSError as error:
        raise OSError(f"{path} could not be written, the one before is kept: {error}") from error


def load(path: Path) -> tuple[Progress, dict[str, np.ndarray]]:
    """What `save` wrote; ValueError that names the file if it is missing, damaged or something else."""
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        text = metadata.get("progress", "")
        if metadata.get("sha256") != _digest(text, tensors):
            raise ValueError("its checksum is not that of its contents")
        return parse(Progress, json.loads(text)), tensors
    except Exception as error:  # a damaged file can trip the reader anywhere
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error


def restore(
    tensors: Mapping[str, np.ndarray], progress: Progress, model: Module, optimizer: Optimizer
) -> None:
    """Set model, optimiser and random numbers to what a checkpoint holds; ValueError if they do not fit."""
    model.load_state_dict({name[6:]: Tensor(a) for name, a in tensors.items() if name.startswith("model.")})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict] = {}
    for name, array in tensors.items():
        if name.startswith("model."):
            continue
        kind, number, key = [*name.split(".", 2), "", ""][:3]
        if kind != "optimizer" or not number.isdecimal() or int(number) >= len(parameters):
            raise ValueError(f"restore: {name!r} is no tensor of this model or its optimiser")
        parameter = parameters[int(number)]
        shape, dtype = ((), np.int64) if key == "step" else (parameter.shape, parameter.dtype)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"restore: {name!r} has shape {array.shape} and {array.dtype}, not {shape} {dtype}"
            )
        value = array.item() if key == "step" else backend.to_device(array, parameter.device)
        state.setdefault(int(number), {})[key] = value
    remembered = STATE[progress.config.optimizer]
    for i, found in state.items():
        if found.keys() != remembered:
            raise ValueError(f"restore: optimizer.{i} has {sorted(found)}, not {sorted(remembered)}")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    progress.random.restore()


def _digest(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    hashes = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        hashes.update(f"{name} {array.dtype} {array.shape}".encode())
        hashes.update(array.tobytes())
    return hashes.hexdigest()
