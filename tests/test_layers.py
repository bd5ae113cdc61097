"""The order of the house: imports go down one list of rooms, and NumPy is all that `import minidl` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

PACKAGE = Path(minidl.__file__).parent
ROOMS = (
    "dtypes", "backend", "cuda", "files", "kernels", "backends", "devices", "recording", "autograd",
    "mixed_precision", "utils", "ops", "inplace", "tensor", "methods", "linalg", "serialize", "nn", "optim",
    "amp", "models", "crf", "summary", "plot", "receptive_field", "checkerboard", "data", "segment",
    "testing", "check", "notebook", "arguments", "cli",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))
HOST_ONLY = {"dtype", "ndarray", "generic", "integer", "intp", "bool_", "iinfo", "finfo", "promote_types",
             "int32", "int64", "uint8", "uint64", "float16", "float32", "float64", "argsort", "prod",
             "cumsum", "asarray", "broadcast_shapes"}  # fmt: skip


def name_of(path):
    return "/".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """Every module that a file imports, also inside functions; `from minidl import nn` names minidl.nn."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # types may point upwards: nothing is imported when the program runs
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            names = [f"minidl.{a.name}" for a in node.names] if node.module == "minidl" else [node.module]
            yield from names


def rooms(modules):
    """The rooms among some modules; `import minidl` stands for all rooms that it opens."""
    for package, _, rest in (module.partition(".") for module in modules):
        if package == "minidl":
            room = rest.split(".")[0]
            yield from {room} if room in ROOMS else OPENED


OPENED = {module.split(".")[1] for module in imports(PACKAGE / "__init__.py") if module.startswith("minidl.")}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE or p.stem[:2] != "__"], ids=name_of)
def test_imports_go_only_down(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert own in ROOMS, f"{own} has no place in the list of rooms"
    above = {other for other in rooms(imports(path)) if ROOMS.index(other) > ROOMS.index(own)}
    assert not above, f"{name_of(path)} imports {sorted(above)}, which stand above {own}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_cupy_is_known_to_the_backend_alone(path):
    if name_of(path) != "backend":
        assert not [module for module in imports(path) if module.split(".")[0] in ("cupy", "cupyx")]


@pytest.mark.parametrize("path", sorted((PACKAGE / "ops").glob("*.py")), ids=name_of)
def test_ops_compute_with_the_module_they_are_given(path):
    if path.stem == "bands":
        return  # its matrices are made on the host
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("np", "numpy")
    }
    assert used <= HOST_ONLY, f"{name_of(path)} computes with numpy: {sorted(used - HOST_ONLY)}"


HEAVY = ("cupy", "matplotlib", "nibabel", "PIL", "pooch", "safetensors", "scipy", "torch", "tqdm")


def test_importing_minidl_loads_numpy_only():
    program = f"import minidl, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_types_of_methods_are_those_that_tensors_have():
    stub = ast.parse((PACKAGE / "tensor_methods.pyi").read_text())
    (methods,) = (node for node in stub.body if isinstance(node, ast.ClassDef))
    declared = {node.name for node in methods.body if isinstance(node, ast.FunctionDef)}
    assert declared == set(minidl.methods._METHODS)
