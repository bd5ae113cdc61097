"""The network that a person names on the command line."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from minidl import models
from minidl.nn import Module


def find_model(text: str, **options: Any) -> Module:
    """A built-in network ("unet2d"), that of a run ("runs/phantom-2d"), or what a call gives ("file:build").

    The options go to the builder of a built-in network or to the callable; a run has its own in config.json.
    "package.module:callable" is also looked for in the working directory, as `python -m` does: it runs code.
    Errors: ValueError that says what was looked for and which names are built in.
    """
    module, colon, name = text.partition(":")
    if (Path(text) / "config.json").is_file():
        from minidl.segment.trained import load_run

        if options:
            raise ValueError(f"find_model: {text} is a run; its network takes no options, got {options}")
        return load_run(Path(text))[1]
    if colon and all(part.isidentifier() for part in (*module.split("."), name)):
        return _call(module, name, options)
    try:
        return models.build(text, **options)
    except ValueError as error:
        raise ValueError(
            f"{error}; or name the folder of a run, which holds config.json, or MODULE:CALLABLE"
        ) from error


def _call(module: str, name: str, options: dict[str, Any]) -> Module:
    """What module.name(**options) makes, or module.name itself where it is a Module."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"find_model: there is no {name} in a module {module}: {error}") from error
    model = found if isinstance(found, Module) or not callable(found) else found(**options)
    if not isinstance(model, Module):
        raise TypeError(f"find_model: {module}:{name} gave a {type(model).__name__}, expected an nn.Module")
    return model
