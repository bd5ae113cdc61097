"""Class labels: checked against the logits that they judge, and turned into indicators."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import Array, array_module
from minidl.nn.functional.checks import floating, same_device


def check_range(name: str, label: Array, classes: int) -> None:
    """All labels must be in 0 .. classes - 1. On a GPU it is not looked at: that would wait in every step."""
    if array_module(label) is np and label.size and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise IndexError(
            f"{name}: target holds labels from {int(label.min())} to {int(label.max())}, but there are "
            f"{classes} classes, 0 to {classes - 1}"
        )


def check_shape(name: str, input: Tensor, target: Tensor) -> None:
    """Input (N, C, *S) needs integer labels (N, *S)."""
    if target.dtype.kind not in "ui":
        raise TypeError(f"{name}: class labels must be integers, got {target.dtype}")
    expected = (*input.shape[:1], *input.shape[2:])
    if input.ndim < 2 or target.shape != expected:
        raise ValueError(
            f"{name}: for input {input.shape} the labels must have shape {expected}, got {target.shape}"
        )


class Labels(NamedTuple):
    """What the losses over labels need to know of them; each array (N, *S)."""

    index: Array  # the labels, with 0 in place of those that do not count
    counted: Tensor  # which labels count
    weight: Tensor  # the weight of each label's class; 0 where it does not count


def read_labels(name: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> Labels:
    """Integer labels (N, *S) for input (N, C, *S), with class weights (C,); ignore_index does not count.

    Errors: TypeError, ValueError and IndexError for the wrong kind, shape and range.
    """
    floating(name, input)
    same_device(name, input=input, target=target, weight=weight)
    check_shape(name, input, target)
    classes = input.shape[1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight must have shape ({classes},), got {weight.shape}")
    xp = array_module(input.array)
    label = target.array.astype(np.int64, copy=False)
    counted = label != ignore_index
    index = xp.where(counted, label, 0)
    check_range(name, index, classes)
    of_class = xp.ones(classes, dtype=input.dtype) if weight is None else weight.array
    return Labels(index, Tensor(counted), Tensor((of_class[index] * counted).astype(input.dtype)))


def indicators(label: Array, num_classes: int, dtype: np.dtype | type) -> Tensor:
    """Labels (N, *S) as indicators (N, C, *S): 1 in the label's channel, 0 in the others."""
    xp = array_module(label)
    channels = xp.arange(num_classes).reshape(1, num_classes, *(1,) * (label.ndim - 1))
    return Tensor((xp.expand_dims(label, 1) == channels).astype(dtype))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Labels (*) as int64 indicators (*, C), the classes last; C is by default the largest label + 1."""
    same_device("one_hot", tensor=tensor)
    if tensor.dtype.kind not in "ui":
        raise TypeError(f"one_hot: class labels must be integers, got {tensor.dtype}")
    label, xp = tensor.array, array_module(tensor.array)
    if num_classes == -1:
        if not label.size:
            raise ValueError(f"one_hot: no labels in shape {label.shape}; num_classes must be given")
        num_classes = int(label.max()) + 1
    check_range("one_hot", label, num_classes)
    return Tensor((xp.expand_dims(label, -1) == xp.arange(num_classes)).astype(np.int64))
