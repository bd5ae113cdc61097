"""The words of the command line as values: a function for each kind, which refuses what it cannot read."""

from __future__ import annotations

import argparse


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def whole(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def split(text: str) -> tuple[int, ...]:
    """TRAIN,VALIDATION,TEST."""
    parts = tuple(count(part) for part in text.split(","))
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"expected TRAIN,VALIDATION,TEST, got {text}")
    return parts


def sizes(text: str) -> tuple[int, ...]:
    """1x1x256x256."""
    return tuple(count(part) for part in text.lower().split("x"))


def position(text: str) -> tuple[int, ...]:
    """ROW,COLUMN."""
    return tuple(int(part) for part in text.split(","))


def option(text: str) -> tuple[str, object]:
    """OPTION=VALUE."""
    import ast

    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"expected OPTION=VALUE, got {text}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word: norm=batch


def minutes(text: str) -> float | None:
    """A number above 0, or None for "unlimited"."""
    return None if text == "unlimited" else positive(text)


def device(text: str) -> str:
    """cpu, cuda or cuda:N, if it is there."""
    from minidl import backend, cuda

    try:
        if backend.as_device(text) != backend.CPU:
            cuda.get_device_properties(text)
    except (ValueError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def memory(text: str) -> int:
    """Bytes: 8GB."""
    from minidl.segment.plan.words import bytes_of

    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
