"""From rows of logits on the network's grid to rows on the image's own, one after another.

A row is what lies at one place of an axis: logits (K, *rest) of a volume's plane, or of a picture's line.
Only as many rows are held as an interpolation needs: logits of a volume of any length fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from minidl.data.geometry import resample


def resample_rows(
    blocks: Iterable[np.ndarray], n: int, shape: Sequence[int], axis: int, nearest: int | None
) -> Iterator[np.ndarray]:
    """The rows (K, *rest) of `resample(logits, shape, 1, nearest)` along an axis, from blocks of logits.

    The blocks (K, r, *rest), n rows together, have that axis in front of the others; it counts, as `nearest`
    does, among the axes of `shape`.
    """
    q, rest = shape[axis], [size for i, size in enumerate(shape) if i != axis]
    nearest_rest = None if nearest is None or nearest == axis else nearest - (nearest > axis)
    places = (np.arange(q) + 0.5) * n / q
    places = np.floor(places) if nearest == axis else np.clip(places - 0.5, 0, n - 1)
    below = places.astype(int)
    share = (places - below).astype(np.float32)  # of the row above
    above = below + (share > 0)
    row, last, i = None, -1, 0
    for block in blocks:
        for following in np.moveaxis(resample(block, rest, 1, nearest_rest), 1, 0):
            row, before, last = following, row, last + 1
            while i < q and above[i] == last:
                yield row if not share[i] else (1 - share[i]) * before + share[i] * row
                i += 1
