"""Networks for segmentation, in the order in which they were thought of: each file says what one adds."""

from minidl.models.encoder_decoder import EncoderDecoder
from minidl.models.planned_unet import CascadeUNet, PlannedUNet
from minidl.models.registry import NETWORKS, build
from minidl.models.segnet import SegNet
from minidl.models.unet import UNet
from minidl.models.unet3d2016 import UNet3d2016
from minidl.models.unet2015 import unet2015

__all__ = [
    "NETWORKS",
    "CascadeUNet",
    "EncoderDecoder",
    "PlannedUNet",
    "SegNet",
    "UNet",
    "UNet3d2016",
    "build",
    "unet2015",
]
