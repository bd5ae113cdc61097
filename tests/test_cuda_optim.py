"""The CUDA kernels of the optimisers, run on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

from minidl.kernels import cuda_module, cuda_optim, reference

SGD = dict(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)
ADAM = dict(
    lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False, maximize=False, step=3
)  # fmt: skip
CASES = {  # kernel, number of states, options
    "sgd": ("sgd", 0, SGD),
    "sgd, decay": ("sgd", 0, {**SGD, "weight_decay": 0.3, "maximize": True}),
    "sgd, momentum": ("sgd", 1, {**SGD, "momentum": 0.9, "dampening": 0.4}),
    "sgd, Nesterov": ("sgd", 1, {**SGD, "momentum": 0.99, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("adam", 2, ADAM),
    "adam, decay": ("adam", 2, {**ADAM, "weight_decay": 0.3, "maximize": True, "eps": 0.1}),
    "adam, decoupled": ("adam", 2, {**ADAM, "weight_decay": 0.3, "decoupled": True, "step": 1}),
    "adam, amsgrad": ("adam", 3, {**ADAM, "betas": [0.5, 0.7], "step": 1000}),
}
SHAPES = [(), (1,), (0, 3), (5,), (3, 4), (70,), (2, 3, 2, 2), (16,), (33,)]
TOLERANCE = {"float16": 4e-3, "float32": 2e-6, "float64": 1e-14}


def updates(case, dtype="float32", shapes=SHAPES, seed=0):
    _, states, options = case
    rng = np.random.default_rng(seed)
    draw = lambda shape: np.array(rng.standard_normal(shape), dtype)
    # the squares of gradients, and the largest of them, are positive
    state = lambda shape, k: draw(shape) if k == 0 else abs(draw(shape))
    return [
        ((draw(shape), draw(shape), *(state(shape, k) for k in range(states))), options) for shape in shapes
    ]


def moved(kernels, name, given):
    copies = [(tuple(np.array(a, order="K") for a in arrays), options) for arrays, options in given]
    getattr(kernels, name)(copies)
    return copies


def compare(name, given):
    for (found, _), (wanted, _) in zip(moved(cuda_optim, name, given), moved(reference, name, given)):
        for f, w in zip(found, wanted, strict=True):
            close = TOLERANCE[f.dtype.name]
            np.testing.assert_allclose(f, w, rtol=close, atol=close * max(1, abs(w).max(initial=0)))


def check(case, dtype="float32", shapes=SHAPES, seed=0):
    compare(case[0], updates(case, dtype, shapes, seed))


pytestmark = pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def short_tables_and_blocks(monkeypatch):
    for name, value in (("ROWS", 4), ("BLOCK", 8), ("MOST_BLOCKS", 3)):
        monkeypatch.setattr(cuda_optim, name, value)
    monkeypatch.setattr(cuda_module, "BLOCK", 8)


def test_the_usual_table_and_blocks(monkeypatch):
    monkeypatch.undo()
    with shim.on_the_cpu():
        check(CASES["adam"], shapes=[(3,)] * 70 + [(300,)])


@every_case
def test_steps_are_the_references(case):
    for order in shim.ORDERS:
        with shim.on_the_cpu(order):
            check(case)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", ["sgd, Nesterov", "adam, amsgrad"])
def test_other_types(name, dtype):
    with shim.on_the_cpu("scrambled"):
        check(CASES[name], dtype)


def test_groups_types_and_layouts_in_one_call():
    """What no kernel takes goes the way of the reference, in the same call."""
    case = CASES["sgd, momentum"]
    slow = ("sgd", 1, {**case[2], "lr": 1e-3})
    given = [*updates(case), *updates(case, "float64"), *updates(slow)]
    given += [(tuple(a.T for a in arrays), options) for arrays, options in updates(case, shapes=[(3, 4)])]
    (w, g, v), options = updates(case, shapes=[(6,)])[0]
    given.append(((w, g.astype(np.float16), v), options))
    with shim.on_the_cpu():
        compare("sgd", given)


def test_a_gradient_that_is_no_number_spoils_no_other_element():
    given = updates(CASES["adam, amsgrad"], shapes=[(9,), (9,)])
    given[0][0][1][4] = np.nan
    given[0][0][4][6] = np.nan
    with shim.on_the_cpu():
        (found, _), (other, _) = moved(cuda_optim, "adam", given)
    for array in found[0], found[4]:
        assert [*np.flatnonzero(np.isnan(array))] == [4, 6]
    assert all(np.isfinite(a).all() for a in other)


@pytest.mark.parametrize("name", ["sgd, Nesterov", "sgd", "adam, amsgrad", "adam"])
def test_the_plain_kernels_are_the_references(name):
    kernel, _, options = CASES[name]
    ((given, _),) = updates(CASES[name], shapes=[(40,)])
    arrays = [a.copy() for a in given]
    row = np.zeros(1, cuda_optim.PARAMETER)
    addresses = [cuda_module.address(a) for a in arrays]
    row["w"], row["g"], row["count"] = addresses[0], addresses[1], 40
    row["state"][0, : len(addresses) - 2] = addresses[2:]
    packed = getattr(cuda_optim, f"_{kernel}")(np.float32, **options)
    with shim.on_the_cpu("backward"):
        macros = cuda_module.MACROS[np.dtype(np.float32)]
        cuda_module.function("optim.cu", f"{kernel}_plain", **macros)((5,), (9,), (row, packed))
    ((wanted, _),) = moved(reference, kernel, [(given, options)])
    for f, w in zip(arrays, wanted):
        np.testing.assert_allclose(f, w, rtol=2e-6, atol=2e-6)


@pytest.mark.slow
def test_random_geometries():
    rng = np.random.default_rng(0)
    for k in range(48):
        shapes = [tuple(map(int, rng.integers(1, 9, rng.integers(1, 4)))) for _ in range(rng.integers(1, 11))]
        with shim.on_the_cpu(shim.ORDERS[k % 3]):
            check(list(CASES.values())[k % len(CASES)], list(TOLERANCE)[k // 3 % 3], shapes, k)


# ---- planted faults ----------------------------------------------------------------------------------

FAULTS = {
    "one element too few": ("i < p.count; i +=", "i < p.count - 1; i +="),
    "no further elements": ("i += (long long)gridDim.x * BLOCK", "i += p.count"),
    "steps of a block": ("i += (long long)gridDim.x * BLOCK", "i += 2 * BLOCK"),
    "blocks overlap": ("i = (long long)blockIdx.x * BLOCK +", "i ="),
    "the next row": ("table.row[blockIdx.y]", "table.row[(blockIdx.y + 1) % ROWS]"),
    "momentum is not kept": ("p.state[0][i] = real(v);", ""),
    "Nesterov looks back": ("g + momentum * v", "g + v"),
    "the steps of Adam go up": ("w - rate * (m", "w + rate * (m"),
    "the mean is not kept": ("p.state[0][i] = real(m), ", ""),
    "the smallest square": ("!(v > largest)", "v > largest"),
    "the wrong moment": ("sum_t(p.state[1][i])", "sum_t(p.state[0][i])"),
    "decay without its rate": ("g += weight_decay * w", "g += w"),
    "dampening": ("+ fresh * g", "+ g"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_planted_faults_are_found(fault):
    assert shim.notices(check, CASES.values(), fault, "optim.cu")


@pytest.mark.slow
def test_nothing_is_read_or_written_outside():
    shim.run_sanitized("test_cuda_optim")
