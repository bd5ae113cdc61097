"""Public datasets from their official addresses: checked, kept, and gone on with after an interruption."""

from __future__ import annotations

import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from minidl.data.images import DataError

CHUNK = 1 << 16  # bytes
PATIENCE = 30  # seconds without an answer


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from: a tar file, its checksum, and what a person should know of it."""

    name: str
    about: str
    megabytes: int
    licence: str
    cite: str
    url: str
    checksum: str  # "md5:..." or "sha256:..."
    folder: str  # that the archive unpacks to


# Address and checksum: `DecathlonDataset` of Project-MONAI/MONAI, monai/apps/datasets.py.
SOURCES = {
    source.name: source
    for source in (
        Source(
            name="msd-hippocampus",
            about="260 labelled MRI volumes of about 35x50x36 voxels: hippocampus, anterior and posterior "
            "(Task04 of the Medical Segmentation Decathlon)",
            megabytes=28,
            licence="CC BY-SA 4.0",
            cite="Simpson et al. 2019, arXiv 1902.09063; "
            "Antonelli et al. 2022, Nature Communications 13:4128",
            url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
            checksum="md5:9d24dba78a72977dbd1d2e110310f31b",
            folder="Task04_Hippocampus",
        ),
    )
}


def cache_folder() -> Path:
    """Where downloads are kept: MINIDL_DATA if it is set, else the system's cache folder for programs."""
    import pooch

    return Path(os.environ.get("MINIDL_DATA") or pooch.os_cache("minidl"))


def download(source: Source, cache: Path | None = None) -> Path:
    """The folder of a dataset, fetched unless it is there already.

    What was fetched before an interruption is kept, and the next call goes on behind it. Errors: DataError
    that names the address if it cannot be reached, if what came is not what was published (the checksum
    says), or if the archive is damaged.
    """
    import pooch

    cache = cache or cache_folder()
    folder = cache / source.folder
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    name = source.url.rpartition("/")[2]
    pooch.get_logger().setLevel("WARNING")  # the progress bar tells all
    downloader = partial(_resume, cache / f"{name}.part")
    try:
        archive = pooch.retrieve(source.url, source.checksum, name, cache, downloader=downloader)
    except ValueError as error:  # of the checksum
        raise DataError(
            f"{source.url}: what came is not what was published; try again later ({error})"
        ) from error
    except (OSError, urllib.error.URLError) as error:
        raise DataError(
            f"{source.url} cannot be fetched ({error}). Is there a network? What came so far is kept in "
            f"{cache}; or fetch it elsewhere and put it there as {name}"
        ) from error
    _unpack(Path(archive), folder)
    Path(archive).unlink()
    return folder


def _resume(kept: Path, url: str, output_file: str, pooch: Any) -> None:
    """Fetch to a file that is kept through interruptions, behind what it holds already; then rename it.

    `pooch` calls it with a temporary file of its own, which it removes if anything goes wrong.
    """
    from tqdm import tqdm

    begun = kept.stat().st_size if kept.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        kept.replace(output_file)  # nothing is left to send: all of it is here
        return
    with answer:
        begun = begun if answer.status == 206 else 0  # a server that knows no ranges sends all of it again
        left = answer.headers.get("Content-Length")
        total = None if left is None else begun + int(left)
        bar = tqdm(total=total, initial=begun, unit="B", unit_scale=True, desc=kept.stem)
        with bar, open(kept, "ab" if begun else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            size = file.tell()
    if total is not None and size < total:
        raise OSError(f"the connection broke off after {size} of {total} bytes; call again to go on")
    kept.replace(output_file)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside `folder` and rename: a folder of that name is always whole.

    Only the contents of plain files are taken, none that leads elsewhere; hidden ones, of which archives made
    on a Macintosh are full, are left out. (tarfile's own filter of that kind came with Python 3.11.4.)
    """
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        root = Path(temporary).resolve()
        try:
            with tarfile.open(archive) as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    path = (root / member.name).resolve()
                    if not path.is_relative_to(root):
                        raise tarfile.TarError(f"{member.name} leads out of its folder")
                    content = tar.extractfile(member)
                    if content and not any(part.startswith(".") for part in path.relative_to(root).parts):
                        path.parent.mkdir(parents=True, exist_ok=True)
                        with content, open(path, "wb") as copy:
                            shutil.copyfileobj(content, copy)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{archive}: damaged, or no safe tar file ({error})") from error
        unpacked = root / folder.name
        if not unpacked.is_dir():
            raise DataError(f"{archive}: holds no folder {folder.name}")
        shutil.move(unpacked, folder)
