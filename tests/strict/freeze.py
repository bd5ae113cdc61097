"""Write cupy_api.json: the names of CuPy and the parameters of its functions, for the stand-in.

`python tests/strict/freeze.py`, where CuPy is installed; it needs no GPU. `null` stands for anything that is
no function or does not tell its parameters.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

MODULES = ("", "linalg", "fft", "random", "lib.stride_tricks")
SCIPY = ("special", "ndimage")


def parameters(function: object) -> list[str] | None:
    """Names of parameters; "*" and "**" where any number of them is taken."""
    try:
        found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [marks.get(p.kind, p.name) for p in found]


def public(module: object, prefix: str = "") -> dict[str, list[str] | None]:
    """The public names of a module or class."""
    return {
        prefix + name: parameters(getattr(module, name, None))
        for name in dir(module)
        if not name.startswith("_")
    }


def main() -> None:
    import cupy
    import cupyx.scipy.ndimage
    import cupyx.scipy.special

    api = {"version": cupy.__version__, "ndarray": public(cupy.ndarray), "xp": {}}
    for name in MODULES:
        module = cupy
        for part in filter(None, name.split(".")):
            module = getattr(module, part)
        api["xp"] |= public(module, f"{name}." if name else "")
    for name in SCIPY:
        api[name] = public(getattr(cupyx.scipy, name))
    text = json.dumps(api, sort_keys=True, separators=(",", ":"))
    Path(__file__).with_name("cupy_api.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
