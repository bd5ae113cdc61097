"""A CRF behind a trained network (`minidl predict --crf`): neighbours that look alike get the same label.

It works where the image and the probabilities live together: on the grid of the image as it was read, with
the logits resampled to it, so that no detail of the image is lost. Bandwidths are lengths in mm (pixels, for
pictures, which know no mm), and grey values count as the network sees them: after normalisation.

The CRF is the windowed one, since it can be cut into tiles without an error: a voxel that is farther away
than all windows of all iterations reach has no influence at all. So an image of any size fits into memory.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

import minidl
from minidl.backend import to_numpy
from minidl.crf import DenseCRF
from minidl.data import Image
from minidl.data.dataset import counted
from minidl.files import atomic_write
from minidl.segment.inference import Member, tiled
from minidl.segment.plan.fingerprint import nonzero_box
from minidl.segment.plan.schema import parse, to_text
from minidl.segment.preprocess import normalize

NAME = "crf.json"
WEIGHTS_AT_ONCE = 2**25  # of a tile: one for each of its voxels and each voxel of the window


@dataclass(frozen=True)
class Crf:
    """What `DenseCRF` is made of: lengths in mm, `reach` being the largest distance between neighbours.

    `smoothness` is (θ_γ, w), `appearance` (θ_α, θ_β, w), `compatibility` the diagonal of μ, one number for
    each class. Without either kernel nothing is changed.
    """

    smoothness: tuple[float, ...] | None
    appearance: tuple[float, ...] | None
    iterations: int
    reach: float
    compatibility: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.reach < math.inf:
            raise ValueError(f"reach must be a length, 0 or more, got {self.reach}")
        self._module(1)

    def __bool__(self) -> bool:
        """Whether there is anything that it could change."""
        return bool(self.smoothness or self.appearance) and self.iterations > 0

    def __str__(self) -> str:
        parts = []
        if self.smoothness:
            parts.append("smoothness {:g} mm, weight {:g}".format(*self.smoothness))
        if self.appearance:
            parts.append("appearance {:g} mm, {:g} grey, weight {:g}".format(*self.appearance))
        if not self:
            return "no CRF"
        costs = ", ".join(f"{cost:g}" for cost in self.compatibility)
        return f"{'; '.join(parts)}; {counted(self.iterations, 'iteration')}; compatibility {costs}"

    def save(self, folder: Path) -> None:
        """Write into the folder of a run."""
        with atomic_write(folder / NAME) as temporary:
            temporary.write_text(to_text(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, classes: int) -> Crf:
        """Read what `save` wrote; ValueError that says what to do without a file, or names a damaged one."""
        path = folder / NAME
        if not path.exists():
            raise ValueError(f"{folder} has no {NAME}; `minidl crf {folder}` makes one")
        try:
            crf = parse(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not hold the parameters of a CRF: {error}") from error
        if len(crf.compatibility) != classes:
            raise ValueError(
                f"{path} is for {len(crf.compatibility)} classes, the network of {folder} has {classes}"
            )
        return crf

    def radius(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """The neighbours before and after a voxel, along each axis."""
        return tuple(int(self.reach / step + 1e-6) for step in spacing)

    def halo(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far a voxel sees: one radius an iteration, and another for the sums that normalise."""
        return tuple((self.iterations + 1) * r for r in self.radius(spacing))

    def tile(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """Parts of an image that fit into memory with their halo; of its size, if that fits."""
        taps = math.prod(2 * r + 1 for r in self.radius(spacing))
        halo, tile = self.halo(spacing), list(size)
        while max(tile) > 1:
            outer = math.prod(min(t + 2 * h, n) for t, h, n in zip(tile, halo, size))
            if outer * taps <= WEIGHTS_AT_ONCE:
                break
            longest = int(np.argmax(tile))
            tile[longest] = -(-tile[longest] // 2)
        return tuple(tile)

    def on(self, spacing: Sequence[float], channels: int, device: str) -> Callable[[np.ndarray], np.ndarray]:
        """A function from an image's channels and then logits (1, C + K, *S) to refined logits (1, K, *S)."""
        crf = self._module([2 * r + 1 for r in self.radius(spacing)]).to(device=device)

        @minidl.no_grad()
        def refine(stacked: np.ndarray) -> np.ndarray:
            both = minidl.from_numpy(np.ascontiguousarray(stacked)).to(device)
            return to_numpy(crf(both[:, channels:], both[:, :channels], spacing).array)

        return refine

    def _module(self, window: int | Sequence[int]) -> DenseCRF:
        return DenseCRF(
            "window", window=window, iterations=self.iterations, smoothness=self.smoothness,  # type: ignore[arg-type]
            appearance=self.appearance, compatibility=self.compatibility,  # type: ignore[arg-type]
        )  # fmt: skip


def with_crf(member: Member, run: Path, device: str = "cpu") -> CrfMember:
    """The network of a run with the CRF that was fitted to it; ValueError if none was."""
    return CrfMember(member.network, member.config, member, Crf.load(run, len(member.config.classes)), device)


@dataclass(frozen=True)
class CrfMember(Member):
    """A network of an ensemble whose logits go through a CRF before anyone else sees them."""

    member: Member
    crf: Crf
    device: str = "cpu"

    def rows(self, image: Image, axis: int) -> Iterator[np.ndarray]:
        rows = self.member.rows(image, axis)
        return self._refined(rows, image, axis) if self.crf else rows

    def _refined(self, rows: Iterator[np.ndarray], image: Image, axis: int) -> Iterator[np.ndarray]:
        """Slab by slab, as the rows come; and a slab in tiles, where it is large."""
        rules, crf = self.config.configuration.normalization, self.crf
        inside = image.array[
            (slice(len(rules)), *nonzero_box(image.array))
        ]  # of a cascade: without the labels
        look = np.moveaxis(normalize(inside, rules), axis + 1, 1)
        spacing = (image.spacing[axis], *np.delete(image.spacing, axis).tolist())
        refine = crf.on(spacing, len(look), self.device)
        n, *rest = look.shape[1:]
        depth, *tile = crf.tile((n, *rest), spacing)
        halo = crf.halo(spacing)
        held: deque[np.ndarray] = deque()
        low = 0  # the place of the first row that is held
        for start in range(0, n, depth):
            stop = min(start + depth, n)
            for _ in range(low, max(start - halo[0], 0)):
                held.popleft()
                low += 1
            high = min(stop + halo[0], n)
            held.extend(islice(rows, high - low - len(held)))
            stacked = np.concatenate([look[:, low:high], np.stack(held, 1)])
            sides = [(0, 0), *((h, h) for h in halo[1:])]  # along the first axis the halo is there already
            refined = tiled(refine, stacked, (high - low, *tile), sides, (1,) * len(spacing))
            yield from np.moveaxis(refined[:, start - low : stop - low], 1, 0)
