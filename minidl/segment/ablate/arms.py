"""Arms of an ablation: nnU-Net's choices, and what becomes of them when one is changed.

The seven are the rows of the lecture's table. Others come from a TOML file, a table for each:

    [large-batch]
    title = "Four times the batch"
    batch = 32

    [sgd]
    optimizer = "sgd"
    learning_rate = 0.01
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidl.segment.plan.schema import parse

BASE = {"augmentation": "nnunet"}  # of every arm; the rest is the rule for a run without a plan

FIELDS = {  # what an arm may change, and its type
    "loss": str,
    "norm": str,  # "none" where the network has no normalisation: TOML knows no null
    "negative_slope": float,
    "augmentation": str,
    "optimizer": str,
    "learning_rate": float,
    "batch": int,
    "halvings": int,  # at most, of the patch: the depth of the network
    "deep_supervision": bool,
}


@dataclass(frozen=True)
class Arm:
    """A way to train: what is changed of vanilla nnU-Net."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """For `make_config`."""
        return {**BASE, **self.changes}


VANILLA = Arm("vanilla", "Vanilla nnU-Net")
ARMS = {
    arm.name: arm
    for arm in (
        VANILLA,
        Arm("batch-norm", "Batch norm instead of Inst. norm", {"norm": "batch"}),
        Arm("no-norm", "No feature map normalization", {"norm": None}),
        Arm("relu", "ReLU instead of LeakyReLU", {"negative_slope": 0.0}),
        Arm("no-augmentation", "No data augmentation", {"augmentation": "none"}),
        Arm("ce-only", "Only cross-entropy loss", {"loss": "ce"}),
        Arm("dice-only", "Only dice loss", {"loss": "dice"}),
    )
}


def choose_arms(words: Sequence[str] | None = None) -> list[Arm]:
    """Arms by their names and those of TOML files, by default the seven; vanilla always is the first.

    Errors: ValueError that names the file, the arm and what is wrong with it.
    """
    chosen = {VANILLA.name: VANILLA}
    for word in ARMS if words is None else words:
        if word.endswith(".toml"):
            found = read_arms(Path(word))
        elif word in ARMS:
            found = [ARMS[word]]
        else:
            raise ValueError(
                f"ablate: there is no arm {word!r}; give a .toml file or any of {', '.join(ARMS)}"
            )
        for arm in found:
            if chosen.setdefault(arm.name, arm) != arm:
                raise ValueError(f"ablate: two arms are called {arm.name!r}; rename one")
    if len(chosen) < 2:
        raise ValueError("ablate: vanilla needs at least one other arm to be compared with")
    return list(chosen.values())


def read_arms(path: Path) -> list[Arm]:
    """The arms of a TOML file."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        if not tables:
            raise ValueError("it has no table; an arm is written as [name] and lines such as batch = 16")
        return [_arm(name, table) for name, table in tables.items()]
    except (OSError, ValueError) as error:  # among them tomllib's own, with the line
        raise ValueError(f"{path} is not a readable file of arms: {error}") from error


def _arm(name: str, table: Any) -> Arm:
    if not isinstance(table, dict):
        raise ValueError(f"{name} = {table!r} stands outside of an arm; write [name] above it")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", name):
        raise ValueError(f"[{name}]: the name of an arm has letters, digits, - and _ only")
    if name in ARMS:
        raise ValueError(f"[{name}] is built in; choose another name")
    if unknown := sorted(table.keys() - FIELDS.keys() - {"title"}):
        raise ValueError(f"[{name}]: unknown {', '.join(unknown)}; an arm may change {', '.join(FIELDS)}")
    title = parse(str, table.get("title", name), f"[{name}] title")
    changes = {key: parse(FIELDS[key], table[key], f"[{name}] {key}") for key in FIELDS if key in table}
    if not changes:
        raise ValueError(f"[{name}]: changes nothing")
    for key in ("batch", "halvings"):
        if changes.get(key, 1) < 1:
            raise ValueError(f"[{name}] {key}: must be at least 1, got {changes[key]}")
    if changes.get("norm") == "none":
        changes["norm"] = None
    return Arm(name, title, changes)
