"""Random splits into training, validation and test cases."""

from collections.abc import Sequence

import numpy as np


def split_indices(
    n: int, ratio: Sequence[int] = (10, 1, 2), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deals the indices 0 ... n - 1 into (train, validation, test), in proportion to `ratio`.

    A ratio that sums to n gives exact counts. Every part gets at least one index, so n must be
    at least 3. The same n, ratio and seed give the same split.
    """
    if len(ratio) != 3 or min(ratio) <= 0:
        raise ValueError(f"split_indices: ratio must be three positive numbers, got {tuple(ratio)}")
    if n < 3:
        raise ValueError(f"split_indices: three parts need at least 3 cases, got {n}")
    train, validation, _ = ratio
    first = round(n * train / sum(ratio))
    second = round(n * (train + validation) / sum(ratio))
    first = min(max(first, 1), n - 2)
    second = min(max(second, first + 1), n - 1)
    parts = np.split(np.random.default_rng(seed).permutation(n), [first, second])
    return parts[0], parts[1], parts[2]
