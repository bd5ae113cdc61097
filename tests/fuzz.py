"""Damaged and hostile files for every reader: `python -m tests.fuzz COUNT SEED` tries so many of each kind.

A reader may accept a file or refuse it with a ValueError that names it; anything else is a fault. Prints what
was tried, the faults, and the peak memory of the process, as JSON.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image as Picture

import minidl
from minidl.data import open_dataset, read_image, read_label
from minidl.segment import checkpoint, job
from minidl.segment.config import Config, quick_configuration
from minidl.segment.plan import Plan
from minidl.segment.plan.command import plan
from minidl.segment.postprocess import Postprocessing

Rng = np.random.Generator
SLOWEST = 10.0  # seconds for one file

# ---- damage to bytes -------------------------------------------------------------------------------


def damaged(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """One of: cut off, bits flipped anywhere or in the header, bytes replaced, doubled, or another file."""
    kind = rng.integers(7)
    if kind == 0:
        return data[: rng.integers(len(data))]
    if kind == 1:
        return flipped(data, rng, len(data))
    if kind == 2:
        return flipped(data, rng, min(len(data), 400))
    if kind == 3:
        start = int(rng.integers(len(data)))
        noise = rng.bytes(int(rng.integers(1, 64)))
        return data[:start] + noise + data[start + len(noise) :]
    if kind == 4:
        start = int(rng.integers(len(data)))
        return data[:start] + data[start // 2 :]
    if kind == 5:
        return others[rng.integers(len(others))]
    return rng.bytes(int(rng.integers(1, 2000)))


def flipped(data: bytes, rng: Rng, end: int) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(end, size=rng.integers(1, 9)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def inside_gzip(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """Damage that no checksum tells: half of the time to what was compressed."""
    if rng.random() < 0.5:
        return damaged(data, rng, others)
    return gzip.compress(damaged(gzip.decompress(data), rng, others))


def inside_png(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """The same for PNG: a chunk is damaged and its checksum made to fit."""
    if rng.random() < 0.5:
        return damaged(data, rng, others)
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    i = int(rng.integers(len(chunks)))
    if chunks[i][1]:
        chunks[i] = (chunks[i][0], flipped(chunks[i][1], rng, len(chunks[i][1])))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


# ---- damage to JSON --------------------------------------------------------------------------------

HOSTILE = (
    None, True, -1, 0, 1, 0.5, 3.7e300, 10**30, 2**31, "", "x" * 500, [], {}, [[]], [1, 2, 3], {"a": 1},
    "NaN", [1000000] * 3, [0, 0], [-1] * 2, "../../../etc/passwd", "/etc/passwd", [None], ["2d"],
)  # fmt: skip
TEXTS = (
    b"",
    b"null",
    b"NaN",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"\xff\xfe\x00",
    b"1" * 5000,
    b"Infinity",
    b'"x"',
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The way to every value inside of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, item in inside for p in ((*path, key), *places(item, (*path, key)))]


def inside_json(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """A value is replaced, removed or added; or the text itself is damaged."""
    kind = rng.integers(8)
    if kind == 0:
        return TEXTS[rng.integers(len(TEXTS))]
    if kind == 1:
        return damaged(data, rng, others)
    value = json.loads(data)
    for _ in range(rng.integers(1, 3)):
        *way, last = (found := places(value))[rng.integers(len(found))]
        parent = value
        for key in way:
            parent = parent[key]
        if kind == 2 and len(parent) > 1:
            del parent[last]
        elif kind == 3 and isinstance(parent, dict):
            parent["surprise"] = 1
        else:
            parent[last] = deepcopy(HOSTILE[rng.integers(len(HOSTILE))])
    return json.dumps(value).encode()


def inside_safetensors(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """The header is JSON behind its length: huge shapes, wrong keys and types, bytes that overlap."""
    if rng.random() < 0.5:
        return damaged(data, rng, others)
    (length,) = struct.unpack("<Q", data[:8])
    header = inside_json(data[8 : 8 + length], rng, others)
    claimed = len(header) if rng.random() < 0.9 else int(rng.integers(2**62))
    return struct.pack("<Q", claimed) + header + data[8 + length :]


# ---- readers ---------------------------------------------------------------------------------------

Target = tuple[Path, Callable[[Path], object], Callable[[bytes, Rng, list[bytes]], bytes]]


def targets(folder: Path) -> dict[str, Target]:
    """A sound file of each kind, what reads it, and how it is damaged."""
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 3, (9, 7, 5)).astype(np.int16)
    for name in ("a.nii", "a.nii.gz", "b.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([1, 2, 3, 1.0])), folder / name)
    for suffix in ("png", "tif", "jpg"):
        Picture.fromarray(rng.integers(0, 255, (23, 31, 3)).astype(np.uint8)).save(folder / f"a.{suffix}")
    Picture.fromarray(rng.integers(0, 3, (23, 31)).astype(np.uint8)).save(folder / "label.png")
    set_ = decathlon(folder / "set", rng)
    plan(set_, minutes=None, out=folder / "plan.json")  # however fast this computer is
    run = folder / "run"
    training(run)
    Postprocessing(True, (1, 2)).save(folder)
    return {
        "NIfTI": (folder / "a.nii", read_image, damaged),
        "NIfTI, compressed": (folder / "a.nii.gz", read_image, inside_gzip),
        "NIfTI, label": (folder / "b.nii.gz", read_label, inside_gzip),
        "PNG": (folder / "a.png", read_image, inside_png),
        "PNG, label": (folder / "label.png", read_label, inside_png),
        "TIFF": (folder / "a.tif", read_image, damaged),
        "JPEG": (folder / "a.jpg", read_image, damaged),
        "dataset.json": (set_ / "dataset.json", lambda p: open_dataset(p.parent).check(False), inside_json),
        "configuration": (run / "config.json", Config.load, inside_json),
        "configuration of a run": (run / "config.json", lambda p: job.load_run(p.parent), inside_json),
        "weights": (run / "weights.safetensors", minidl.load, inside_safetensors),
        "weights of a run": (
            run / "weights.safetensors", lambda p: job.load_run(p.parent), inside_safetensors,
        ),
        "checkpoint": (run / "checkpoint.safetensors", checkpoint.load, inside_safetensors),
        "plan": (folder / "plan.json", Plan.load, inside_json),
        "post-processing": (
            folder / "postprocessing.json", lambda p: Postprocessing.load(p.parent), inside_json,
        ),
    }  # fmt: skip


def decathlon(folder: Path, rng: Rng) -> Path:
    pairs = []
    for i in range(3):
        pairs.append({kind: f"./{kind}sTr/c{i}.nii.gz" for kind in ("image", "label")})
        for kind, array in (("image", rng.random((9, 10, 8))), ("label", rng.integers(0, 3, (9, 10, 8)))):
            (folder / f"{kind}sTr").mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)), folder / pairs[-1][kind])
    names = {"0": "background", "1": "organ", "2": "lesion"}
    text = json.dumps({"training": pairs, "labels": names, "modality": {"0": "MRI"}})
    (folder / "dataset.json").write_text(text)
    return folder


def training(folder: Path) -> None:
    """What a run leaves in its folder, without training."""
    from minidl.segment.schedule import make_optimizer

    folder.mkdir()
    configuration = quick_configuration([(16, 16)], [(1.0, 1.0)], 1, 3)
    config = Config(
        data=None, classes=("background", "a", "b"), channels=("x",), configuration=configuration,
        slice_axis=None, deep_supervision=False, augmentation="none", optimizer="adam", learning_rate=1e-3,
        minutes=None, steps=3, seed=0, ratio=(1, 1, 1), fold=None,
    )  # fmt: skip
    config.save(folder / "config.json")
    model = config.network()
    minidl.save(model.state_dict(), folder / "weights.safetensors")
    optimizer = make_optimizer("adam", model.parameters(), 1e-3)
    progress = checkpoint.Progress(
        version=checkpoint.VERSION, config=config, data="0", step=1, minutes=0.0, validation_minutes=0.0,
        losses=(0.5,), history=(), random=checkpoint.Random.now(), schedule={},
    )  # fmt: skip
    checkpoint.save(folder / "checkpoint.safetensors", progress, model, optimizer)


# ---- the trial -------------------------------------------------------------------------------------


def trial(count: int, seed: int) -> dict[str, Any]:
    """Damage `count` files of each kind; says how many were refused, and every fault."""
    faults, tried, refused, slowest = [], 0, 0, 0.0
    with tempfile.TemporaryDirectory() as temporary:
        kinds = targets(Path(temporary))
        sound = [path.read_bytes() for path, _, _ in kinds.values()]
        for number, (kind, (path, read, damage)) in enumerate(kinds.items()):
            original = path.read_bytes()
            read(path)  # the sound file is accepted
            for i in range(count):
                data = damage(original, np.random.default_rng((seed, number, i)), sound)
                path.write_bytes(data)
                begun = time.monotonic()
                try:
                    read(path)
                except ValueError as error:
                    refused += 1
                    if path.name not in str(error) and path.parent.name not in str(error):
                        faults.append(f"{kind} {i}: names no file: {error}")
                except BaseException as error:
                    faults.append(f"{kind} {i}: {type(error).__name__}: {str(error)[:200]}")
                seconds = time.monotonic() - begun
                slowest = max(slowest, seconds)
                if seconds > SLOWEST:
                    faults.append(f"{kind} {i}: took {seconds:.0f} s")
                tried += 1
            path.write_bytes(original)
    return {"tried": tried, "refused": refused, "slowest": slowest, "peak": peak(), "faults": faults}


def peak() -> float:
    """MiB of this process at most so far; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 1024 if status.exists() else 0.0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(trial(int(sys.argv[1]), int(sys.argv[2]))))
