"""Optimisers, by PyTorch's names and formulas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl import kernels
from minidl.autograd import Tensor
from minidl.backend import Array, array_module, to_device

Update = tuple[tuple[Array, ...], dict[str, Any]]  # arrays (w, g, state ...) and options of a kernel


class Optimizer:
    """Holds parameters in groups with their own options; `step` moves them against their gradients.

    A subclass names the kernel that moves the parameters, and `_update` says what it needs for one of them.
    """

    kernel = ""

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], **defaults: Any):
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        self.param_groups = [{**defaults, **g, "params": list(g["params"])} for g in groups]
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in self.param_groups:
            self._check(group)
        every = [p for group in self.param_groups for p in group["params"]]
        if len(set(every)) < len(every):
            raise ValueError(
                f"{type(self).__name__}: {len(every) - len(set(every))} of {len(every)} parameters are "
                "given twice; give each of them once"
            )

    def _check(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        for p in group["params"]:
            if not isinstance(p, Tensor) or not p.is_leaf:
                raise TypeError(f"{name}: parameters must be leaf tensors, got {p!r}")
        for key in ("lr", "weight_decay", "momentum", "eps"):
            if group.get(key, 0) < 0:
                raise ValueError(f"{name}: {key} must not be negative, got {group[key]}")
        for beta in group.get("betas", ()):
            if not 0 <= beta < 1:
                raise ValueError(f"{name}: betas must be in [0, 1), got {group['betas']}")

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Update in place every parameter that has a gradient."""
        updates: dict[Any, list[Update]] = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.shape != p.shape:
                    raise ValueError(
                        f"{type(self).__name__}: a parameter of shape {p.shape} has a gradient of shape "
                        f"{p.grad.shape}"
                    )
                update = self._update(p.array, p.grad.array, self.state.setdefault(p, {}), group)
                updates.setdefault(array_module(p.array), []).append(update)
        for xp, on_device in updates.items():
            getattr(kernels.of(xp), self.kernel)(on_device)

    def _update(self, w: Array, g: Array, state: dict[str, Any], group: dict[str, Any]) -> Update:
        raise TypeError(f"{type(self).__name__} does not define an update")

    def state_dict(self) -> dict[str, Any]:
        """Options and state, with parameters replaced by their number, as in PyTorch."""
        number = {p: i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups = [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {
            "state": {number[p]: dict(s) for p, s in self.state.items()},
            "param_groups": groups,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state from `state_dict()` of an optimiser of equally many parameters."""
        sizes = [len(g["params"]) for g in self.param_groups]
        given = [len(g["params"]) for g in state_dict["param_groups"]]
        if sizes != given:
            raise ValueError(
                f"load_state_dict: parameter groups have sizes {given}, this optimiser's {sizes}"
            )
        parameters = [p for g in self.param_groups for p in g["params"]]
        for group, saved in zip(self.param_groups, state_dict["param_groups"]):
            group.update({key: value for key, value in saved.items() if key != "params"})
        self.state = {
            parameters[int(i)]: {k: _taken_over(v, parameters[int(i)]) for k, v in saved.items()}
            for i, saved in state_dict["state"].items()
        }


def _taken_over(value: Any, parameter: Tensor) -> Any:
    """A number, or a copy of an array on the parameter's device."""
    return to_device(value.copy(), parameter.device) if hasattr(value, "copy") else value


class SGD(Optimizer):
    """v <- momentum·v + (1 - dampening)·g;  w <- w - lr·v, or with Nesterov w <- w - lr·(g + momentum·v).

    g includes weight_decay·w; with maximize the steps go up, along -g. The first v is g itself (Sutskever et
    al. 2013 in PyTorch's form).
    """

    kernel = "sgd"

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: Nesterov momentum needs momentum > 0 and dampening = 0")
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )

    def _update(self, w, g, state, group):
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        options = {name: group[name] for name in names}
        if not group["momentum"]:
            return (w, g), options
        if not state:
            options["dampening"] = 0
            state["momentum_buffer"] = array_module(w).zeros_like(w)
        return (w, g, state["momentum_buffer"]), options


class Adam(Optimizer):
    """m <- β1·m + (1-β1)·g;  v <- β2·v + (1-β2)·g²;  w <- w - lr·m̂ / (sqrt(v̂) + eps)  (Kingma and Ba 2015).

    m̂ = m/(1-β1^t) and v̂ = v/(1-β2^t) correct the start from zero; amsgrad uses the largest v so far; g
    includes weight_decay·w, and with maximize the steps go up, along -g.
    """

    kernel = "adam"
    decoupled = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    def _update(self, w, g, state, group):
        moments = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        if not state:
            state.update(step=0, **{name: array_module(w).zeros_like(w) for name in moments})
        state["step"] += 1
        names = ("lr", "betas", "eps", "weight_decay", "maximize")
        options = {name: group[name] for name in names}
        options.update(decoupled=self.decoupled, step=state["step"])
        return (w, g, *(state[name] for name in moments)), options


class AdamW(Adam):
    """Adam with decay apart from the gradient: w <- (1 - lr·weight_decay)·w (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
