"""functions.md: every public function with its formula, and the law of every op, read off the code."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import minidl
from minidl import amp, cuda, nn, optim
from minidl.autograd import Op
from minidl.nn import functional
from minidl.ops import bilinear, elementary, fused, linear, logic, pointwise  # noqa: F401 - registers all ops

PAGE = Path(__file__).with_name("functions.md")

BEYOND = [
    "conv_output_size", "deep_supervision_loss", "deep_supervision_weights", "dice_ce_loss", "dice_loss",
    "focal_loss", "generalized_dice_loss", "jaccard_loss", "resize_labels", "sigmoid_focal_loss",
    "tversky_index", "tversky_loss", "unet_weight_map", "weighted_cross_entropy",
]  # fmt: skip

INTRODUCTION = """# What minidl computes

Made from the code by `python -m docs`. Names, arguments and defaults are PyTorch's. What PyTorch does
not have is marked with ★. Every function here differentiates to any order where its derivative exists.

## Where minidl differs from PyTorch

`tests/test_op_db.py` runs PyTorch's own samples of arguments through both libraries and holds a table of
those where they differ. By intention:

- `topk` keeps equals in order, as a stable `sort`; PyTorch leaves their order open.
- `norm(p="nuc")` is refused: there are no singular values.
- Labels and targets may be of any integer dtype, and `max_pool` takes them too.
- `interpolate` of uint8 weighs in float32 where PyTorch weighs in 16-bit integers: it may differ by 1.
- Mistakes that PyTorch only warns about, or repairs silently, raise: targets of another shape that
  would broadcast, `dropout2d` of a 3-D input, one value per group in `group_norm`.
- `tensor[index] = value` is refused, since a recorded op may still need the old values;
  `minidl.index_put` and `minidl.where` make a new tensor. In-place methods (`add_`, `copy_`, ...) change
  leaf tensors only, and those that require a gradient only under `no_grad`.
- Slices may have negative steps, as in NumPy. Dtypes are NumPy's.
- A tensor keeps its values in `.array`, a NumPy or CuPy array.
- Arguments that PyTorch keeps for compatibility (`size_average`, `reduce`, `inplace`, `out`) do not exist.
- `autocast` computes in float16 alone, as NumPy has no bfloat16, and by one list on the CPU and on the GPU.
- `cuda.max_memory_allocated` counts from the first `cuda.reset_peak_memory_stats()` on.
- `interpolate` also knows cubic interpolation in 1-D and 3-D (`mode="cubic"`, `"tricubic"`) ★.
"""


def _sentence(thing: Any) -> str:
    """The first paragraph of a docstring, as one line of a table."""
    text = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def _signature(name: str, thing: Any) -> str:
    """The name with its arguments, without types."""
    if isinstance(thing, Op):
        arguments = {1: "input", 2: "input, other"}.get(len(thing.inputs), ", ".join(thing.inputs))
        return f"{name}({arguments})"
    parts = [
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in inspect.signature(thing).parameters.values()
        if p.name not in ("self", "rank", "name")
    ]
    return f"{name}({', '.join(parts)})"


def _table(names: Iterable[str], module: ModuleType) -> str:
    lines = ["| function | what it computes |", "|---|---|"]
    for name in names:
        thing = getattr(module, name)
        star = " ★" if name in BEYOND else ""
        lines.append(f"| `{_signature(name, thing)}`{star} | {_sentence(thing)} |")
    return "\n".join(lines)


def _functions(module: ModuleType) -> list[str]:
    return sorted(
        name
        for name in module.__all__
        if callable(getattr(module, name)) and not inspect.isclass(getattr(module, name))
    )


def _classes(module: ModuleType) -> list[str]:
    return sorted(name for name in module.__all__ if inspect.isclass(getattr(module, name)))


def _laws() -> str:
    """The ops by law: all that has a vjp of its own; every other function is a composition of these."""
    lines = ["| law | ops |", "|---|---|"]
    for law in ("pointwise", "linear", "bilinear", "fused"):
        ops = sorted(name for name, op in Op.registry.items() if op.law == law)
        lines.append(f"| {law} ({len(ops)}) | {', '.join(f'`{name}`' for name in ops)} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page, in Markdown."""
    return "\n\n".join([
        INTRODUCTION.strip(),
        "## Ops and their laws\n\nEverything with a gradient of its own; all else is composed of these.",
        _laws(),
        "## `minidl`", _table(_functions(minidl), minidl),
        "## `minidl.nn.functional`", _table(_functions(functional), functional),
        "## `minidl.nn`", _table(_classes(nn), nn),
        "## `minidl.optim`", _table(_classes(optim), optim),
        "## `minidl.amp`", _table(_classes(amp), amp),
        "## `minidl.cuda`", _table(_functions(cuda), cuda),
    ]) + "\n"  # fmt: skip
