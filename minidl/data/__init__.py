"""Where training data comes from: generated phantoms and folders of labelled images."""

from minidl.data.dataset import Case, Dataset
from minidl.data.images import DataError, Image, read_image, read_label, write_image, write_label
from minidl.data.phantom import CLASSES, PhantomDataset, phantom, phantom_case
from minidl.data.readers import open_dataset
from minidl.data.splits import split_indices

__all__ = [
    "CLASSES",
    "Case",
    "DataError",
    "Dataset",
    "Image",
    "PhantomDataset",
    "open_dataset",
    "phantom",
    "phantom_case",
    "read_image",
    "read_label",
    "split_indices",
    "write_image",
    "write_label",
]
