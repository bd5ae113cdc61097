"""Dataclasses as JSON and back: whatever a file holds, `parse` gives an object of the declared types or says
where the file is wrong.
"""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

LINE = 100  # characters


def parse(kind: Any, value: Any, where: str = "") -> Any:
    """The value, as `json.loads` gives it, as an object of a type: a dataclass, tuple[X, ...], dict[str, X],
    X | None, str, bool, int or (finite) float. What a file of an earlier version lacks takes its default.

    Errors: ValueError that names the place, as in "configurations.2d.patch[0]: expected int, got 'x'".
    """
    origin, inside = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        return _parse_object(kind, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(parse(inside[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: parse(inside[1], item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if origin is UnionType and NoneType in inside:
        return None if value is None else parse(inside[0], value, where)
    if kind is float and type(value) in (int, float):
        return _finite(value, where)
    if type(value) is kind:  # not isinstance: True is no int here
        return value
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    raise ValueError(f"{where or 'the file'}: expected {name}, got {str(value)[:60]!r}")


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where}: expected a finite number")
    return number


def _parse_object(kind: Any, value: dict[str, Any], where: str) -> Any:
    types = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    if wrong := sorted((names ^ value.keys()) - optional):
        missing = [name for name in wrong if name in names]
        raise ValueError(
            f"{where or 'the file'}: "
            + (f"{', '.join(missing)} missing" if missing else f"unknown {', '.join(wrong)[:200]}")
        )
    parts = {name: parse(types[name], value[name], f"{where}.{name}".lstrip(".")) for name in value}
    try:
        return kind(**parts)
    except ValueError as error:  # the dataclass itself refuses what does not fit together
        raise ValueError(f"{where}: {error}".lstrip(": ")) from error


def to_text(value: Any, indent: str = "") -> str:
    """JSON for people: whatever fits on a line stands on one line."""
    flat = json.dumps(value, allow_nan=False)
    if not isinstance(value, (dict, list, tuple)) or len(indent) + len(flat) <= LINE:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        opening, closing = "{", "}"
        items = [f"{json.dumps(key)}: {to_text(item, inner)}" for key, item in value.items()]
    else:
        opening, closing, items = "[", "]", []
        for item in (to_text(item, inner) for item in value):
            fits = items and "\n" not in items[-1] + item and len(inner + items[-1] + item) + 2 <= LINE
            items[-1:] = [f"{items[-1]}, {item}"] if fits else [*items[-1:], item]
    return opening + ",".join(f"\n{inner}{item}" for item in items) + f"\n{indent}{closing}"
