"""What the cells say together: paired differences and how sure they are.

A seed gives two arms the same first weights and the same patches, so luck that both share cancels in the
difference of their Dice, d = arm - vanilla of one seed; the interval is that of the mean of d over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minidl.segment.ablate.arms import VANILLA, Arm
from minidl.segment.ablate.cells import Result

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """An arm against vanilla on one data set. Differences in per cent of vanilla's mean Dice."""

    arm: Arm
    scores: tuple[float, ...]  # Dice by seed
    differences: tuple[float, ...]  # by seed, in %; nan where vanilla found nothing
    low: float  # the interval of the mean difference
    high: float
    collapsed: int  # runs

    @property
    def dice(self) -> float:
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Standard deviation of Dice over seeds: how stable the training is."""
        return float(np.std(self.scores, ddof=1)) if self.seeds > 1 else math.nan

    @property
    def difference(self) -> float:
        return float(np.mean(self.differences))

    @property
    def seeds(self) -> int:
        return len(self.scores)


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean, d̄ ± t(0.975, n-1) · s / √n; nan for fewer than two differences.

    Not the bootstrap: with the five or so seeds that one can afford, its percentiles are too narrow. The
    price is that d is taken for normal, which it is not when runs collapse.
    """
    from scipy.stats import t

    d = np.asarray(differences, float)
    if len(d) < 2:
        return math.nan, math.nan
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d)))
    return float(d.mean()) - half, float(d.mean()) + half


def effects(arms: Sequence[Arm], results: Mapping[str, Sequence[Result]]) -> list[Effect]:
    """The effect of each arm; `results` by the name of the arm, in the order of the seeds.

    Vanilla's own effect comes first, its differences 0. Vanilla's mean Dice, by which all are divided, is
    taken as it is: the intervals do not hold its own uncertainty.
    """
    vanilla = np.array([result.score for result in results[VANILLA.name]])
    found = []
    for arm in arms:
        scores = np.array([result.score for result in results[arm.name]])
        reference = vanilla.mean() or math.nan
        differences = tuple(100 * (scores - vanilla) / reference)
        collapsed = sum(result.collapsed for result in results[arm.name])
        found.append(Effect(arm, tuple(scores), differences, *paired_interval(differences), collapsed))
    return found
