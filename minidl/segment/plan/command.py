"""The job behind `minidl plan`."""

from __future__ import annotations

from pathlib import Path

from minidl.data import open_dataset
from minidl.segment.plan.cost import measure_speed
from minidl.segment.plan.describe import describe
from minidl.segment.plan.fingerprint import take_fingerprint
from minidl.segment.plan.plan import Plan
from minidl.segment.plan.planner import Limits, Planner
from minidl.segment.plan.topology import RULES
from minidl.segment.plan.words import by

MEMORY = 8_000_000_000
MINUTES = 30.0


def plan(
    data: Path,
    memory: int = MEMORY,
    minutes: float | None = MINUTES,
    rule: str = "nnunet",
    out: Path = Path("plan.json"),
) -> Plan:
    """Look at a folder of labelled images, plan a training on it, say why, and write plan.json.

    memory: bytes; minutes: of a training on this computer, None for as long as it takes.
    """
    dataset = open_dataset(data)
    print(dataset.describe(), "\n")
    fingerprint = take_fingerprint(dataset)
    limits = Limits(memory, minutes, measure_speed(fingerprint.dims))
    plans = {
        name: Planner(fingerprint, dataset.channels, dataset.classes, limits, name)
        for name in sorted(RULES, key=rule.__ne__)
    }
    folder = str(data.resolve())  # the plan may be used from elsewhere
    made = plans[rule].plan(folder)
    try:
        (other,) = (planner.plan(folder) for name, planner in plans.items() if name != rule)
    except ValueError:  # the other rule makes no network of these images: there is nothing to compare
        other = None
    print(describe(made, other))
    made.save(out)
    recommended = made.configurations[made.recommended]
    print(
        f"\nThe plan is in {out}. Go on with `minidl train --plan {out}`, which trains {recommended.name} on "
        f"patches of {by(recommended.patch)}; --config names another one."
    )
    return made
