"""Optimisers, and learning-rate schedules in `optim.lr_scheduler`, by PyTorch's names and formulas."""

from minidl.optim import lr_scheduler
from minidl.optim.optimizer import SGD, Adam, AdamW, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
