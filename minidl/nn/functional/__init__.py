"""Functions of tensors, by PyTorch's names: `import minidl.nn.functional as F`."""

from minidl.nn.functional.activation import (
    celu,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softmin,
    softplus,
    softsign,
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
from minidl.nn.functional.deep_supervision import (
    deep_supervision_loss,
    deep_supervision_weights,
    resize_labels,
)
from minidl.nn.functional.labels import one_hot
from minidl.nn.functional.linear import linear
from minidl.nn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from minidl.nn.functional.maxpool import (
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from minidl.nn.functional.norm import batch_norm, group_norm, instance_norm, layer_norm
from minidl.nn.functional.padding import pad
from minidl.nn.functional.patches import fold, pixel_shuffle, pixel_unshuffle, unfold
from minidl.nn.functional.pixel_loss import (
    focal_loss,
    sigmoid_focal_loss,
    unet_weight_map,
    weighted_cross_entropy,
)
from minidl.nn.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
)
from minidl.nn.functional.resize import interpolate
from minidl.nn.functional.sampling import affine_grid, grid_sample
from minidl.nn.functional.segmentation_loss import (
    dice_ce_loss,
    dice_loss,
    generalized_dice_loss,
    jaccard_loss,
    tversky_index,
    tversky_loss,
)

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "affine_grid", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits", "celu", "conv1d", "conv2d",
    "conv3d", "conv_output_size", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "cross_entropy", "deep_supervision_loss", "deep_supervision_weights", "dice_ce_loss", "dice_loss",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "focal_loss", "fold", "gelu",
    "generalized_dice_loss", "glu", "grid_sample", "group_norm", "hardsigmoid", "hardswish", "hardtanh",
    "huber_loss", "instance_norm", "interpolate", "jaccard_loss", "kl_div", "l1_loss", "layer_norm",
    "leaky_relu", "linear", "log_softmax", "logsigmoid", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d", "mish",
    "mse_loss", "nll_loss", "one_hot", "pad", "pixel_shuffle", "pixel_unshuffle", "prelu", "relu", "relu6",
    "resize_labels", "selu", "sigmoid", "sigmoid_focal_loss", "silu", "smooth_l1_loss", "softmax",
    "softmin", "softplus", "softsign", "tanh", "tversky_index", "tversky_loss", "unet_weight_map",
    "unfold", "weighted_cross_entropy",
]  # fmt: skip
