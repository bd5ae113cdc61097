"""A stand-in for CuPy on NumPy: it refuses what CuPy refuses, and counts the copies to the host.

    from strict.stand_in import synchronisations, xp

It has CuPy's names and parameters (cupy_api.json, frozen by freeze.py), so that CuPy is not needed. What CuPy
does in silence, it makes visible where it can: integer indices out of range wrap round, of several values
for one place any may win, reductions give 0-d arrays, the memory of a result lies in either order,
`@=` binds a new array, nothing is read-only.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

API = json.loads(Path(__file__).with_name("cupy_api.json").read_text(encoding="utf-8"))
UFUNC_METHODS = {  # the ufuncs that have them
    "reduce": {"add", "multiply"},
    "accumulate": {"add", "multiply"},
    "reduceat": {"add"},
    "at": {"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"},
    "outer": set(),
}
UFUNC_OPTIONS = {"out", "dtype", "casting", "where"}
DOORS = {"array", "asarray", "ascontiguousarray", "asfortranarray"}  # the only ways from host to device
FILLERS = {"empty", "zeros", "ones", "full"}  # what they make lies in the order of C
COUNTERS = {"nonzero", "flatnonzero", "argwhere", "unique"}  # the size of their result is known on the device
ANY_NUMBER = {"reshape", "transpose"}  # methods that take a shape as one argument or as many
REFUSED_KINDS = "OSUMm"

synchronisations = [0]
_rng = np.random.default_rng(0)


def _synchronise() -> None:
    synchronisations[0] += 1


@contextmanager
def no_synchronisation():
    """Fails if anything inside waits for the device."""
    before = synchronisations[0]
    yield
    waited = synchronisations[0] - before
    assert not waited, f"the host waited for the device {waited} times"


# ---- arrays --------------------------------------------------------------------------------------


def _host(x, name):
    """The NumPy array behind a device array; host arrays are refused, the rest goes through."""
    if isinstance(x, ndarray):
        return x._array
    if isinstance(x, np.ndarray):
        raise TypeError(f"{name}: Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, (tuple, list)):
        return type(x)(_host(part, name) for part in x)
    if isinstance(x, slice):
        return slice(*(_host(part, name) for part in (x.start, x.stop, x.step)))
    return x


def _device(result):
    """Results as device arrays, 0-d ones too, their memory in the order of C or of Fortran."""
    if isinstance(result, (np.ndarray, np.generic)):
        array = np.asarray(result)
        if array.dtype.kind in REFUSED_KINDS or array.dtype == np.longdouble:
            raise ValueError(f"Unsupported dtype {array.dtype}")
        if array.ndim > 1 and array.base is None and isinstance(result, np.ndarray) and _rng.random() < 0.5:
            array = np.array(array, order="F" if array.flags.c_contiguous else "C")
        return ndarray(array)
    if isinstance(result, (tuple, list)):
        return (list if isinstance(result, list) else tuple)(map(_device, result))
    return result


def _is_places(index):
    return isinstance(index, (list, np.ndarray)) and np.asarray(index).dtype.kind in "iu" and np.ndim(index)


def _key(key, shape):
    """An index whose arrays of integers wrap round, as they do on the GPU."""
    parts = [_host(part, "index") for part in (key if isinstance(key, tuple) else (key,))]
    found, axis = [], 0
    for position, part in enumerate(parts):
        if part is Ellipsis:
            rest = parts[position + 1 :]
            axis = len(shape) - sum(
                p.ndim if isinstance(p, np.ndarray) and p.dtype == bool else p is not None for p in rest
            )
        elif _is_places(part):
            part = np.asarray(part) % max(shape[axis], 1)
            axis += 1
        elif part is not None:
            axis += part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1
        found.append(part)
    return tuple(found)


class ndarray:
    """An array of the device."""

    __slots__ = ("__weakref__", "_array")
    __hash__ = None  # type: ignore[assignment]
    device = SimpleNamespace(id=0)

    def __init__(self, array):
        self._array = array

    # nothing leaves the device unasked
    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return _ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function, types, args, options):
        return getattr(xp, function.__name__)(*args, **options)

    def __getitem__(self, key):
        parts = _key(key, self.shape)
        if any(isinstance(part, np.ndarray) and part.dtype == bool for part in parts):
            _synchronise()  # only the device knows how many there are
        return _device(self._array[parts])

    def __setitem__(self, key, value):
        value, key = _host(value, "setitem"), _key(key, self.shape)
        if len(key) == 1 and _is_places(key[0]) and np.ndim(key[0]) == 1 and np.ndim(value) == self.ndim:
            turn = _rng.permutation(len(key[0]))  # of several values for one place any may win
            key = (key[0][turn],)
            value = value[turn] if len(value) == len(turn) else value
        self._array[key] = value

    # ---- what waits: a copy to the host
    def get(self):
        _synchronise()
        return self._array.copy()

    def item(self, *args):
        _synchronise()
        return self._array.item(*args)

    def tolist(self):
        _synchronise()
        return self._array.tolist()

    def __float__(self):
        _synchronise()
        return float(self._array)

    def __int__(self):
        _synchronise()
        return int(self._array)

    def __bool__(self):
        _synchronise()
        return bool(self._array)

    def __repr__(self):
        _synchronise()
        return f"strict.{self._array!r}"

    __str__ = __repr__

    def __format__(self, specification):
        return format(self.item() if self.ndim == 0 else repr(self), specification)

    # ---- what does not
    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __setattr__(self, name, value):
        if name == "shape":
            self._array.shape = value
        elif name == "_array":
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"attribute {name!r} of a device array cannot be set")

    def __getattr__(self, name):
        if name.startswith("__") or name not in API["ndarray"]:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        member = getattr(self._array, name)
        if not callable(member):
            return _device(member) if isinstance(member, (np.ndarray, np.generic)) else member
        parameters = None if name in ANY_NUMBER else API["xp"].get(name)

        def method(*args, **options):
            if parameters is not None and "**" not in parameters:
                _check(name, parameters[1:], args, options)
            if name in COUNTERS:
                _synchronise()
            result = member(*_host(args, name), **{k: _host(v, name) for k, v in options.items()})
            return _device(result)

        return method


def _check(name, parameters, args, options):
    if len(args) > len(parameters) and "*" not in parameters:
        raise TypeError(f"{name}() takes {len(parameters)} arguments, got {len(args)}")
    if "**" not in parameters and (unknown := options.keys() - set(parameters)):
        raise TypeError(f"{name}() got an unexpected keyword argument {', '.join(sorted(unknown))}")


def _ufunc(ufunc, method, inputs, options):
    name = ufunc.__name__
    if name not in API["xp"] and name not in API["special"]:
        return NotImplemented
    if name not in UFUNC_METHODS.get(method, {name}):
        raise NotImplementedError(f"CuPy's {name} has no {method}")  # as CuPy raises it
    if method == "__call__":
        _check(name, ["*", *UFUNC_OPTIONS], (), options)
        if any(isinstance(x, (list, tuple)) for x in inputs):
            raise TypeError(f"{name}: Unsupported type <class 'list'>")
    out = options.get("out")
    hosts = [_host(x, name) for x in inputs]
    if method == "at":
        hosts[1] = _key(inputs[1], inputs[0].shape)
    result = getattr(ufunc, method)(*hosts, **{k: _host(v, name) for k, v in options.items()})
    if out is None:
        return _device(result)
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out


ARITHMETIC = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "matmul": np.matmul, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
}  # fmt: skip
COMPARISONS = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
    "ne": np.not_equal,
}  # fmt: skip


def _forward(ufunc):
    return lambda self, other: _ufunc(ufunc, "__call__", (self, other), {})


def _reflected(ufunc):
    return lambda self, other: _ufunc(ufunc, "__call__", (other, self), {})


def _in_place(ufunc):
    def operator(self, other):
        ufunc(self._array, _host(other, ufunc.__name__), out=self._array, casting="same_kind")
        return self

    return operator


for _name, _function in {**ARITHMETIC, **COMPARISONS}.items():
    setattr(ndarray, f"__{_name}__", _forward(_function))
    if _name in ARITHMETIC:
        setattr(ndarray, f"__r{_name}__", _reflected(_function))
        if _name != "matmul":  # CuPy has no __imatmul__
            setattr(ndarray, f"__i{_name}__", _in_place(_function))
for _name, _function in {"neg": np.negative, "abs": np.abs, "invert": np.invert, "pos": np.positive}.items():
    setattr(ndarray, f"__{_name}__", lambda self, f=_function: _ufunc(f, "__call__", (self,), {}))


# ---- modules -------------------------------------------------------------------------------------


class _Module(ModuleType):
    """The functions of a NumPy or SciPy module that CuPy has, too."""

    def __init__(self, name, host, api, prefix=""):
        super().__init__(name)
        self.__dict__.update(_of=host, _api=api, _prefix=prefix)

    def __getattr__(self, name):
        full = self._prefix + name
        known = full in self._api or any(other.startswith(f"{full}.") for other in self._api)
        if name.startswith("__") or not known:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        host = getattr(self._of, name)
        if isinstance(host, ModuleType):
            return _Module(f"{self.__name__}.{name}", host, self._api, f"{full}.")
        if isinstance(host, type) or not callable(host):
            return host
        found = _Ufunc(host) if isinstance(host, np.ufunc) else _function(full, host, self._api[full])
        self.__dict__[name] = found
        return found


class _Ufunc:
    def __init__(self, ufunc):
        self.ufunc, self.__name__ = ufunc, ufunc.__name__

    def __call__(self, *inputs, **options):
        return _ufunc(self.ufunc, "__call__", inputs, options)

    def __getattr__(self, method):
        if method not in UFUNC_METHODS:
            raise AttributeError(method)
        return lambda *inputs, **options: _ufunc(self.ufunc, method, inputs, options)


def _function(name, host, parameters):
    last = name.rsplit(".", 1)[-1]

    def function(*args, **options):
        if parameters is not None:
            _check(name, parameters, args, options)
        if last in DOORS:
            inner = _unwrapped(args[0])
            made = host(inner, *args[1:], **options)
            return ndarray(made if isinstance(args[0], ndarray) else np.array(made, copy=True))
        hosts = [_host(x, name) for x in args]
        given = {k: _host(v, name) for k, v in options.items()}
        out = options.get("out")
        result = host(*hosts, **given)
        if last in FILLERS:
            return ndarray(result)
        if last in COUNTERS:
            _synchronise()
        return out if isinstance(out, ndarray) else _device(result)

    function.__name__ = last
    return function


def _unwrapped(x):
    """The NumPy arrays behind device arrays in nested lists."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(_unwrapped, x))
    return x._array if isinstance(x, ndarray) else x


@contextmanager
def _one_device(index=0):
    if index not in (0, None):
        raise RuntimeError(f"cudaErrorInvalidDevice: the stand-in has one device, not {index}")
    yield


_RUNTIME = SimpleNamespace(
    getDeviceCount=lambda: 1, getDevice=lambda: 0,
    driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
    getDeviceProperties=lambda index: {"name": b"stand-in", "totalGlobalMem": 2**30, "major": 9, "minor": 0},
)  # fmt: skip
xp = _Module("strict", np, API["xp"])
xp.__dict__.update(
    ndarray=ndarray,
    asnumpy=lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a),
    get_array_module=lambda *arrays: xp if any(isinstance(a, ndarray) for a in arrays) else np,
    cuda=SimpleNamespace(Device=_one_device, is_available=lambda: True, runtime=_RUNTIME),
)


def install(monkeypatch) -> ModuleType:
    """Let "cuda" mean this stand-in until the test ends."""
    import scipy.ndimage
    import scipy.special

    from minidl import backend

    for name, host in (("special", scipy.special), ("ndimage", scipy.ndimage)):
        full = f"strictx.scipy.{name}"
        monkeypatch.setitem(sys.modules, full, _Module(full, host, API[name]))
    monkeypatch.setitem(backend._MODULES, ndarray, xp)
    monkeypatch.setattr(backend, "cupy", lambda: xp)
    return xp
