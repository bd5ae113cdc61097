"""A plan as text: what the images are, what was decided and why, and the two rules side by side."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from minidl.segment import metrics
from minidl.segment.plan import cost
from minidl.segment.plan.plan import Configuration, Plan
from minidl.segment.plan.words import amount, by, often

WIDEST = 120  # characters


def describe(plan: Plan, other: Plan | None) -> str:
    """The whole text; `other` is the plan by the other rule, or None where that is impossible."""
    width = min(shutil.get_terminal_size((WIDEST, 40)).columns, WIDEST)
    return "\n".join([*_images(plan), "", *_decisions(plan, width), "", *_networks(plan, other)])


# ---- the images -----------------------------------------------------------------------------------


def _images(plan: Plan) -> Iterator[str]:
    fingerprint = plan.fingerprint
    shapes, spacings = np.array(fingerprint.shapes), np.array(fingerprint.spacings)
    rows: list[dict[str, Any]] = [
        {"": name, "smallest": by(values.min(0)), "median": by(np.median(values, 0)),
         "largest": by(values.max(0))}
        for name, values in (("shape, per axis", shapes), ("spacing, per axis", spacings))
    ]  # fmt: skip
    rows += [
        {"": f"{name} in the foreground", "smallest": f"{i.percentile_00_5:.4g} (0.5 %)",
         "median": f"{i.median:.4g}", "largest": f"{i.percentile_99_5:.4g} (99.5 %)"}
        for name, i in zip(plan.channels, fingerprint.intensities)
    ]  # fmt: skip
    yield metrics.format_table(rows)
    shares = zip(plan.classes, fingerprint.class_shares)
    yield ""
    yield "Voxels: " + ", ".join(f"{name} {share:.2%}" for name, share in shares) + "."


# ---- the decisions --------------------------------------------------------------------------------


def _decisions(plan: Plan, width: int) -> Iterator[str]:
    left = max(len(reason.decision) for reason in plan.reasons) + 2
    middle = min(max(len(reason.choice) for reason in plan.reasons), 28)
    right = max(width - left - middle - 6, 20)
    for about, reasons in groupby(plan.reasons, lambda reason: reason.about):
        yield about
        for reason in reasons:
            columns = (
                [reason.decision],
                textwrap.wrap(reason.choice, middle),
                textwrap.wrap(reason.because, right),
            )
            for k in range(max(map(len, columns))):
                first, second, third = (column[k] if k < len(column) else "" for column in columns)
                yield f"  {first:<{left}}{second:<{middle}}  {third}".rstrip()


# ---- the networks ---------------------------------------------------------------------------------


def _networks(plan: Plan, other: Plan | None) -> Iterator[str]:
    yield metrics.format_table([_network(c, plan) for c in plan.configurations.values()])
    yield ""
    name = {"nnunet": "nnU-Net's rule (halve while 8 or more are left, long voxels wait)",
            "lecture": "the lecture's rule (halve every axis until it has size 8)"}  # fmt: skip
    if other is None:
        return
    yield f"By {name[other.rule]} it would be instead:"
    yield ""
    yield metrics.format_table([_network(c, other) for c in other.configurations.values()])


def _network(configuration: Configuration, plan: Plan) -> dict[str, Any]:
    c = configuration
    network = (c.topology, c.features, len(plan.channels), len(plan.classes))
    proxy = cost.memory_proxy(*network)
    seconds = cost.work(c.multiply_adds, proxy * c.batch) / plan.speed
    return {
        "network": c.name,
        "patch": by(c.patch),
        "batch": c.batch,
        "halved": often(c.topology.pools),
        "down to": by(c.topology.bottleneck),
        "features": _span(c.features),
        "parameters": f"{cost.parameters(*network):,}",
        "memory": amount(c.memory),
        "a step here": f"{seconds:.2f} s",
    }


def _span(features: Sequence[int]) -> str:
    return f"{features[0]} ... {features[-1]}"
