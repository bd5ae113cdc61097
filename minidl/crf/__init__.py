"""Conditional random fields that clean up a segmentation: neighbours that look alike get the same label."""

from minidl.crf.filters import Exact, Lattice, Separable, Windowed
from minidl.crf.mean_field import DenseCRF, mean_field

__all__ = ["DenseCRF", "Exact", "Lattice", "Separable", "Windowed", "mean_field"]
