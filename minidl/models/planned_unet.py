"""The planned U-Net: nnU-Net's network (Isensee et al. 2021; "PlainConvUNet" of its second version).

What it adds to the same-padding U-Net is little, and that is its message: the plain U-Net is good enough if
its shape follows from the data. `minidl.segment.plan` finds these numbers; the network obeys.

    anisotropic     an axis whose voxels are long is not halved before the others have caught up, and is not
                    convolved over (kernel 1) while its neighbours are far away in millimetres: strides and
                    kernels are given per stage and axis.
    depth           as many halvings as the patch allows: the bottleneck is 4 to 7 samples wide.
    up              a transposed convolution with kernel = stride: windows do not overlap.
    deep            a 1x1 convolution makes logits at *every* resolution of the decoder while it trains, each
    supervision     compared with the truth at its own size (`deep_supervision_loss`): the deep stages learn
                    from a loss that is near, not only from one that is ten layers away.

Blocks, two per stage: convolution with bias, instance norm (affine, eps 1e-5), leaky ReLU of slope 0.01; the
first of a stage has the stride. Weights by He's rule for that slope, biases 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minidl
from minidl import nn
from minidl.autograd import Tensor
from minidl.models.blocks import SLOPES, initialize, join, of_rank, stage


class PlannedUNet(nn.Module):
    """The U-Net of a plan: input (N, in_channels, *S) -> logits (N, out_channels, *S), for any size S.

    features, kernels and strides: per stage, from the full resolution down to the bottleneck; kernels and
    strides per axis, all strides of stage 0 being 1. With deep supervision the forward pass in training mode
    returns a list of logits, finest first, one for each stage but the bottleneck; in evaluation mode, and
    without deep supervision, the finest alone.

    norm "instance", "batch" or None, and the slope of the leaky ReLU (0: a ReLU), can be put to the test: the
    convolutions that a seed gives do not depend on them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        *,
        deep_supervision: bool = True,
        norm: str | None = "instance",
        negative_slope: float = SLOPES["leaky_relu"],
    ):
        super().__init__()
        if not len(features) == len(kernels) == len(strides) >= 2:
            raise ValueError(
                f"PlannedUNet: features, kernels and strides must name the same 2 or more stages, "
                f"got {len(features)}, {len(kernels)} and {len(strides)}"
            )
        dims = len(kernels[0])
        block: dict[str, Any] = dict(dims=dims, norm=norm, negative_slope=negative_slope)
        if any(len(axes) != dims for axes in (*kernels, *strides)) or set(strides[0]) != {1}:
            raise ValueError(
                f"PlannedUNet: kernels {kernels} and strides {strides} must have {dims} axes in every "
                "stage, and stage 0 the stride 1"
            )
        self.deep_supervision = deep_supervision
        self.encoder, self.upsamplers, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.heads = nn.ModuleList()  # coarsest first, as the decoder runs
        for level, (width, kernel, stride) in enumerate(zip(features, kernels, strides)):
            channels = features[level - 1] if level else in_channels
            self.encoder.append(stage(channels, width, stride=tuple(stride), kernel=kernel, **block))
        for level in reversed(range(len(features) - 1)):
            width, up = features[level], tuple(strides[level + 1])
            self.upsamplers.append(of_rank("ConvTranspose", dims)(features[level + 1], width, up, up))
            self.decoder.append(stage(2 * width, width, kernel=kernels[level], **block))
            if deep_supervision or level == 0:
                self.heads.append(of_rank("Conv", dims)(width, out_channels, 1))
        self.apply(initialize)

    def forward(self, input: Tensor) -> Tensor | list[Tensor]:
        skips = []
        for convolutions in self.encoder:
            skips.append(input := convolutions(input))
        skips.pop()  # the bottleneck itself
        features = []
        for upsampler, convolutions in zip(self.upsamplers, self.decoder):
            features.append(input := convolutions(join(upsampler(input), skips.pop())))
        if not (self.deep_supervision and self.training):
            return self.heads[-1](input)
        return [head(x) for head, x in zip(self.heads, features)][::-1]


class CascadeUNet(PlannedUNet):
    """The second stage of nnU-Net's cascade: it corrects what a network on coarser images has found.

    Input (N, in_channels + 1, *S): the image, and in the last channel the label map of the first stage, which
    the layers see one-hot, a channel for each class but the background. The rest is as in `PlannedUNet`.
    """

    def __init__(self, in_channels: int, out_channels: int, *stages: Any, **options: Any):
        super().__init__(in_channels + out_channels - 1, out_channels, *stages, **options)
        self.in_channels, self.classes = in_channels, out_channels

    def forward(self, input: Tensor) -> Tensor | list[Tensor]:
        if input.shape[1] != self.in_channels + 1:
            raise ValueError(
                f"CascadeUNet: expected {self.in_channels} channels of the image and one with the label map "
                f"of the first stage, got {input.shape[1]} channels in all"
            )
        image, labels = input[:, :-1], input[:, -1:]
        masks = [(labels == c).to(input.dtype) for c in range(1, self.classes)]
        return super().forward(minidl.cat([image, *masks], 1))
