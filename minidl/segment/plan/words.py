"""Numbers as a person writes them."""

from __future__ import annotations

from collections.abc import Sequence


def by(values: Sequence[float], unit: str = "") -> str:
    """Lengths along the axes: (40, 56, 40) -> "40x56x40"."""
    return "x".join(f"{value:.4g}" for value in values) + f" {unit}".rstrip()


def often(values: Sequence[int]) -> str:
    """How often per axis: "3 times", or "3, 3, 2 times"."""
    return f"{values[0] if len(set(values)) == 1 else ', '.join(map(str, values))} times"


def amount(size: float) -> str:
    """Bytes in powers of 1000: "9.9 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def bytes_of(text: str) -> int:
    """The inverse of `amount`: "8GB", "8 GiB", "500 MB" or a plain number of bytes.

    Errors: ValueError for anything else.
    """
    powers = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
              "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
    number = text.strip().rstrip("BbKkMmGgTtIi ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = float(number) * powers[unit]
        if not 0 < size < float("inf"):
            raise ValueError
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no amount of memory; write for instance 8GB, 8GiB or 500MB") from None
    return round(size)
