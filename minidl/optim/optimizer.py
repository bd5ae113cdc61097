"""Optimisers, by PyTorch's names and formulas."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minidl.autograd import Tensor
from minidl.backend import Array, array_module


class Optimizer:
    """Holds parameters in groups with their own options; `step` moves them against their gradients."""

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
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state.setdefault(p, {})
                    self._update(array_module(p.array), p.array, p.grad.array, state, group)

    def _update(self, xp: Any, w: Array, g: Array, state: dict, group: dict) -> None:
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
            parameters[int(i)]: {k: v.copy() if hasattr(v, "copy") else v for k, v in saved.items()}
            for i, saved in state_dict["state"].items()
        }


class SGD(Optimizer):
    """v <- momentum·v + g;  w <- w - lr·v, or with Nesterov w <- w - lr·(g + momentum·v).

    g includes weight_decay·w. The first v is g itself (Sutskever et al. 2013 in PyTorch's form).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
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
        )

    def _update(self, xp, w, g, state, group):
        momentum = group["momentum"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * w
        if momentum:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = v = xp.array(g)
            else:
                v = state["momentum_buffer"]
                v *= momentum
                v += (1 - group["dampening"]) * g
            g = g + momentum * v if group["nesterov"] else v
        w -= group["lr"] * g


class Adam(Optimizer):
    """m <- β1·m + (1-β1)·g;  v <- β2·v + (1-β2)·g²;  w <- w - lr·m̂ / (sqrt(v̂) + eps)  (Kingma and Ba 2015).

    m̂ = m/(1-β1^t) and v̂ = v/(1-β2^t) correct the start from zero; amsgrad uses the largest v̂ so far.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def _update(self, xp, w, g, state, group):
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(w), exp_avg_sq=xp.zeros_like(w))
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = xp.zeros_like(w)
        state["step"] += 1
        (beta1, beta2), t, lr = group["betas"], state["step"], group["lr"]
        if group["weight_decay"] and self.decoupled:
            w *= 1 - lr * group["weight_decay"]
        elif group["weight_decay"]:
            g = g + group["weight_decay"] * w
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m += (1 - beta1) * (g - m)
        v *= beta2
        v += (1 - beta2) * (g * g)
        if group["amsgrad"]:
            v = xp.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        denominator = xp.sqrt(v)
        denominator /= math.sqrt(1 - beta2**t)
        denominator += group["eps"]
        w -= (lr / (1 - beta1**t)) * (m / denominator)


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
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
