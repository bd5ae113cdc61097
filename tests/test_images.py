"""Reading and writing images: round trips, damaged files, atomic writing."""

import gzip
import os
import subprocess
import sys

import nibabel
import numpy as np
import PIL.Image
import pytest

from minidl.data import DataError, Image, images, read_image, read_label, write_label

AFFINE = np.array([[-1.5, 0.1, 0, 10], [0.1, 2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def save_nifti(path, array, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def save_picture(path, array, mode=None):
    picture = PIL.Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


# ---- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_nifti_image(tmp_path, rng, suffix, dtype):
    array = rng.integers(0, 200, (5, 6, 7)).astype(dtype)
    image = read_image(save_nifti(tmp_path / f"a{suffix}", array))
    np.testing.assert_array_equal(image.array, array[None])
    assert image.array.dtype == np.float32 and image.array.flags.c_contiguous
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(image.spacing, np.linalg.norm(AFFINE[:3, :3], axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((5, 6), (1, 5, 6)),
        ((5, 6, 1), (1, 5, 6)),
        ((5, 6, 1, 1), (1, 5, 6)),
        ((5, 6, 7, 1), (1, 5, 6, 7)),
        ((5, 6, 7, 2), (2, 5, 6, 7)),
        ((5, 6, 1, 2), (2, 5, 6)),
        ((1, 6, 7), (1, 1, 6, 7)),
    ],
)
def test_nifti_axes(tmp_path, rng, stored, expected):
    array = rng.standard_normal(stored).astype(np.float32)
    image = read_image(save_nifti(tmp_path / "a.nii.gz", array))
    assert image.array.shape == expected
    assert image.spatial == expected[1:] and len(image.spacing) == len(expected) - 1
    if len(stored) == 4 and stored[-1] > 1:
        np.testing.assert_array_equal(image.array[1].ravel(), array[..., 1].ravel())


def test_nifti_scaling_is_applied(tmp_path):
    nifti = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE)
    nifti.header.set_slope_inter(0.5, -3)
    nibabel.save(nifti, tmp_path / "a.nii")
    raw = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").array[0], raw)


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (np.arange(48, dtype=np.uint8).reshape(6, 8), 1),
        (np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000, 1),
        (np.arange(144, dtype=np.uint8).reshape(6, 8, 3), 3),
        (np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8, 1), 3, axis=2), 1),
        (np.arange(192, dtype=np.uint8).reshape(6, 8, 4), 3),
    ],
    ids=["grey8", "grey16", "rgb", "grey as rgb", "rgba"],
)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".PNG"])
def test_pictures(tmp_path, array, channels, suffix):
    image = read_image(save_picture(tmp_path / f"a{suffix}", array))
    expected = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)[:channels]
    np.testing.assert_array_equal(image.array, expected)
    assert image.array.dtype == np.float32
    assert (image.spacing, image.affine) == ((1.0, 1.0), None)


def test_grey_with_alpha_and_palettes(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = save_picture(tmp_path / "a.png", grey, "LA")
    np.testing.assert_array_equal(read_image(path).array, grey[None])

    indexed = PIL.Image.new("P", (8, 6))
    indexed.putdata((grey % 3).ravel().tolist())
    indexed.putpalette([0, 0, 0, 200, 0, 0, 0, 100, 0])
    indexed.save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_label(tmp_path / "b.png").array, grey % 3)
    assert read_image(tmp_path / "b.png").array.shape == (3, 6, 8)


def test_jpeg_is_an_image_but_not_a_label(tmp_path):
    path = save_picture(tmp_path / "a.jpg", np.full((16, 16), 90, np.uint8))
    np.testing.assert_allclose(read_image(path).array, 90, atol=2)
    with pytest.raises(DataError, match=r"a\.jpg: JPEG"):
        read_label(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_become_small_integers(tmp_path, rng, dtype):
    array = rng.integers(0, 3, (4, 5, 6)).astype(dtype)
    label = read_label(save_nifti(tmp_path / "a.nii.gz", array))
    np.testing.assert_array_equal(label.array, array)
    assert label.array.dtype == np.uint8 and label.spatial == (4, 5, 6)


@pytest.mark.parametrize("name", ["ünï cödé.nii", "a.b.c.nii.gz", "it's [1] {x} %s.png"])
def test_odd_names(tmp_path, name):
    like = Image(np.zeros((1, 4, 5), np.float32), (1.0, 1.0))
    write_label(tmp_path / name, np.eye(4, 5, dtype=np.uint8), like)
    np.testing.assert_array_equal(read_label(tmp_path / name).array, np.eye(4, 5))


# ---- what is refused --------------------------------------------------------------------------


def refused(path, read=read_image, match=None):
    with pytest.raises(DataError, match=match) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite(tmp_path, value):
    array = np.zeros((3, 4, 5))
    array[1, 1, 1] = value
    refused(save_nifti(tmp_path / "a.nii.gz", array), match="1 of 60 voxels")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e15])
def test_labels_that_are_not_labels(tmp_path, value):
    array = np.full((3, 4, 5), value)
    refused(save_nifti(tmp_path / "a.nii.gz", array), read_label)


def test_labels_have_one_channel(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5, 2), np.uint8))
    refused(path, read_label, "one channel, this file has 2")
    colours = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    refused(save_picture(tmp_path / "a.png", colours), read_label, "has 3")


def test_other_voxel_types(tmp_path):
    refused(save_nifti(tmp_path / "c.nii", np.zeros((3, 4, 5), np.complex64)), match="complex64")
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(save_nifti(tmp_path / "r.nii", rgb), match="not supported")
    refused(save_nifti(tmp_path / "v.nii", np.zeros((2, 2, 2, 2, 2), np.uint8)), match="4-D")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".png", ".tif", ".jpg"])
def test_files_that_are_missing_or_something_else(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    refused(path, match="no such file")
    path.write_bytes(b"")
    refused(path, match="damaged")
    path.write_text("This is not an image. " * 100)
    refused(path, match="damaged")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", match="no such file")


def test_unknown_suffix(tmp_path):
    (tmp_path / "a.mha").write_bytes(b"x")
    refused(tmp_path / "a.mha", match=r"must end in \.nii\.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".png"])
def test_truncated_files_at_many_lengths(tmp_path, rng, suffix):
    array = rng.integers(0, 255, (12, 11)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    save_picture(path, array) if suffix == ".png" else save_nifti(path, array)
    whole = path.read_bytes()
    # The last 20 bytes of a PNG are checksums and an empty chunk, which Pillow does not need.
    for length in range(0, len(whole) - (20 if suffix == ".png" else 0), 5):
        path.write_bytes(whole[:length])
        refused(path)


def test_the_last_byte_of_gzip_counts(tmp_path, rng):
    array = rng.integers(0, 99, (50, 60, 70)).astype(np.uint8)  # more than one read buffer
    path = save_nifti(tmp_path / "a.nii.gz", array)
    path.write_bytes(path.read_bytes()[:-1])
    refused(path)


@pytest.mark.filterwarnings("ignore")  # a damaged header may also draw a warning
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".png", ".tif", ".jpg"])
def test_flipped_bits_give_an_image_or_a_data_error(tmp_path, rng, suffix):
    array = rng.integers(0, 3, (20, 20)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    save_nifti(path, array) if "nii" in suffix else save_picture(path, array)
    whole = path.read_bytes()
    errors = 0
    for _ in range(120):
        damaged = bytearray(whole)
        # Mostly in the header, where a flip does most harm.
        place = rng.integers(0, min(len(whole), 400) if rng.random() < 0.7 else len(whole))
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        for read in (read_image, read_label):
            try:
                assert np.isfinite(read(path).array).all()
            except DataError as error:
                assert str(path) in str(error)
                errors += 1
    assert errors > 5


def test_flipped_bits_in_the_voxels_of_gzip_are_noticed(tmp_path, rng):
    path = save_nifti(tmp_path / "a.nii.gz", rng.integers(0, 255, (9, 8, 7)).astype(np.uint8))
    whole = path.read_bytes()
    for place in range(len(whole) // 2, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        refused(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_cannot_claim_more_than_the_file_holds(tmp_path, suffix):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header["dim"] = [3, 32000, 32000, 32000, 1, 1, 1, 1]
    header["magic"], header["vox_offset"] = b"n+1", 352
    content = header.binaryblock + bytes(4) + bytes(1000)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    refused(path, match=r"header claims the shape \(32000, 32000, 32000\)")


def test_an_empty_volume_compresses_well_and_is_still_read(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((128, 128, 64), np.float32))
    assert path.stat().st_size < 128 * 128 * 64 * 4 / 200
    assert read_image(path).spatial == (128, 128, 64)


# ---- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("high", "dtype"), [(3, "u1"), (300, "<i2"), (70000, "<i4")])
def test_written_labels_lie_where_the_image_lies(tmp_path, rng, suffix, high, dtype):
    image = read_image(save_nifti(tmp_path / "a.nii", np.zeros((5, 6, 7, 2), np.float32)))
    label = rng.integers(0, high, (5, 6, 7))
    label[0, 0, 0] = high
    write_label(tmp_path / f"b{suffix}", label, image)
    written = nibabel.load(tmp_path / f"b{suffix}")
    assert written.get_data_dtype() == np.dtype(dtype)
    again = read_label(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(again.array, label)
    np.testing.assert_array_equal(again.affine, image.affine)
    assert again.spacing == image.spacing


def test_two_dimensional_nifti_round_trip(tmp_path):
    image = read_image(save_nifti(tmp_path / "a.nii", np.zeros((5, 6, 1), np.float32)))
    write_label(tmp_path / "b.nii.gz", np.eye(5, 6, dtype=bool), image)
    label = read_label(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(label.array, np.eye(5, 6))
    np.testing.assert_array_equal(label.affine, image.affine)
    assert label.spacing == image.spacing


def test_the_spacing_is_kept_where_the_affine_says_otherwise(tmp_path):
    like = Image(np.zeros((1, 5, 6, 7), np.float32), (1.0, 2.0, 4.5), np.eye(4))
    write_label(tmp_path / "a.nii", np.zeros((5, 6, 7), int), like)
    again = read_label(tmp_path / "a.nii")
    assert again.spacing == like.spacing
    np.testing.assert_array_equal(again.affine, np.eye(4))


def test_without_affine_nifti_gets_the_spacing(tmp_path):
    write_label(tmp_path / "a.nii", np.eye(5, dtype=int), Image(np.zeros((1, 5, 5)), (2.0, 3.0)))
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii").affine, np.diag([2, 3, 1, 1]))


@pytest.mark.parametrize("high", [1, 255, 256, 65535])
def test_png_round_trip(tmp_path, high):
    label = np.zeros((5, 6), np.int64)
    label[2, 3] = high
    like = Image(np.zeros((3, 5, 6), np.float32), (1.0, 1.0))
    write_label(tmp_path / "new" / "a.png", label, like)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "new" / "a.png")), label)


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("a.png", np.zeros((5, 6), np.float32), "integer array"),
        ("a.png", np.zeros((6, 5), np.uint8), r"\(5, 6\)"),
        ("a.png", np.full((5, 6), -1), "from 0 to 65535"),
        ("a.nii", np.full((5, 6), 2**40), "32 bits"),
        ("a.tif", np.zeros((5, 6), np.uint8), "must end in"),
        ("a", np.zeros((5, 6), np.uint8), "must end in"),
    ],
)
def test_labels_that_cannot_be_written_leave_nothing_behind(tmp_path, name, array, match):
    like = Image(np.zeros((1, 5, 6), np.float32), (1.0, 1.0))
    with pytest.raises(ValueError, match=match):
        write_label(tmp_path / name, array, like)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.png"])
def test_writing_is_atomic(tmp_path, name, monkeypatch):
    like = Image(np.zeros((1, 5, 6), np.float32), (1.0, 1.0))
    write_label(tmp_path / name, np.ones((5, 6), np.uint8), like)
    before = (tmp_path / name).read_bytes()

    def write_half(path, *_):
        assert path.parent == tmp_path and path.name != name and path.name.endswith(name)
        path.write_bytes(before[:20])
        raise OSError("disk full")

    monkeypatch.setattr(images, "_write_nifti", write_half)
    monkeypatch.setattr(images, "_write_png", write_half)
    with pytest.raises(OSError, match="disk full"):
        write_label(tmp_path / name, np.zeros((5, 6), np.uint8), like)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == before


def test_who_reads_the_old_file_keeps_it(tmp_path):
    like = Image(np.zeros((1, 5, 6), np.float32), (1.0, 1.0))
    write_label(tmp_path / "a.nii", np.ones((5, 6), np.uint8), like)
    before = (tmp_path / "a.nii").read_bytes()
    with open(tmp_path / "a.nii", "rb") as old:
        write_label(tmp_path / "a.nii", np.zeros((5, 6), np.uint8), like)
        assert old.read() == before != (tmp_path / "a.nii").read_bytes()


def test_importing_the_room_loads_only_numpy():
    heavy = ["scipy", "nibabel", "PIL", "matplotlib", "tqdm"]
    code = f"import sys, minidl.data; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
