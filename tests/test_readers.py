"""Datasets in folders: every layout is recognised, every fault names its file."""

import json
import shutil

import nibabel
import numpy as np
import PIL.Image
import pytest

from minidl.data import DataError, open_dataset

SHAPE = (6, 7, 8)


def nifti(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


def image(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def label(shape=SHAPE, high=2):
    return (np.indices(shape).sum(0) % (high + 1)).astype(np.uint8)


def write_json(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))


DECATHLON_LABELS = {"0": "background", "1": "anterior", "2": "posterior"}


def decathlon(folder, n=3, shape=SHAPE):
    names = [f"hippocampus_{i:03d}.nii.gz" for i in range(n)]
    for i, name in enumerate(names):
        nifti(folder / "imagesTr" / name, image(i, shape))
        nifti(folder / "labelsTr" / name, label())
    training = [{"image": f"./imagesTr/{x}", "label": f"./labelsTr/{x}"} for x in names[::-1]]
    modality = {str(i): f"MRI {i}" for i in range(1 if len(shape) == 3 else shape[-1])}
    write_json(folder, labels=DECATHLON_LABELS, modality=modality, training=training)
    return folder


def nnunet(folder, n=3, channels=2, describe=True):
    for i in range(n):
        for c in range(channels):
            nifti(folder / "imagesTr" / f"case_{i:02d}_{c:04d}.nii.gz", image(10 * i + c))
        nifti(folder / "labelsTr" / f"case_{i:02d}.nii.gz", label())
    if describe:
        names = {str(c): f"sequence {c}" for c in range(channels)}
        labels = {"background": 0, "left": 1, "right": 2}
        write_json(folder, channel_names=names, labels=labels, file_ending=".nii.gz")
    return folder


def pairs(folder, n=4, labels="labels", high=2):
    for i in range(n):
        nifti(folder / "images" / f"case_{i}.nii.gz", image(i))
        nifti(folder / labels / f"case_{i}.nii.gz", label(high=high))
    return folder


def masks(folder, n=3, values=(0, 255)):
    """2-D pairs of pictures whose masks hold the two values."""
    for i in range(n):
        picture(folder / "images" / f"{i}.png", np.full((9, 10), 20 + i, np.uint8))
        picture(folder / "masks" / f"{i}.tif", np.take(values, label((9, 10), 1)).astype(np.uint8))
    return folder


def bowl(folder, n=3):
    for i in range(n):
        case = folder / f"nucleus{i}"
        picture(case / "images" / f"nucleus{i}.png", np.full((9, 10, 4), 20, np.uint8))
        for k in range(i + 1):
            mask = np.zeros((9, 10), np.uint8)
            mask[2 * k : 2 * k + 2, 3] = 255
            picture(case / "masks" / f"{k:x}abc.png", mask)
    return folder


# ---- what is recognised -----------------------------------------------------------------------


def facts(dataset):
    return dataset.layout, len(dataset), dataset.dims, len(dataset.channels), dataset.classes


def test_decathlon(tmp_path):
    dataset = open_dataset(decathlon(tmp_path))
    assert dataset.names == ("hippocampus_000", "hippocampus_001", "hippocampus_002")
    classes = ("background", "anterior", "posterior")
    assert facts(dataset) == ("Medical Segmentation Decathlon", 3, 3, 1, classes)
    assert dataset.channels == ("MRI 0",) and dataset.skipped == ()
    for i, case in enumerate(dataset.check(progress=False)):
        assert case.name == dataset.names[i]
        np.testing.assert_array_equal(case.image.array, image(i)[None])
        np.testing.assert_array_equal(case.label.array, label())
    assert dataset.describe() == (
        "Medical Segmentation Decathlon folder: 3 cases, 3-D, 1 channel (MRI 0), "
        "3 classes (background, anterior, posterior)."
    )


def test_decathlon_with_channels(tmp_path):
    dataset = open_dataset(decathlon(tmp_path, shape=(*SHAPE, 4)))
    assert dataset.channels == ("MRI 0", "MRI 1", "MRI 2", "MRI 3")
    cases = dataset.check(progress=False)
    np.testing.assert_array_equal(cases[1].image.array[2], image(1, (*SHAPE, 4))[..., 2])


def test_nnunet(tmp_path):
    dataset = open_dataset(nnunet(tmp_path))
    assert dataset.names == ("case_00", "case_01", "case_02")
    assert facts(dataset) == ("nnU-Net", 3, 3, 2, ("background", "left", "right"))
    assert dataset.channels == ("sequence 0", "sequence 1")
    case = dataset.check(progress=False)[2]
    np.testing.assert_array_equal(case.image.array, [image(20), image(21)])


def test_nnunet_without_description(tmp_path):
    dataset = open_dataset(nnunet(tmp_path, describe=False))
    assert facts(dataset) == ("nnU-Net", 3, 3, 2, ("background", "class 1", "class 2"))
    assert dataset.channels == ("channel 0", "channel 1")


def test_first_version_of_nnunet_lists_files_without_channel_number(tmp_path):
    nnunet(tmp_path, channels=1, describe=False)
    training = [{"image": "./imagesTr/case_00.nii.gz", "label": "./labelsTr/case_00.nii.gz"}]
    write_json(tmp_path, labels=DECATHLON_LABELS, modality={"0": "CT"}, training=training)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, len(dataset), dataset.channels) == ("nnU-Net", 3, ("CT",))


@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_pairs(tmp_path, labels):
    dataset = open_dataset(pairs(tmp_path, labels=labels))
    classes = ("background", "class 1", "class 2")
    assert facts(dataset) == (f"images / {labels}", 4, 3, 1, classes)
    np.testing.assert_array_equal(dataset.load(-1).label.array, label())


def test_decathlon_folders_without_description_are_pairs(tmp_path):
    (decathlon(tmp_path) / "dataset.json").unlink()
    assert open_dataset(tmp_path).layout == "imagesTr / labelsTr"


def test_four_digits_in_both_names_are_not_a_channel(tmp_path):
    for i in range(3):
        nifti(tmp_path / "imagesTr" / f"frame_{i:04d}.nii", image(i))
        nifti(tmp_path / "labelsTr" / f"frame_{i:04d}.nii", label())
    assert open_dataset(tmp_path).names == ("frame_0000", "frame_0001", "frame_0002")


def test_pairs_skip_a_few_files_without_partner_and_say_so(tmp_path):
    pairs(tmp_path)
    nifti(tmp_path / "images" / "lonely.nii.gz", image(0))
    nifti(tmp_path / "labels" / "alone.nii.gz", label())
    nifti(tmp_path / "labels" / "apart.nii.gz", label())
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 4 and dataset.skipped == ("alone", "apart", "lonely")
    assert "1 image without label and 2 labels without image" in dataset.describe()
    assert "alone, apart, lonely" in dataset.describe()


def test_labels_stored_as_float(tmp_path):
    pairs(tmp_path)
    nifti(tmp_path / "labels" / "case_1.nii.gz", label().astype(np.float32))
    for case in open_dataset(tmp_path).check(progress=False):
        assert case.label.array.dtype == np.uint8


@pytest.mark.parametrize("values", [(0, 255), (0, 1)])
@pytest.mark.parametrize("checked", [True, False])
def test_black_and_white_masks_are_class_1(tmp_path, values, checked):
    dataset = open_dataset(masks(tmp_path, values=values))
    case = dataset.check(progress=False)[1] if checked else dataset.load(1)
    np.testing.assert_array_equal(case.label.array, label((9, 10), 1))
    assert facts(dataset) == ("images / masks", 3, 2, 1, ("background", "class 1"))


def test_bowl(tmp_path):
    dataset = open_dataset(bowl(tmp_path))
    assert facts(dataset) == ("Data Science Bowl 2018", 3, 2, 1, ("background", "class 1"))
    assert dataset.names == ("nucleus0", "nucleus1", "nucleus2")
    for i, case in enumerate(dataset.check(progress=False)):
        assert case.image.array.shape == (1, 9, 10)
        assert case.label.array.sum() == 2 * (i + 1) and case.label.array.max() == 1


def test_bowl_skips_a_case_without_masks(tmp_path):
    shutil.rmtree(bowl(tmp_path) / "nucleus1" / "masks")
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("nucleus0", "nucleus2") and dataset.skipped == ("nucleus1",)


LAYOUTS = [decathlon, nnunet, pairs, masks, bowl]


@pytest.mark.parametrize("make", LAYOUTS)
@pytest.mark.parametrize("where", ["", "below", "odd näme %s {x} [1] 0000"])
def test_hidden_files_and_the_folder_above(tmp_path, make, where):
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    make(folder)
    for path in list(folder.rglob("*")):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7macOS")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("read me")
    dataset = open_dataset(str(tmp_path))
    assert dataset.folder == folder
    assert len(dataset.check(progress=False)) == len(dataset) >= 3


def test_several_datasets_below(tmp_path):
    for name in ("train", "test"):
        pairs(tmp_path / name)
    with pytest.raises(DataError, match=r"2 datasets.*test.*train"):
        open_dataset(tmp_path)


# ---- what is not ------------------------------------------------------------------------------


def test_no_layout(tmp_path):
    with pytest.raises(DataError, match=r"Looked for imagesTr.*found nothing"):
        open_dataset(tmp_path)
    (tmp_path / "scans").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"found notes\.txt, scans"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "missing")
    with pytest.raises(DataError, match="is a file"):
        open_dataset(tmp_path / "notes.txt")


def test_pairs_whose_names_do_not_match(tmp_path):
    for path in (pairs(tmp_path) / "labels").iterdir():
        path.rename(path.with_name(f"seg_{path.name}"))
    with pytest.raises(DataError, match=r"only 0 of 4 images.*case_0.*seg_case_0"):
        open_dataset(tmp_path)


def test_most_files_must_have_a_partner(tmp_path):
    pairs(tmp_path, n=2)
    for name in ("x", "y"):
        nifti(tmp_path / "images" / f"{name}.nii.gz", image(0))
    with pytest.raises(DataError, match=r"only 2 of 4 images.*Without label: x, y"):
        open_dataset(tmp_path)


def test_two_files_of_one_name(tmp_path):
    nifti(pairs(tmp_path) / "images" / "case_1.nii", image(1))
    with pytest.raises(DataError, match=r"case_1\.nii\.gz: case_1\.nii in the same folder"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("kind", ["imagesTr", "labelsTr"])
def test_a_listed_file_is_missing(tmp_path, kind):
    missing = decathlon(tmp_path) / kind / "hippocampus_001.nii.gz"
    missing.unlink()
    with pytest.raises(DataError, match="no such file") as error:
        open_dataset(tmp_path)
    assert str(missing) in str(error.value)


def test_a_channel_is_missing(tmp_path):
    (nnunet(tmp_path) / "imagesTr" / "case_01_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="case_01_0001 missing"):
        open_dataset(tmp_path)


def test_nnunet_without_images(tmp_path):
    shutil.rmtree(nnunet(tmp_path) / "imagesTr")
    with pytest.raises(DataError, match="imagesTr or labelsTr is missing"):
        open_dataset(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(DataError, match="only 0 of 0 images"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        '{"training": ' + "[" * 100_000,
        '{"training": 3}',
        '{"training": []}',
        '{"training": [3]}',
        '{"training": [{"image": "./imagesTr/a.nii.gz"}]}',
        '{"training": [{"image": 3, "label": 4}]}',
        '{"training": [{"image": "", "label": ""}]}',
        '{"training": [{"image": "a\\u0000b", "label": "c"}]}',
        b"\xff\xfe\x00{",
    ],
)
def test_descriptions_that_are_nonsense(tmp_path, content):
    decathlon(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("make", [decathlon, nnunet])
@pytest.mark.parametrize(
    "labels",
    [
        3,
        [],
        {},
        {"0": "background", "2": "gap"},
        {"background": 0, "a": 1, "b": 1},
        {"background": 0, "region": [1, 2]},
        {"background": 0, "a": True},
        {"background": 0, "a": 1.0},
        {"background": 0, "a": -1},
        {"background": 0, "a": 10**12},
        {"background": None},
    ],
    ids=str,
)
def test_labels_that_are_nonsense(tmp_path, make, labels):
    path = make(tmp_path) / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))
    with pytest.raises(DataError, match=r"dataset\.json: 'labels'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("escape", ["../secret.nii.gz", "imagesTr/../../secret.nii.gz", "absolute"])
def test_paths_that_leave_the_folder(tmp_path, escape):
    folder = decathlon(tmp_path / "data")
    secret = tmp_path / "secret.nii.gz"
    nifti(secret, image(0))
    escape = str(secret) if escape == "absolute" else escape
    pair = {"image": escape, "label": "labelsTr/hippocampus_000.nii.gz"}
    write_json(folder, labels=DECATHLON_LABELS, training=[pair])
    with pytest.raises(DataError, match="leads out of the folder"):
        open_dataset(folder)


def test_a_case_listed_twice(tmp_path):
    path = decathlon(tmp_path) / "dataset.json"
    content = json.loads(path.read_text())
    write_json(tmp_path, **content | {"training": content["training"] * 2})
    with pytest.raises(DataError, match="hippocampus_002 twice"):
        open_dataset(tmp_path)


# ---- check ------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def not_finite(path):
    nifti(path, np.full(SHAPE, np.nan))


def other_shape(path):
    nifti(path, np.zeros((6, 7, 9), np.uint8))


def other_spacing(path):
    nifti(path, label(), np.diag([1, 1, 1.01, 1]))


def other_place(path):
    nifti(path, label(), np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))


def extra_class(path):
    nifti(path, label(high=3))


def negative_class(path):
    nifti(path, -label().astype(np.int16))


def extra_channel(path):
    nifti(path, image(0, (*SHAPE, 2)))


def fractions(path):
    nifti(path, label() / 2)


FAULTS = [
    ("imagesTr", truncate, "damaged"),
    ("labelsTr", truncate, "damaged"),
    ("imagesTr", not_finite, "NaN"),
    ("labelsTr", other_shape, r"\(6, 7, 9\).*\(6, 7, 8\)"),
    ("labelsTr", other_spacing, "spacing"),
    ("labelsTr", other_place, "affine"),
    ("labelsTr", extra_class, "label value 3 is not one of the 3 classes"),
    ("labelsTr", negative_class, "label value -2, -1 is not"),
    ("labelsTr", fractions, "whole numbers"),
    ("imagesTr", extra_channel, "3-D with 2 channels"),
]


@pytest.mark.parametrize(("kind", "damage", "match"), FAULTS)
@pytest.mark.parametrize("index", [0, 1])
def test_check_names_the_file_at_fault(tmp_path, kind, damage, match, index):
    path = decathlon(tmp_path) / kind / f"hippocampus_{index:03d}.nii.gz"
    damage(path)
    dataset = open_dataset(tmp_path)
    for action in (lambda: dataset.check(progress=False), lambda: dataset.load(index)):
        with pytest.raises(DataError, match=match) as error:
            action()
        assert str(path) in str(error.value)
    assert dataset.load(2).name == "hippocampus_002"  # the others are as good as before


def test_check_lists_all_problems_at_once(tmp_path):
    decathlon(tmp_path, n=len(FAULTS))
    paths = []
    for i, (kind, damage, _) in enumerate(FAULTS[1:], start=1):
        paths.append(tmp_path / kind / f"hippocampus_{i:03d}.nii.gz")
        damage(paths[-1])
    with pytest.raises(DataError, match=rf"{len(paths)} problems") as error:
        open_dataset(tmp_path).check(progress=False)
    assert all(str(path) in str(error.value) for path in paths)


def test_check_lists_at_most_ten(tmp_path):
    for path in (pairs(tmp_path, n=14) / "labels").iterdir():
        truncate(path)
    with pytest.raises(DataError, match="14 problems") as error:
        open_dataset(tmp_path).check(progress=False)
    message = str(error.value)
    assert message.count(".nii.gz: ") == 10 and message.endswith("and 4 more")


def test_small_differences_of_the_affine_are_rounding(tmp_path):
    nifti(pairs(tmp_path) / "labels" / "case_1.nii.gz", label(), np.eye(4) + 1e-5)
    assert len(open_dataset(tmp_path).check(progress=False)) == 4


def test_mixed_masks_are_refused(tmp_path):
    masks(tmp_path)
    picture(tmp_path / "masks" / "1.tif", label((9, 10), 1))
    with pytest.raises(DataError, match="0, 1 and 255") as error:
        open_dataset(tmp_path).check(progress=False)
    assert "1 problem:" in str(error.value)


def test_object_numbers_are_not_classes(tmp_path):
    path = pairs(tmp_path) / "labels" / "case_1.nii.gz"
    nifti(path, np.arange(336, dtype=np.int16).reshape(SHAPE))
    with pytest.raises(DataError, match="label value 256, 257") as error:
        open_dataset(tmp_path).check(progress=False)
    assert str(path) in str(error.value)


def test_gaps_between_classes_are_allowed(tmp_path):
    for path in (pairs(tmp_path) / "labels").iterdir():
        nifti(path, label() * 2)
    dataset = open_dataset(tmp_path)
    dataset.check(progress=False)
    assert dataset.classes == ("background", "class 1", "class 2", "class 3", "class 4")


def test_dimensions_must_agree(tmp_path):
    path = pairs(tmp_path) / "images" / "case_2.nii.gz"
    nifti(path, image(0, (6, 7)))
    nifti(tmp_path / "labels" / "case_2.nii.gz", label((6, 7)))
    with pytest.raises(DataError, match="2-D with 1 channel, but the dataset is 3-D") as error:
        open_dataset(tmp_path).check(progress=False)
    assert str(path) in str(error.value)


def test_check_reads_every_file_once(tmp_path, monkeypatch):
    from minidl.data import dataset as module

    dataset, seen = open_dataset(pairs(tmp_path)), []
    for reader in ("read_image", "read_label"):
        read = getattr(module, reader)
        monkeypatch.setattr(module, reader, lambda path, read=read: seen.append(path) or read(path))
    dataset.check(progress=False)
    dataset.describe()
    assert len(seen) == len(set(seen)) == 8
