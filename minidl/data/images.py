"""Images and labels in files: NIfTI (.nii, .nii.gz) and pictures (.png, .tif, .tiff, .jpg).

Files come from anywhere, so nothing in them is trusted: whatever is wrong with a file becomes one
DataError that names it, and a header is believed only as far as the size of the file allows.
"""

import gzip
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.files import atomic_write

NIFTI = (".nii.gz", ".nii")
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
SUFFIXES = NIFTI + PICTURES

_MODES = ("1", "L", "LA", "P", "I", "I;16", "I;16B", "F", "RGB", "RGBA")  # Pillow's pixel formats


class DataError(ValueError):
    """A file or folder that cannot be used; the message names it and says what is wrong."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image or a label with its place in space.

    array: an image is float32 (C, *spatial), a label is an integer array (*spatial).
    spacing: size of a voxel along each spatial axis in mm; 1.0 for pictures, which do not say.
    affine: matrix (4, 4) from voxel index to position in mm; None for pictures.
    """

    array: np.ndarray
    spacing: tuple[float, ...]
    affine: np.ndarray | None = None

    @property
    def spatial(self) -> tuple[int, ...]:
        return self.array.shape[-len(self.spacing) :]


def suffix_of(path: Path) -> str:
    """The known suffix that the file name ends in, or "": ".nii.gz" for "a.b.nii.gz"."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def read_image(path: str | os.PathLike[str]) -> Image:
    """Reads an image as float32 (C, *spatial).

    The channels of a NIfTI file are its fourth axis. An alpha channel is dropped, and of three
    equal colours one is kept. Raises DataError if the file cannot be read or is not finite.
    """
    path = Path(path)
    array, spacing, affine = _read(path, label=False)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
        array = array.astype(np.float32, order="C")
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise DataError(f"{path}: {bad} of {array.size} voxels are NaN or infinite")
    return Image(array, spacing, affine)


def read_label(path: str | os.PathLike[str]) -> Image:
    """Reads a label as the smallest of uint8, int16 and int32 that holds it, (*spatial).

    Raises DataError if the file cannot be read, has more than one channel or holds fractions.
    """
    path = Path(path)
    if suffix_of(path) in (".jpg", ".jpeg"):
        raise DataError(f"{path}: JPEG changes the values of a label; use PNG or NIfTI")
    array, spacing, affine = _read(path, label=True)
    if len(array) != 1:
        raise DataError(f"{path}: a label has one channel, this file has {len(array)}")
    array = array[0]
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        raise DataError(f"{path}: the values of a label must be whole numbers (dtype {array.dtype})")
    try:
        return Image(_smallest_integers(array), spacing, affine)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def write_label(path: str | os.PathLike[str], array: np.ndarray, like: Image) -> None:
    """Writes a label (*spatial) as .nii, .nii.gz or .png, in the place in space of `like`.

    The file appears complete or not at all. Raises ValueError if the array is not a label of
    `like` or does not fit the format.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.dtype.kind not in "bui" or array.shape != like.spatial:
        raise ValueError(
            f"write_label: {path} needs an integer array of shape {like.spatial}, "
            f"got {array.dtype} {array.shape}"
        )
    array = _smallest_integers(array)
    with atomic_write(path) as temporary:
        if suffix_of(path) in NIFTI:
            _write_nifti(temporary, array, like)
        elif suffix_of(path) == ".png":
            _write_png(temporary, array)
        else:
            raise ValueError(f"write_label: {path} must end in .nii.gz, .nii or .png")


def write_image(path: str | os.PathLike[str], image: Image) -> None:
    """Writes an image (C, *spatial) as .nii or .nii.gz; several channels become the fourth axis.

    The file appears complete or not at all.
    """
    path = Path(path)
    if suffix_of(path) not in NIFTI:
        raise ValueError(f"write_image: {path} must end in .nii.gz or .nii")
    array = image.array
    while len(array) > 1 and array.ndim < 4:
        array = array[..., None]  # a picture of several channels is a volume of one slice
    with atomic_write(path) as temporary:
        _write_nifti(temporary, np.moveaxis(array, 0, -1) if len(array) > 1 else array[0], image)


def _smallest_integers(array: np.ndarray) -> np.ndarray:
    low, high = array.min(), array.max()
    for dtype in (np.uint8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, order="C")
    raise ValueError(f"label values from {low} to {high} do not fit into 32 bits")


# ---- reading ----------------------------------------------------------------------------------

_Parts = tuple[np.ndarray, tuple[float, ...], np.ndarray | None]


def _read(path: Path, label: bool) -> _Parts:
    """The array (C, *spatial) in the file's own dtype, the spacing and the affine."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = suffix_of(path)
    if not suffix:
        raise DataError(f"{path}: not an image, the name must end in {', '.join(SUFFIXES)}")
    try:
        return _read_nifti(path) if suffix in NIFTI else _read_picture(path, label)
    except DataError:
        raise
    except Exception as error:  # on a damaged file the decoders raise whatever they stumble over
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: damaged or not a {suffix} file ({what})") from error


def _check_size(path: Path, shape: tuple[int, ...], itemsize: int, expansion: int) -> None:
    """Refuses a header that promises more than the file can hold, before memory is reserved."""
    promised, size = math.prod(shape) * itemsize, path.stat().st_size
    if not shape or min(shape) < 1:
        raise DataError(f"{path}: the header claims the shape {shape}")
    if promised > size * expansion:
        raise DataError(
            f"{path}: truncated or damaged, the header claims the shape {shape} with "
            f"{promised} bytes, too much for a file of {size} bytes"
        )


def _read_nifti(path: Path) -> _Parts:
    import nibabel

    header: Any = nibabel.load(path)  # the voxels are not read yet
    dtype, shape = header.get_data_dtype(), header.shape
    if dtype.kind not in "uif":
        raise DataError(f"{path}: voxels of type {dtype} are not supported, only plain numbers")
    compressed = path.name.lower().endswith(".gz")
    # gzip shrinks zeros to a thousandth of their size, but never beyond.
    _check_size(path, shape, dtype.itemsize, expansion=2000 if compressed else 1)
    with gzip.open(path) if compressed else open(path, "rb") as stream:
        array = np.asarray(type(header).from_stream(stream).dataobj)
        while stream.read(1 << 20):  # to the end of the file, where gzip compares its checksum
            pass

    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3, 4):
        raise DataError(f"{path}: 2-D, 3-D or 4-D expected, the shape is {shape}")
    array = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    if array.ndim == 4 and array.shape[-1] == 1:  # one slice with channels
        array = array[..., 0]

    spacing = tuple(float(size) for size in header.header.get_zooms()[: array.ndim - 1])
    affine = np.asarray(header.affine)
    if not (np.isfinite(affine).all() and np.isfinite(spacing).all() and min(spacing) > 0):
        raise DataError(f"{path}: the voxel size {spacing} or the affine is not valid")
    return array, spacing, affine


def _read_picture(path: Path, label: bool) -> _Parts:
    import PIL.Image

    with PIL.Image.open(path, formats=("PNG", "TIFF", "JPEG")) as opened:
        picture: PIL.Image.Image = opened
        if picture.mode not in _MODES:
            raise DataError(f"{path}: colour mode {picture.mode} is not supported")
        if picture.format == "TIFF" and getattr(picture, "n_frames", 1) > 1:
            raise DataError(f"{path}: more than one page; save each page as a file")
        _check_size(path, picture.size, len(picture.getbands()), expansion=2000)
        if picture.mode == "P" and not label:  # in a label the palette's indices are the values
            picture = picture.convert("RGB")
        array, mode = np.asarray(picture), picture.mode
    array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if mode in ("LA", "RGBA"):
        array = array[:-1]
    if len(array) == 3 and (array == array[:1]).all():
        array = array[:1]
    return array, (1.0, 1.0), None


# ---- writing ----------------------------------------------------------------------------------


def _write_nifti(path: Path, array: np.ndarray, like: Image) -> None:
    import nibabel

    affine = np.diag([*like.spacing, 1.0, 1.0][:3] + [1.0]) if like.affine is None else like.affine
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_zooms((*like.spacing, 1.0, 1.0)[: array.ndim])
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_png(path: Path, array: np.ndarray) -> None:
    import PIL.Image

    if array.ndim != 2 or array.min() < 0 or array.max() > 65535:
        raise ValueError(
            f"write_label: a PNG holds 2-D values from 0 to 65535, got {array.min()} to "
            f"{array.max()} in the shape {array.shape}"
        )
    PIL.Image.fromarray(array.astype(np.uint8 if array.max() < 256 else np.uint16)).save(path)
