"""Networks for segmentation."""

from minidl.models.unet import UNet, UNet3d2016, unet2015

__all__ = ["UNet", "UNet3d2016", "unet2015"]
