"""A10: what lies where a photograph should: each a named reject with the system's word for it, and never a wait."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from shards import reading
from shards.engines import Task, open_engine
from shards.errors import StorageFailure
from shards.normalize import Normalization, normalize_file
from shards.rejects import Rejected

HOW = Normalization("none")
PROMPT_S = 5.0


def verdict(path: Path) -> Rejected:
    """The rejection of ``path``, which must come promptly: a reader that waits fails the test instead of hanging it."""
    caught: list[BaseException] = []

    def read() -> None:
        try:
            normalize_file(path, HOW)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(PROMPT_S)
    assert not thread.is_alive(), "it waits for something"
    assert caught and isinstance(caught[0], Rejected), caught
    return caught[0]


def absent(folder: Path) -> Path:
    return folder / "absent.jpg"


def dangling_link(folder: Path) -> Path:
    (folder / "link.jpg").symlink_to(folder / "gone.jpg")
    return folder / "link.jpg"


def beneath_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"x")
    return folder / "file" / "photograph.jpg"


def link_loop(folder: Path) -> Path:
    (folder / "a.jpg").symlink_to(folder / "b.jpg")
    (folder / "b.jpg").symlink_to(folder / "a.jpg")
    return folder / "a.jpg"


def directory(folder: Path) -> Path:
    (folder / "x.jpg").mkdir()
    return folder / "x.jpg"


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo.jpg")
    return folder / "fifo.jpg"


def unix_socket(folder: Path) -> Path:
    name = folder / "s.jpg"
    with socket.socket(socket.AF_UNIX) as server:
        # Bound by a short relative name: the system allows 107 bytes.
        before = os.getcwd()
        os.chdir(folder)
        try:
            server.bind("s.jpg")
        finally:
            os.chdir(before)
    return name


def device(folder: Path) -> Path:
    return Path("/dev/zero")


def long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def nul_name(folder: Path) -> Path:
    return folder / "a\0b.jpg"


@pytest.mark.parametrize(
    ("make", "reason", "detail"),
    [
        (absent, "missing_file", "ENOENT"),
        (dangling_link, "missing_file", "ENOENT"),
        (beneath_a_file, "missing_file", "ENOTDIR"),
        (link_loop, "unreadable", "ELOOP"),
        (directory, "unreadable", "EISDIR"),
        (fifo, "unreadable", "EINVAL: a FIFO"),
        (unix_socket, "unreadable", "EINVAL: a socket"),
        (device, "unreadable", "EINVAL: a character device"),
        (long_name, "unreadable", "ENAMETOOLONG"),
        (nul_name, "unreadable", "EINVAL"),
    ],
)
def test_what_is_no_photograph(tmp_path: Path, make, reason: str, detail: str) -> None:
    rejected = verdict(make(tmp_path))
    assert rejected.reason == reason and rejected.detail.startswith(detail), rejected


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_file_that_the_system_refuses_to_open(tmp_path: Path, monkeypatch, number: int) -> None:
    # Permissions do not hold for the superuser, nor can a test make a disk fail: the call itself is made to.
    path = tmp_path / "photograph.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    monkeypatch.setattr(reading.os, "open", _refusing(number))
    rejected = verdict(path)
    assert rejected.reason == "unreadable" and rejected.detail.startswith(errno.errorcode[number]), rejected


def _refusing(number: int):
    def refuse(path, *arguments, **options):
        raise OSError(number, os.strerror(number), path)

    return refuse


def test_an_error_while_reading(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(b"\xff\xd8\xff" * 100)
    true_fdopen = os.fdopen

    class Failing:
        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

        def read(self, size: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(reading.os, "fdopen", lambda *a, **k: Failing(true_fdopen(*a, **k)))
    assert verdict(path).detail.startswith("EIO")


def test_a_file_that_becomes_a_fifo_between_the_look_and_the_opening(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    true_stat = os.stat

    def exchange(place, *arguments, **options):
        status = true_stat(place, *arguments, **options)
        if Path(os.fsdecode(place)) == path and stat.S_ISREG(status.st_mode):
            path.unlink()
            os.mkfifo(path)
        return status

    monkeypatch.setattr(reading.os, "stat", exchange)
    rejected = verdict(path)
    assert rejected.reason == "unreadable" and "FIFO" in rejected.detail


def test_a_file_that_vanishes_between_the_look_and_the_opening(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    true_stat = os.stat

    def vanish(place, *arguments, **options):
        status = true_stat(place, *arguments, **options)
        path.unlink(missing_ok=True)
        return status

    monkeypatch.setattr(reading.os, "stat", vanish)
    rejected = verdict(path)
    assert rejected.reason == "missing_file" and rejected.detail.startswith("ENOENT")


def test_too_large_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)  # a hole: it takes no room
    rejected = verdict(path)
    assert rejected.reason == "too_large_file" and str((256 << 20) + 1) in rejected.detail
    path.write_bytes(b"")
    assert verdict(path).reason == "empty_file"


class Refusing:
    """A place in object storage whose server answers with an error."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return "s3://bucket/photograph.jpg"

    def stat(self) -> os.stat_result:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("workers", [0, 1])
def test_storage_that_refuses_ends_the_build_and_rejects_no_photograph(workers: int) -> None:
    engine = open_engine("local", HOW, workers=workers)
    try:
        with pytest.raises(StorageFailure, match="s3://bucket/photograph"):
            engine.submit([Task(Refusing(errno.EIO))]).result()
    finally:
        engine.close()


def test_an_object_that_is_gone_is_a_missing_file() -> None:
    with pytest.raises(Rejected, match="missing_file: ENOENT"):
        normalize_file(Refusing(errno.ENOENT), HOW)
