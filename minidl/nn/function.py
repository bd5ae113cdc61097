"""Functions as modules: `nn.ELU(alpha=2.0)` is `F.elu` with its options fixed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from minidl.autograd import Tensor
from minidl.nn.module import Module


class Function(Module):
    """A function with its options fixed once: those of its arguments that follow the inputs.

    They become attributes by the same names. Tensors among them are buffers: they move with the module, and
    they are saved.
    """

    function: ClassVar[Callable[..., Tensor]]
    inputs = 1  # how many arguments `forward` takes
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        parameters = list(inspect.signature(cls.function).parameters.values())
        cls.__signature__ = inspect.Signature(parameters[cls.inputs :])

    def __init__(self, *args: Any, **options: Any):
        super().__init__()
        try:
            bound = self.__signature__.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{self.__signature__}: {error}") from None
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__signature__.parameters}

    def forward(self, *inputs: Tensor) -> Tensor:
        return type(self).function(*inputs, **self._options())

    def extra_repr(self) -> str:
        given = {name: value for name, value in self._options().items() if value is not None}
        return ", ".join(
            f"{name}={value.shape}" if isinstance(value, Tensor) else f"{name}={value!r}"
            for name, value in given.items()
        )
