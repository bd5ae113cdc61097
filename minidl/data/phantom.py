"""Generated phantoms: an organ with lesions, in 2-D or 3-D, drawn in three steps.

    anatomy (boolean masks)  ->  paint (a grey value per tissue)  ->  acquire (blur, bias, noise)

Every ingredient takes a shortcut away from the network. If lesions were the only bright things,
brightness would point at them; so a skull and vessels are as bright, and only shape and place
tell them apart. If all lesions were filled, a local filter would find them; so half of the images
have lesions with a dark core, and filling these takes a large receptive field.

Lengths are in half image widths: the grid runs from -1 to 1 along each axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidl.data.dataset import Case, contents, progress_bar
from minidl.data.images import Image

CLASSES = ("background", "organ", "lesion")
SPLITS = ("train", "validation", "test", "shifted")


class Anatomy(NamedTuple):
    """One boolean mask (*shape) per structure. They overlap: `_paint` says which one shows."""

    skull: np.ndarray
    organ: np.ndarray
    inner: np.ndarray
    ventricle: np.ndarray
    lesion: np.ndarray
    core: np.ndarray
    vessels: np.ndarray


def phantom(
    shape: Sequence[int], rng: np.random.Generator, shifted: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one random phantom.

    Args:
        shape: two or three sizes, each at least 16.
        rng: the source of all randomness.
        shifted: more noise and a stronger bias field, to measure how a network generalises.

    Returns:
        image (*shape), float32, not negative, and label (*shape), uint8: an index into CLASSES.
    """
    shape = tuple(shape)
    if len(shape) not in (2, 3) or min(shape) < 16:
        raise ValueError(f"phantom: shape must have 2 or 3 sizes of at least 16, got {shape}")
    anatomy = _draw_anatomy(shape, rng)
    image = _acquire(_paint(anatomy, rng), rng, shifted)
    label = anatomy.organ.astype(np.uint8)
    label[anatomy.lesion] = 2
    return image, label


def phantom_case(split: str, index: int, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Case `index` of a split, always the same one: the split and the index are the seed."""
    if split not in SPLITS or index < 0:
        raise ValueError(
            f"phantom_case: split must be one of {', '.join(SPLITS)} and index not negative, "
            f"got {split!r} and {index}"
        )
    rng = np.random.default_rng([SPLITS.index(split), index])
    return phantom(shape, rng, shifted=split == "shifted")


# ---- random shapes ----------------------------------------------------------------------------


def _blur(array: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` voxels with periodic borders: a product in Fourier space."""
    frequencies = [np.fft.fftfreq(size) for size in array.shape]
    frequencies[-1] = np.fft.rfftfreq(array.shape[-1])  # a real FFT keeps half of the last axis
    squared = sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True))
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * squared).astype(np.float32)
    axes = range(array.ndim)
    return np.fft.irfftn(np.fft.rfftn(array, axes=axes) * transfer, s=array.shape, axes=axes)


def _smooth_field(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blurred white noise: a smooth random field (*shape) of mean 0 and standard deviation 1."""
    field = _blur(rng.standard_normal(shape, dtype=np.float32), sigma)
    return (field - field.mean()) / field.std()


def _rotation(dims: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly random orthogonal matrix (dims, dims)."""
    q, r = np.linalg.qr(rng.standard_normal((dims, dims)))
    return q * np.sign(np.diag(r))


def _local(grid: np.ndarray, centre: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Coordinates (dims, *shape) of the grid in a rotated frame around `centre`."""
    column = centre.astype(np.float32).reshape(-1, *[1] * len(centre))
    return np.tensordot(rotation.astype(np.float32), grid - column, axes=1)


def _ellipsoid(grid: np.ndarray, centre: np.ndarray, radii: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Distance from the centre in units of the radii (*shape): less than 1 is inside."""
    local = _local(grid, centre, rotation)
    return np.sqrt(sum((x / np.float32(r)) ** 2 for x, r in zip(local, radii, strict=True)))


# ---- step 1: anatomy --------------------------------------------------------------------------


def _draw_anatomy(shape: tuple[int, ...], rng: np.random.Generator) -> Anatomy:
    dims, size = len(shape), min(shape)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))

    # Size, place and tilt vary and the border is warped: no fixed mask fits all organs.
    tilt = rng.uniform(-0.35, 0.35)
    rotation = np.eye(dims)
    rotation[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    centre, radii = rng.uniform(-0.12, 0.12, dims), rng.uniform(0.55, 0.82, dims)
    depth = _ellipsoid(grid, centre, radii, rotation) + 0.05 * _smooth_field(shape, size / 9, rng)
    organ = depth < 1
    skull = (depth > 1.04) & (depth < 1.14)

    # A folded inner tissue and a dark ventricle: the organ is not one grey level.
    folds = _smooth_field(shape, size / 22, rng)
    inner = depth + 0.09 * folds < 0.80
    ventricle_centre = centre + rng.uniform(-0.08, 0.08, dims)
    ventricle_radii = radii * rng.uniform(0.12, 0.28, dims)
    ventricle = _ellipsoid(grid, ventricle_centre, ventricle_radii, _rotation(dims, rng))
    ventricle = organ & (ventricle + 0.15 * folds < 1)

    lesion = np.zeros(shape, bool)
    for _ in range(rng.choice(4, p=[0.15, 0.5, 0.25, 0.1])):
        lesion |= organ & _draw_lesion(grid, centre, radii, rng)
    core = _blur(lesion.astype(np.float32), size / 40) > 0.85  # only large lesions have one

    vessels = np.zeros(shape, bool)
    for _ in range(rng.integers(2, 6)):
        distance = _draw_vessel(grid, centre, radii, rng)
        inside = depth < 0.92
        # Vessels that meet could enclose a region, like a ring, so each keeps clear of the others.
        if not (vessels & inside & (distance < 3)).any():
            vessels |= inside & (distance < 1)
    return Anatomy(skull, organ, inner, ventricle, lesion, core, vessels & ~lesion)


def _draw_lesion(
    grid: np.ndarray, centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A blob (*shape) with an irregular border, somewhere inside the organ."""
    dims, shape = len(grid), grid.shape[1:]
    direction = rng.standard_normal(dims)
    offset = radii * direction / np.linalg.norm(direction) * rng.uniform(0.1, 0.72)
    smallest = 0.08 if dims == 2 else 0.12  # in 3-D fewer voxels span the image
    radius = np.exp(rng.uniform(np.log(smallest), np.log(0.30)))  # as many small ones as large
    lesion_radii = np.maximum(smallest, radius * rng.uniform(0.7, 1.3, dims))
    distance = _ellipsoid(grid, centre + offset, lesion_radii, _rotation(dims, rng))
    # A factor, not a sum: the border moves by a share of the radius and the centre stays inside.
    return distance * np.exp(0.2 * _smooth_field(shape, min(shape) / 14, rng)) < 1


def _draw_vessel(
    grid: np.ndarray, centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Distance (*shape), in radii, from a thin tube: a straight line that sways a little."""
    dims, shape = len(grid), grid.shape[1:]
    middle = centre + radii * rng.uniform(-0.5, 0.5, dims)
    along, *across = _local(grid, middle, _rotation(dims, rng))
    # The curvature is at most amplitude * frequency² = 2.4, a bend of radius 0.4 that is wider than
    # any lesion: a vessel never turns into a small hook, which would look like a ring lesion.
    squared_distance = np.zeros(shape, np.float32)
    for x in across:
        amplitude, frequency = rng.uniform(0.03, 0.15), rng.uniform(2, 4)
        sway = amplitude * np.sin(frequency * along + rng.uniform(0, 2 * np.pi))
        squared_distance += (x - sway) ** 2
    radius = max(rng.uniform(0.02, 0.04), 2.6 / min(shape))  # 1.3 voxels: blur must not erase it
    return np.where(abs(along) < rng.uniform(0.3, 0.9), np.sqrt(squared_distance) / radius, np.inf)


# ---- step 2: grey values ----------------------------------------------------------------------


def _paint(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """A grey value for every voxel (*shape); later structures cover earlier ones.

    The contrasts are drawn per image, so no grey value belongs to a class.
    """
    organ = rng.uniform(0.35, 0.6)
    inner = organ + rng.choice([-1, 1]) * rng.uniform(0.06, 0.16)
    bright = max(organ, inner) + rng.uniform(0.10, 0.28)
    image = np.zeros(anatomy.organ.shape, np.float32)
    image[anatomy.organ] = organ
    image[anatomy.organ & anatomy.inner] = inner
    image[anatomy.ventricle] = rng.uniform(0.1, 0.25)
    image[anatomy.lesion] = bright
    if rng.random() < 0.5:  # the ring look
        image[anatomy.core] = bright - rng.uniform(0.2, 0.4)
    # The distractors: as bright as a lesion, but background and organ by their label.
    image[anatomy.skull] = bright * rng.uniform(0.9, 1.2)
    image[anatomy.vessels] = bright
    texture = _smooth_field(image.shape, 1.2, rng)
    return image + 0.025 * texture * (image > 0)


# ---- step 3: acquisition ----------------------------------------------------------------------


def _acquire(image: np.ndarray, rng: np.random.Generator, shifted: bool) -> np.ndarray:
    """What a scanner makes of it: partial volume, bias field and Rician noise (*shape), float32."""
    shape = image.shape
    image = _blur(image, rng.uniform(0.5, 1.1))
    # The same tissue is brighter on one side. tanh keeps the factor below exp(strength).
    strength = rng.uniform(0.5, 0.65) if shifted else rng.uniform(0.2, 0.45)
    image = image * np.exp(strength * np.tanh(_smooth_field(shape, min(shape) / 3, rng)))
    # The magnitude of a complex signal with Gaussian noise in both parts, as in MRI.
    noise = rng.uniform(0.08, 0.12) if shifted else rng.uniform(0.02, 0.06)
    real, imaginary = noise * rng.standard_normal((2, *shape), dtype=np.float32)
    return np.hypot(image + real, imaginary).astype(np.float32)


# ---- a dataset of phantoms --------------------------------------------------------------------


class PhantomDataset:
    """The first `n` phantoms of a split ("train", "validation", "test", "shifted") as a Dataset.

    `shape` is 128x128 in 2-D and 48x48x48 in 3-D unless given. A case is drawn when it is loaded.
    """

    folder = None
    layout = "Generated phantoms"
    classes = CLASSES
    channels = ("intensity",)
    skipped = ()

    def __init__(self, split: str, n: int, dims: int = 2, shape: Sequence[int] | None = None):
        if split not in SPLITS:
            raise ValueError(f"PhantomDataset: split must be one of {SPLITS}, got {split!r}")
        if n < 1 or dims not in (2, 3):
            raise ValueError(f"PhantomDataset: n must be at least 1 and dims 2 or 3, got {n} and {dims}")
        self.split, self.dims = split, dims
        self.shape = tuple(shape) if shape is not None else {2: (128, 128), 3: (48, 48, 48)}[dims]
        if len(self.shape) != dims:
            raise ValueError(f"PhantomDataset: shape {self.shape} does not have {dims} sizes")
        self.names = tuple(f"{split}_{i:04d}" for i in range(n))

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Case:
        index = range(len(self))[index]  # counts negative indices from the end
        image, label = phantom_case(self.split, index, self.shape)
        spacing = (1.0,) * self.dims
        return Case(self.names[index], Image(image[None], spacing), Image(label, spacing))

    def describe(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{self.layout}, split {self.split}, {size} voxels: {contents(self)}."

    def check(self, progress: bool = True) -> list[Case]:
        """Draws every case once; generated cases have no faults to find."""
        return [self.load(i) for i in progress_bar(range(len(self)), progress)]
