"""The job behind `minidl crf`: the parameters of a run's CRF, as they are best for its validation cases.

One parameter after another takes the value with the best mean Dice, the others being held: a coordinate
search over coarse steps, since a few validation cases cannot tell fine ones apart. The network predicts each
case once. Of all that was tried the best is taken that makes no class worse, as for the components that are
removed (`postprocess.py`); "no CRF" is among them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from minidl.data import Case, Image
from minidl.segment import cascade
from minidl.segment.crf import NAME, Crf, CrfMember
from minidl.segment.inference import Member, common_axis, predict_ensemble
from minidl.segment.metrics import format_table
from minidl.segment.postprocess import Postprocessing, mean_dice_of_cases
from minidl.segment.run import load_splits
from minidl.segment.trained import run_folders

# Half a window, in voxels: 11 x 11 as in ConvCRF (Teichmann and Cipolla 2018), and 5 x 5 x 5.
RADIUS = {2: 5, 3: 2}
ITERATIONS = 5

Change = Callable[[Crf], Crf]


def crf(run: Path, device: str = "cpu") -> list[Crf]:
    """Fit the CRF of a run, or of every fold in a folder of cross-validation, to its validation cases.

    The cases are read again from where the training read them. What was tried is printed, what was chosen
    goes into crf.json beside the weights. Deterministic.
    """
    return [_fit(folder, device) for folder in run_folders(run)]


def _fit(run: Path, device: str) -> Crf:
    member = cascade.load_member(run, device=device)
    config = member.config
    data = None if config.data is None else Path(config.data)
    previous = cascade.copied_previous(run, config)
    _, splits = load_splits(data, config.dims, config.ratio, config.fold, previous, device)
    member = Member(member.network, config)  # of a cascade: the cases have gone through its first stage
    with tempfile.TemporaryDirectory() as folder:
        cases = _predicted(member, splits.validation, Path(folder))
        best, rows = search(cases, Postprocessing.load(run), config.classes, device)
    print(format_table(rows))
    best.save(run)
    print(f"\nChosen on {len(cases)} validation cases: {best}.")
    print(f"In {run / NAME}; `minidl predict --crf` applies it.")
    return best


@dataclass(frozen=True)
class _Predicted(Member):
    """A network that has spoken already: its rows of logits of one image, in a file."""

    path: Path

    def rows(self, image: Image, axis: int) -> Iterator[np.ndarray]:
        return iter(np.load(self.path, mmap_mode="r"))


def _predicted(member: Member, cases: Sequence[Case], folder: Path) -> list[tuple[Member, Case]]:
    from tqdm import tqdm

    found: list[tuple[Member, Case]] = []
    for k, case in enumerate(tqdm(cases, "Predicting the validation cases", leave=False)):
        path = folder / f"{k}.npy"
        np.save(path, np.stack(list(member.rows(case.image, common_axis([member], case.image)))))
        found.append((_Predicted(member.network, member.config, path), case))
    return found


# ---- search -----------------------------------------------------------------------------------------


def search(
    cases: Sequence[tuple[Member, Case]],
    postprocessing: Postprocessing,
    classes: Sequence[str],
    device: str = "cpu",
) -> tuple[Crf, list[dict]]:
    """The best parameters for these cases, and a row for all that were tried: their Dice after everything
    that `minidl predict` does.
    """
    from tqdm import tqdm

    truths = [case.label.array for _, case in cases]
    start = first_guess([case.image.spacing for _, case in cases], len(classes))
    none = replace(start, smoothness=None, appearance=None)
    steps = list(coordinates(len(classes)))
    best, scores = start, dict[Crf, np.ndarray]()
    total = (2 + sum(map(len, steps))) * len(cases)
    with tqdm(total=total, desc="Fitting the CRF", unit="case") as bar:

        def measure(candidate: Crf) -> None:
            if candidate in scores:
                bar.update(len(cases))
                return
            predictions = []
            for member, case in cases:
                refined = CrfMember(member.network, member.config, member, candidate, device)
                predictions.append(postprocessing(predict_ensemble([refined], case.image)))
                bar.update()
            scores[candidate] = mean_dice_of_cases(predictions, truths, len(classes))

        measure(none)
        measure(start)
        for step in steps:
            tried = [crf for change in step if (crf := change(best))]  # one kernel at least is kept
            for candidate in tried:
                measure(candidate)
            best = max([best, *tried], key=lambda crf: scores[crf].mean())  # the first of equals
    allowed = [crf for crf in scores if (scores[crf] >= scores[none]).all()]
    rows = [
        {"parameters": str(crf), **dict(zip(classes[1:], dice.tolist())), "mean Dice": float(dice.mean())}
        for crf, dice in scores.items()
    ]
    return max(allowed, key=lambda crf: scores[crf].mean()), rows


def first_guess(spacings: Sequence[Sequence[float]], classes: int) -> Crf:
    """Where the search begins: lengths of a voxel or two, grey values of a standard deviation, Potts."""
    voxel = float(np.median([min(spacing) for spacing in spacings]))
    return Crf(
        smoothness=(voxel, 1.0),
        appearance=(2 * voxel, 0.5, 1.0),
        iterations=ITERATIONS,
        reach=RADIUS[len(spacings[0])] * voxel,
        compatibility=(-1.0,) * classes,
    )


def coordinates(classes: int) -> Iterator[list[Change]]:
    """What is tried, parameter after parameter: changes of the best so far. Weight 0 drops a kernel."""
    yield [partial(_appearance, 1, factor) for factor in (0.2, 2)]  # θ_β, grey values
    yield [partial(_appearance, 2, factor) for factor in (0, 0.3, 3)]  # w
    yield [partial(_appearance, 0, factor) for factor in (0.5, 2)]  # θ_α, mm
    yield [partial(_smoothness, 1, factor) for factor in (0, 0.3, 3)]  # w
    yield [partial(_smoothness, 0, factor) for factor in (0.5, 2)]  # θ_γ, mm
    yield [partial(_iterations, n) for n in (1, 2)]
    for c in range(classes):
        yield [partial(_cost, c, cost) for cost in (-0.5, -2.0)]


def _appearance(place: int, factor: float, crf: Crf) -> Crf:
    return replace(crf, appearance=_scaled(crf.appearance, place, factor))


def _smoothness(place: int, factor: float, crf: Crf) -> Crf:
    return replace(crf, smoothness=_scaled(crf.smoothness, place, factor))


def _scaled(values: tuple[float, ...] | None, place: int, factor: float) -> tuple[float, ...] | None:
    """A kernel's numbers, one of them times a factor; no kernel times 0."""
    if values is None or not factor:
        return None
    return (*values[:place], values[place] * factor, *values[place + 1 :])


def _iterations(n: int, crf: Crf) -> Crf:
    return replace(crf, iterations=n)


def _cost(c: int, cost: float, crf: Crf) -> Crf:
    costs = crf.compatibility
    return replace(crf, compatibility=(*costs[:c], cost, *costs[c + 1 :]))
