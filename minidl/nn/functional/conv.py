"""Convolution and transposed convolution in 1, 2 and 3 dimensions, by PyTorch's names.

Written once over the bilinear trio (`minidl/ops/bilinear.py`): `conv2d` is `conv_nd` of rank 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

from minidl.autograd import Tensor
from minidl.kernels.windows import output_size
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import Sizes, batched, ntuple, same_dtype
from minidl.ops import bilinear, linear


def of_rank(function: Callable, rank: int, name: str) -> Callable:
    """An N-dimensional function as its 1-D, 2-D or 3-D version."""

    @wraps(function)
    def fixed(*args, **kwargs):
        return function(*args, rank=rank, name=name, **kwargs)

    fixed.__name__ = fixed.__qualname__ = name
    return fixed


def _check_weight(name: str, input: Tensor, weight: Tensor, rank: int, groups: int) -> None:
    if weight.dtype.kind == "b":
        raise TypeError(f"{name}: not defined for booleans; call .float() first")
    if weight.ndim != rank + 2:
        raise ValueError(f"{name}: weight must have {rank + 2} dims, got shape {weight.shape}")
    if groups < 1:
        raise ValueError(f"{name}: groups must be at least 1, got {groups}")
    if min(weight.shape) == 0:
        raise ValueError(f"{name}: weight has an axis of size 0: {weight.shape}")


def _add_bias(y: Tensor, bias: Tensor | None, channels: int, name: str) -> Tensor:
    if bias is None:
        return y
    if bias.shape != (channels,):
        raise ValueError(f"{name}: bias must have shape ({channels},), got {bias.shape}")
    return y + bias.reshape(1, channels, *(1,) * (y.ndim - 2))


@autocasts
def conv_nd(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    rank: int,
    name: str,
) -> Tensor:
    """y[n, o, q] = bias[o] + Σ_{c,k} x[n, c, stride·q + dilation·k - padding] · w[o, c, k].

    A cross-correlation: the kernel is not flipped.
    input (N, C, *S) or (C, *S); weight (O, C/groups, *K); bias (O,). The output has
    (S + 2·padding - dilation·(K - 1) - 1) // stride + 1 positions per axis. padding="same" keeps the size
    (stride 1), "valid" pads nothing. With groups, each of them sees only its own share of the channels.
    """
    same_dtype(name, input=input, weight=weight, bias=bias)
    input, added = batched(input, rank, name)
    _check_weight(name, input, weight, rank, groups)
    stride = ntuple(stride, rank, f"{name}: stride", 1)
    dilation = ntuple(dilation, rank, f"{name}: dilation", 1)
    (channels, out), kernel = (input.shape[1], weight.shape[0]), weight.shape[2:]
    shapes = f"(input {input.shape}, weight {weight.shape}, groups {groups})"
    if channels != groups * weight.shape[1]:
        raise ValueError(
            f"{name}: input has {channels} channels but weight expects "
            f"groups * {weight.shape[1]} = {groups * weight.shape[1]} {shapes}"
        )
    if out % groups:
        raise ValueError(f"{name}: {out} output channels do not divide into {groups} groups {shapes}")
    input, margin = _pad(input, padding, kernel, stride, dilation, rank, name)
    if any(n + 2 * p < d * (k - 1) + 1 for n, p, k, d in zip(input.shape[2:], margin, kernel, dilation)):
        raise ValueError(
            f"{name}: kernel {kernel} with dilation {dilation} is larger than the input "
            f"{input.shape[2:]} with padding {margin}"
        )
    y = bilinear.conv(input, weight, stride=stride, padding=margin, dilation=dilation, groups=groups)
    y = _add_bias(y, bias, out, name)
    return y.squeeze(0) if added else y


def _pad(input, padding, kernel, stride, dilation, rank, name):
    """(input, padding per axis), where "same" with an odd total pads one sample more at the end first."""
    if padding == "valid":
        return input, (0,) * rank
    if padding != "same":
        if isinstance(padding, str):
            raise ValueError(f"{name}: padding must be 'same', 'valid' or integers, got {padding!r}")
        return input, ntuple(padding, rank, f"{name}: padding")
    if any(s != 1 for s in stride):
        raise ValueError(f"{name}: padding='same' needs stride 1, got {stride}")
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    odd = [(0, total % 2) for total in totals]
    if any(b for _, b in odd):
        input = linear.pad(input, widths=((0, 0), (0, 0), *odd))
    return input, tuple(total // 2 for total in totals)


@autocasts
def conv_transpose_nd(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    rank: int,
    name: str,
) -> Tensor:
    """The adjoint of `conv_nd` in its input: y[n, o, i] = bias[o] + Σ x[n, c, q] · w[c, o, k].

    The sum runs over all q and k that meet at i = stride·q + dilation·k - padding.

    input (N, C, *S) or (C, *S); weight (C, O/groups, *K); bias (O,). The output has (S - 1)·stride -
    2·padding + dilation·(K - 1) + output_padding + 1 samples per axis: `output_padding` picks one of the
    sizes that a strided convolution would map to S.
    """
    same_dtype(name, input=input, weight=weight, bias=bias)
    input, added = batched(input, rank, name)
    _check_weight(name, input, weight, rank, groups)
    stride = ntuple(stride, rank, f"{name}: stride", 1)
    padding = ntuple(padding, rank, f"{name}: padding")
    extra = ntuple(output_padding, rank, f"{name}: output_padding")
    dilation = ntuple(dilation, rank, f"{name}: dilation", 1)
    channels, out, kernel = input.shape[1], weight.shape[1] * groups, weight.shape[2:]
    shapes = f"(input {input.shape}, weight {weight.shape}, groups {groups})"
    if channels != weight.shape[0]:
        raise ValueError(
            f"{name}: input has {channels} channels but weight expects {weight.shape[0]} {shapes}"
        )
    if channels % groups:
        raise ValueError(f"{name}: {channels} input channels do not divide into {groups} groups {shapes}")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise ValueError(
            f"{name}: output_padding {extra} must be smaller than stride {stride} or dilation {dilation}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(input.shape[2:], stride, padding, dilation, kernel, extra)
    )
    if min(size) < 1:
        raise ValueError(
            f"{name}: the output would have size {size}: padding {padding} is too large {shapes}"
        )
    geometry = dict(stride=stride, dilation=dilation, groups=groups)
    if all(e < s for e, s in zip(extra, stride)):
        y = bilinear.conv_input(input, weight, size=size, padding=padding, **geometry)
    else:  # allowed under a dilation, but no convolution maps this size to the input's: crop and pad after it
        widths = [(-p, e - p) for p, e in zip(padding, extra)]
        whole = tuple(n - a - b for n, (a, b) in zip(size, widths))
        y = bilinear.conv_input(input, weight, size=whole, padding=(0,) * rank, **geometry)
        y = linear.pad(y, widths=((0, 0), (0, 0), *widths))
    y = _add_bias(y, bias, out, name)
    return y.squeeze(0) if added else y


def conv_output_size(
    size: Sequence[int], kernel: Sizes, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1
) -> tuple[int, ...]:
    """The spatial size of a convolution's (or pooling's) output."""
    rank = len(size)
    kernel, stride, padding, dilation = (
        ntuple(v, rank, "conv_output_size") for v in (kernel, stride, padding, dilation)
    )
    return tuple(output_size([n + 2 * p for n, p in zip(size, padding)], kernel, stride, dilation))


conv1d, conv2d, conv3d = (of_rank(conv_nd, n, f"conv{n}d") for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    of_rank(conv_transpose_nd, n, f"conv_transpose{n}d") for n in (1, 2, 3)
)
