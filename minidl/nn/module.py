"""Modules: parameters, buffers and submodules under names, as in PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from minidl import backend
from minidl.autograd import Tensor
from minidl.methods import destination


class Parameter(Tensor):
    """A tensor that a module learns: found by `Module.parameters()`."""

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True):
        super().__init__(data.array, requires_grad)


class Module:
    """The base of every layer and model: assign parameters and modules as attributes, write `forward`."""

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(_parameters={}, _buffers={}, _modules={}, training=True)

    def forward(self, *args: Any) -> Any:
        """What the module computes; subclasses write it."""
        raise TypeError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # ---- attributes -----------------------------------------------------------------------------

    def _kinds(self) -> tuple[dict, ...]:
        return self._parameters, self._buffers, self._modules

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: call super().__init__() before assigning attributes"
            )
        home = (
            self._modules
            if isinstance(value, Module)
            else self._parameters
            if isinstance(value, Parameter)
            else None
        )
        if home is None and name in self._buffers:
            home = self._buffers
        for kind in self._kinds():
            if kind is not home:
                kind.pop(name, None)
        if home is None:
            self.__dict__[name] = value
        else:
            self.__dict__.pop(name, None)
            home[name] = value

    def __getattr__(self, name: str) -> Any:
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(kind, ()):
                return self.__dict__[kind][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Give a parameter (or None, for one that is switched off) a name."""
        self._parameters[name] = parameter

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Give a tensor that is saved but not learned (running statistics) a name."""
        self._buffers[name] = tensor

    # ---- walking --------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all modules inside, with dotted names."""
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules directly inside."""
        return (m for m in self._modules.values() if m is not None)

    def _named(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()  # a shared tensor is named once
        for prefix, module in self.named_modules():
            for name, tensor in module.__dict__[kind].items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{prefix}.{name}" if prefix else name, tensor

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names."""
        return self._named("_parameters")  # type: ignore[return-value]

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names."""
        return self._named("_buffers")

    def parameters(self) -> Iterator[Parameter]:
        """All parameters."""
        return (parameter for _, parameter in self.named_parameters())

    # ---- state ----------------------------------------------------------------------------------

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """Parameters and buffers by name, in PyTorch's order; the tensors share memory with the module."""
        return OrderedDict(
            (f"{prefix}.{name}" if prefix else name, tensor.detach())
            for prefix, module in self.named_modules()
            for kind in (module._parameters, module._buffers)
            for name, tensor in kind.items()
            if tensor is not None
        )

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> None:
        """Copy values into parameters and buffers of the same names and shapes; all or nothing.

        Errors: ValueError that lists missing and unexpected keys (where strict) and every shape that differs.
        """
        own = self.state_dict()
        problems = []
        if strict:
            problems += [f"missing key {key!r}" for key in own if key not in state_dict]
            problems += [f"unexpected key {key!r}" for key in state_dict if key not in own]
        problems += [
            f"{key!r} has shape {tuple(state_dict[key].shape)}, the module needs {tensor.shape}"
            for key, tensor in own.items()
            if key in state_dict and tuple(state_dict[key].shape) != tensor.shape
        ]
        if problems:
            raise ValueError(f"load_state_dict into {type(self).__name__}: " + "; ".join(problems))
        for key, tensor in own.items():
            if key in state_dict:
                value = state_dict[key]
                array = value.array if isinstance(value, Tensor) else np.asarray(value)
                tensor.array[...] = backend.to_device(array, tensor.device).astype(tensor.dtype)

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Replace the array of every parameter, gradient and buffer; the tensors stay the same objects."""
        for tensor in (*self.parameters(), *(t for _, t in self.named_buffers())):
            tensor.array = change(tensor.detach()).array
            if tensor.grad is not None:
                tensor.grad = change(tensor.grad.detach())
        return self

    def to(self, *targets: Any, device: Any = None, dtype: Any = None) -> Self:
        """Move to a device, cast the floating-point tensors to a dtype, or both; as another tensor is.

        Returns the module itself; its parameters stay the same objects, so optimisers go on with them.
        """
        dtype, where = destination(targets, dtype, device)
        if dtype is not None and dtype.kind != "f":
            raise TypeError(f"{type(self).__name__}.to: expected a floating-point dtype, got {dtype}")
        return self._apply(lambda t: t.to(device=where, dtype=dtype if t.dtype.kind == "f" else None))

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> Self:
        """Move to a GPU."""
        return self.to(device=device)

    def double(self) -> Self:
        """Cast to float64, as gradient checks need."""
        return self.to(np.float64)

    def float(self) -> Self:
        """Cast to float32."""
        return self.to(np.float32)

    def train(self, mode: bool = True) -> Self:
        """Training mode: dropout drops, batch norm uses the batch's statistics."""
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode."""
        return self.train(False)

    def requires_grad_(self, value: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(value)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, function: Callable[[Module], None]) -> Module:
        """Call the function on every module inside and on this one."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    def extra_repr(self) -> str:
        """What stands between the brackets of a layer's repr."""
        return ""

    def __repr__(self) -> str:
        inside = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        extra = self.extra_repr()
        if not inside:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}({extra}\n  " + "\n  ".join(inside) + "\n)"


class Sequential(Module):
    """Modules applied one after another."""

    def __init__(self, *modules: Module | OrderedDict[str, Module]):
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], dict) else None
        for name, module in named.items() if named is not None else enumerate(modules):
            self._modules[str(name)] = module

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int | slice) -> Module:
        modules = list(self._modules.values())
        return Sequential(*modules[index]) if isinstance(index, slice) else modules[index]


class ModuleList(Module):
    """A list of modules whose parameters are found."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        self._modules[str(len(self._modules))] = module
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return list(self._modules.values())[index]
