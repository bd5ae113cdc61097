"""The networks by name: `build("unet2d", in_channels=1, out_channels=3)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.models.encoder_decoder import EncoderDecoder
from minidl.models.planned_unet import PlannedUNet
from minidl.models.segnet import SegNet
from minidl.models.unet import UNet
from minidl.models.unet3d2016 import UNet3d2016
from minidl.models.unet2015 import unet2015
from minidl.nn import Module


def _halvings(dims: int, features: tuple[int, ...]) -> dict[str, Any]:
    """The isotropic plan: kernels of 3 and halved axes in every stage."""
    return dict(
        features=features,
        kernels=[(3,) * dims] * len(features),
        strides=[(1,) * dims] + [(2,) * dims] * (len(features) - 1),
    )


# How each is made, and the options that its name stands for.
NETWORKS: dict[str, tuple[Callable[..., Module], dict[str, Any]]] = {
    "encoder_decoder2d": (EncoderDecoder, dict(dims=2)),
    "encoder_decoder3d": (EncoderDecoder, dict(dims=3)),
    "segnet": (SegNet, dict(dims=2)),
    "unet2d": (UNet, dict(dims=2)),
    "unet3d": (UNet, dict(dims=3)),
    "unet2015": (unet2015, {}),
    "unet3d2016": (UNet3d2016, {}),
    "planned_unet2d": (PlannedUNet, _halvings(2, (32, 64, 128, 256, 512, 512, 512))),  # of 256² pixels
    "planned_unet3d": (PlannedUNet, _halvings(3, (32, 64, 128, 256, 320, 320))),  # of 128³ voxels
}


def build(name: str, in_channels: int = 1, out_channels: int = 2, **options: Any) -> Module:
    """A new network by its name, with weights drawn by the engine's random numbers.

    The options are the keyword arguments of the network's class, for instance `features`.
    Errors: ValueError that lists the names where this one is unknown; TypeError for an option that the
    network does not have.
    """
    if name not in NETWORKS:
        raise ValueError(f"build: there is no network {name!r}; there are {', '.join(NETWORKS)}")
    make, settings = NETWORKS[name]
    return make(in_channels, out_channels, **{**settings, **options})
