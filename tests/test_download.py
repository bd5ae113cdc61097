"""Fetching datasets, from a server on this machine: interruptions, damage, archives that want to escape."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from minidl.cli import main
from minidl.data import Image, PhantomDataset, open_dataset, phantom_case, read_image, write_image
from minidl.data.decathlon import write_decathlon
from minidl.data.download import SOURCES, download
from minidl.data.images import DataError


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return file.getvalue()


GOOD = archive(
    {"Set/dataset.json": b"{}", "Set/._dataset.json": b"x", "Set/imagesTr/a.nii.gz": bytes(200_000)}
)


class Server:
    """Sends `content`; breaks off after `breaks` bytes once; with `ranges` goes on where it is asked to."""

    def __init__(self):
        server = self
        self.content, self.breaks, self.ranges, self.asked = GOOD, None, True, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                server.asked.append(wanted)
                start = int(wanted[6:-1]) if wanted and server.ranges else 0
                if start and start >= len(server.content):
                    self.send_error(416)
                    return
                part = server.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part[: server.breaks])
                server.breaks = None

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def source(self, content: bytes | None = None):
        self.content = self.content if content is None else content
        return replace(
            SOURCES["msd-hippocampus"],
            url=f"http://127.0.0.1:{self.http.server_port}/set.tar",
            checksum=f"md5:{hashlib.md5(self.content).hexdigest()}",
            folder="Set",
        )


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_dataset_is_fetched_once(server, tmp_path):
    folder = download(server.source(), tmp_path)
    assert sorted(path.name for path in folder.rglob("*")) == ["a.nii.gz", "dataset.json", "imagesTr"]
    assert [path.name for path in tmp_path.iterdir()] == ["Set"]  # neither archive nor remains
    assert download(server.source(), tmp_path) == folder and len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    server.breaks, server.ranges = 150_000, ranges
    with pytest.raises(DataError, match=f"150000 of {len(GOOD)} bytes"):
        download(server.source(), tmp_path)
    assert (tmp_path / "set.tar.part").stat().st_size == 150_000
    download(server.source(), tmp_path)
    assert server.asked == [None, "bytes=150000-"]
    assert (tmp_path / "Set" / "imagesTr" / "a.nii.gz").stat().st_size == 200_000


def test_what_had_come_entirely_is_not_fetched_again(server, tmp_path):
    (tmp_path / "set.tar.part").write_bytes(GOOD)
    assert download(server.source(), tmp_path).is_dir()
    assert server.asked == [f"bytes={len(GOOD)}-"]


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_right_one(server, tmp_path):
    (tmp_path / "set.tar").write_bytes(GOOD)
    assert download(server.source(), tmp_path).is_dir() and not server.asked


def test_what_was_not_published_is_refused_and_not_kept(server, tmp_path):
    source = server.source()
    server.content = GOOD[:-1] + b"x"
    with pytest.raises(DataError, match=r"set\.tar: what came is not what was published"):
        download(source, tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = GOOD
    assert download(source, tmp_path).is_dir()


def test_without_a_network_the_message_says_so(server, tmp_path, monkeypatch, capsys):
    server.http.shutdown()
    server.http.server_close()
    monkeypatch.setitem(SOURCES, "msd-hippocampus", server.source())
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    assert main(["data", "get", "msd-hippocampus"]) == 2
    error = capsys.readouterr().err
    assert "Is there a network?" in error and str(tmp_path) in error and "Traceback" not in error


@pytest.mark.parametrize(
    "hostile",
    [
        archive({"Set/a": b"", "../escaped": b"x"}),
        archive({"Set/a": b"", "Set/../../escaped": b"x"}),
        archive({"Set/a": b"", "/tmp/minidl-escaped": b"x"}),
        archive({"Set/a": b""}, {"Set/link": "/etc"}),
        archive({"Other/a": b""}),
        b"no tar file at all",
        GOOD[:1000],
        b"",
    ],
)
def test_no_archive_writes_outside_its_folder(server, tmp_path, hostile):
    cache = tmp_path / "cache"
    try:
        folder = download(server.source(hostile), cache)
        assert {path.name for path in folder.rglob("*")} <= {"a"}
    except DataError as error:
        assert "set.tar" in str(error)
    outside = {path for path in tmp_path.rglob("*") if "escaped" in path.name}
    assert not outside and not Path("/tmp/minidl-escaped").exists()
    assert {path.name for path in cache.iterdir()} <= {"Set", "set.tar"}


def test_the_list_names_licence_and_address(capsys):
    assert main(["data", "list"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("msd-hippocampus", "CC BY-SA 4.0", "https://", "Simpson"))
    assert main(["data", "get", "nothing"]) == 2
    assert "msd-hippocampus" in capsys.readouterr().err


# ---- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_phantoms_as_a_decathlon_folder(tmp_path, dims):
    out = tmp_path / "out"
    assert main(["data", "phantom", "--dims", str(dims), "-n", "2", str(out)]) == 0
    dataset = open_dataset(out)
    assert (dataset.layout, dataset.dims, len(dataset)) == ("Medical Segmentation Decathlon", dims, 2)
    assert dataset.classes == ("background", "organ", "lesion") and dataset.channels == ("intensity",)
    for written, made in zip(dataset.check(), PhantomDataset("train", 2, dims).check()):
        np.testing.assert_array_equal(written.image.array, made.image.array)
        np.testing.assert_array_equal(written.label.array, made.label.array)
        assert written.image.spacing == made.image.spacing
    with pytest.raises(ValueError, match="not empty"):
        write_decathlon(PhantomDataset("train", 1, dims), out)


def test_phantoms_of_another_size_and_split(tmp_path):
    out = tmp_path / "out"
    assert main(["data", "phantom", "-n", "1", "--size", "32", "--split", "shifted", str(out)]) == 0
    image, label = phantom_case("shifted", 0, (32, 32))
    case = open_dataset(out).load(0)
    np.testing.assert_array_equal(case.image.array[0], image)
    np.testing.assert_array_equal(case.label.array, label)
    assert main(["data", "phantom", "--size", "8", str(tmp_path / "small")]) == 2


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 4), (1, 3, 4, 5), (2, 3, 4, 5), (3, 1, 1)])
def test_images_come_back_as_they_were_written(tmp_path, shape):
    image = Image(np.random.default_rng(0).random(shape, np.float32), (0.5, 2.0, 3.0)[: len(shape) - 1])
    write_image(tmp_path / "a.nii.gz", image)
    again = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.array, image.array)
    assert again.spacing == image.spacing
    with pytest.raises(ValueError, match=r"a\.png"):
        write_image(tmp_path / "a.png", image)
