"""The result in plain words, which claim no more than the intervals allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from minidl.segment.ablate.statistics import CONFIDENCE, Effect

LARGE = 5.0  # per cent of vanilla's Dice: what is called a large effect


def verdict(found: Sequence[Effect]) -> list[str]:
    """Sentences about the arms of one data set, vanilla's effect first: one each, then all together."""
    vanilla, *others = found
    lines = [f"{effect.arm.title}: {judgement(effect)}{_collapsed(effect)}." for effect in others]
    return [*lines, *_together(vanilla, others)]


def judgement(effect: Effect) -> str:
    """What may be said of one arm: of its direction and its size, each only if the whole interval says so."""
    low, high, size = effect.low, effect.high, f"{LARGE:g} %"
    if math.isnan(effect.difference):
        return "nothing can be said, vanilla itself found nothing"
    shown = f"({effect.difference:+.1f} %"
    if math.isnan(low):
        return f"nothing can be said of chance from one seed {shown})"
    shown += f", interval {low:+.1f} to {high:+.1f})"
    small, large = is_small(effect), is_large(effect)
    if low <= 0 <= high:
        if small:
            return f"no difference was shown, and if there is one, it is at most {size} {shown}"
        return f"undecided, the interval holds no difference as well as one of more than {size} {shown}"
    way = "higher" if low > 0 else "lower"
    if large:
        return f"{way} than vanilla by more than {size} {shown}"
    if small:
        return f"{way} than vanilla, but by at most {size} {shown}"
    return f"{way} than vanilla; whether by more than {size} is open {shown}"


def is_small(effect: Effect) -> bool:
    """Does the whole interval lie within ±5 %?"""
    return effect.low >= -LARGE and effect.high <= LARGE


def is_large(effect: Effect) -> bool:
    """Does the whole interval lie beyond 5 % on one side?"""
    return effect.high < -LARGE or effect.low > LARGE


def _collapsed(effect: Effect) -> str:
    return f"; {effect.collapsed} of {effect.seeds} runs collapsed" if effect.collapsed else ""


def _together(vanilla: Effect, others: Sequence[Effect]) -> Iterator[str]:
    if vanilla.collapsed:
        yield (
            f"Vanilla itself collapsed in {vanilla.collapsed} of {vanilla.seeds} runs: "
            "every comparison with it is in doubt."
        )
    known = [effect for effect in others if not math.isnan(effect.low)]
    if not known:
        return
    large = [effect.arm.title for effect in known if is_large(effect)]
    open_ = [effect.arm.title for effect in known if not (is_large(effect) or is_small(effect))]
    claim = f'"No choice matters much", if much is more than {LARGE:g} %,'
    if large:
        yield f"{claim} is contradicted here by: {'; '.join(large)}."
    elif open_:
        yield f"{claim} is neither shown nor refuted here; open: {'; '.join(open_)}."
    else:
        yield f"{claim} holds here for each of the arms tried."
    beside = sum(not effect.low <= 0 <= effect.high for effect in known)
    yield (
        f"{beside} of {len(known)} intervals leave out 0; if no arm made any difference, about one in "
        f"{round(1 / (1 - CONFIDENCE))} would by chance."
    )
