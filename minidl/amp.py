"""Training in mixed precision, by PyTorch's names: `autocast`, and the scaler that its gradients need.

scaler = minidl.amp.GradScaler()
for x, y in batches:
    with minidl.autocast("cuda"):
        loss = F.dice_ce_loss(model(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)            # only where the gradients are looked at, as clipping does
    clip_grad_norm_(model.parameters(), 12)
    scaler.step(optimizer)
    scaler.update()
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from minidl import backend
from minidl.autograd import Tensor
from minidl.backend import Array, array_module
from minidl.dtypes import float16, float32
from minidl.mixed_precision import autocast
from minidl.optim import Optimizer

__all__ = ["GradScaler", "autocast"]


@dataclass(eq=False)
class _Seen:
    """What happened to the gradients of an optimiser since the last `update`."""

    finite: Array | None = None  # on the device: whether all are; None before `unscale_`
    stepped: bool = False

    @cached_property
    def overflowed(self) -> bool:
        """Whether one is not finite: this waits for the device, the first time."""
        return self.finite is not None and not bool(self.finite)


class GradScaler:
    """Scales a loss up, so that its gradients in float16 do not vanish, and the gradients down again.

    Gradients below 6e-8 are 0 in float16. A loss times `init_scale` has gradients that much larger; where
    they are too large for float16, `step` leaves that step out and `update` makes the scale smaller (times
    `backoff_factor`). After `growth_interval` steps in a row without that it grows (times `growth_factor`).
    enabled=False makes all of it do nothing. Micikevicius et al. 2018, section 3.2.

    `step` waits for the GPU once, to learn whether all gradients are finite; so does PyTorch's.
    """

    def __init__(
        self,
        device: str | backend.device = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        backend.as_device(device)  # PyTorch keeps its scale there; here it is a Python number
        if growth_factor <= 1 or not 0 < backoff_factor < 1 or init_scale <= 0 or growth_interval < 1:
            raise ValueError(
                "GradScaler: needs init_scale > 0, growth_factor > 1, 0 < backoff_factor < 1 and "
                f"growth_interval >= 1; got {init_scale}, {growth_factor}, {backoff_factor} and "
                f"{growth_interval}"
            )
        self._scale = float(init_scale)
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._enabled = enabled
        self._growth_tracker = 0  # steps without overflow since the scale last changed
        self._seen: dict[Optimizer, _Seen] = {}

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def get_scale(self) -> float:
        """The factor that losses are scaled by."""
        return self._scale if self._enabled else 1.0

    def scale(self, outputs: Any) -> Any:
        """A loss, or a list or tuple of them, times the scale; float16 as float32, which has room for it."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(map(self.scale, outputs))
        if not isinstance(outputs, Tensor):
            raise TypeError(f"GradScaler.scale: expected Tensors, got {type(outputs).__name__}")
        return (outputs.to(float32) if outputs.dtype == float16 else outputs) * self._scale

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of an optimiser's parameters by the scale, in place; `step` does it if not.

        Errors: RuntimeError for a second time before `update`; ValueError for gradients in float16.
        """
        if not self._enabled:
            return
        seen = self._seen.setdefault(optimizer, _Seen())
        if seen.stepped or seen.finite is not None:
            when = "after step()" if seen.stepped else "a second time"
            raise RuntimeError(f"GradScaler.unscale_: called {when}; update() must come in between")
        seen.finite = self._unscaled(optimizer)

    def _unscaled(self, optimizer: Optimizer) -> Array | None:
        """Divide the gradients by the scale; whether all are finite, as an array on their device."""
        finite: Any = None
        for group in optimizer.param_groups:
            for grad in (p.grad for p in group["params"] if p.grad is not None):
                if grad.dtype == float16:
                    raise ValueError(
                        "GradScaler: a parameter has a gradient in float16; keep parameters in float32, "
                        "autocast casts them"
                    )
                grad.array *= 1 / self._scale
                here = array_module(grad.array).isfinite(grad.array).all()
                finite = here if finite is None else finite & here
        return finite

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(...)` with unscaled gradients; nothing at all if one of them is not finite.

        Errors: RuntimeError for a second time before `update`.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        seen = self._seen.setdefault(optimizer, _Seen())
        if seen.stepped:
            raise RuntimeError("GradScaler.step: called a second time; update() must come in between")
        if seen.finite is None:
            self.unscale_(optimizer)
        seen.stepped = True
        return None if seen.overflowed else optimizer.step(*args, **kwargs)

    def update(self, new_scale: float | None = None) -> None:
        """Adapt the scale to what `step` or `unscale_` met, or set it; once after all optimisers' steps.

        Errors: RuntimeError if no gradients have been seen since the last time.
        """
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not self._seen:
            raise RuntimeError("GradScaler.update: no gradients were seen; step() or unscale_() comes first")
        elif any(seen.overflowed for seen in self._seen.values()):
            self._scale *= self._backoff_factor
            self._growth_tracker = 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                self._scale *= self._growth_factor
                self._growth_tracker = 0
        self._seen = {}

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint, by PyTorch's keys; empty where it is not enabled."""
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        } if self._enabled else {}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`; ValueError where it is empty, as that of one that is not enabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise ValueError("GradScaler.load_state_dict: the state is empty: that scaler was not enabled")
        self._scale, self._growth_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
