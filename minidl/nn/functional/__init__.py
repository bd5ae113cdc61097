"""Functions of tensors, by PyTorch's names: `import minidl.nn.functional as F`."""

from minidl.nn.functional.activation import (
    dropout,
    dropout_channels,
    leaky_relu,
    log_softmax,
    logsigmoid,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from minidl.nn.functional.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_output_size,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from minidl.nn.functional.linear import linear
from minidl.nn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    dice_ce_loss,
    dice_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    one_hot,
    soft_dice,
)
from minidl.nn.functional.norm import batch_norm, instance_norm
from minidl.nn.functional.pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from minidl.nn.functional.resize import interpolate

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d", "conv_output_size",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cross_entropy", "dice_ce_loss",
    "dice_loss", "dropout", "dropout_channels", "instance_norm", "interpolate", "l1_loss",
    "leaky_relu", "linear", "log_softmax", "logsigmoid", "max_pool1d", "max_pool2d", "max_pool3d",
    "mse_loss", "nll_loss", "one_hot", "relu", "sigmoid", "soft_dice", "softmax", "softplus", "tanh",
]  # fmt: skip
