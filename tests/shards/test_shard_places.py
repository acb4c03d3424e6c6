"""Places: which addresses are taken, what messages may show, and asking storage that refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shards.errors import BadUsage, StorageFailure
from shards.places import entries, is_remote, place, reaching, redacted, size_of, source_name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/b", "a/b"),
        ("/a b/ü", "/a b/ü"),
        ("file:///a%20b/c", "/a b/c"),
        ("FILE:///a", "/a"),
        ("./s3:x", "./s3:x"),
        ("a:b", "a:b"),
        ("2026-01-01T10:00", "2026-01-01T10:00"),
    ],
)
def test_paths_stay_paths(text, path):
    assert place(text) == Path(path) and type(place(text)) is type(Path())
    assert not is_remote(place(text))
    assert place(Path(text)) == Path(text)


def test_addresses_of_object_storage():
    for scheme in ("s3", "gs"):
        found = place(f"{scheme}://bucket/a b/c/")
        assert is_remote(found) and str(found / "d.tar") == f"{scheme}://bucket/a b/c/d.tar" and found.name == "c"
        assert place(found) is found
        assert str(pickle.loads(pickle.dumps(found))) == str(found)  # noqa: S301


@pytest.mark.parametrize(
    "text",
    [
        "http://host/a",
        "https://host/a",
        "ftp://host/a",
        "pipe:cat x",
        "PIPE:cat x",
        "pipe://cat",
        "memory://a",
        "memory:a",
        "data:text/plain,a",
        "s3:bucket/a",
        "hdfs://host/a",
        "filecache::s3://bucket/a",
        "simplecache::file:///a",
        "zip://a.zip::s3://bucket/b.zip",
        "s3://bucket/a::file:///b",
        "s3://",
        "s3:///a",
    ],
)
def test_every_other_scheme_and_chain_is_refused(text):
    with pytest.raises(BadUsage, match="s3://"):
        place(text)


@pytest.mark.parametrize("text", ["", "file://"])
def test_nothing_is_no_place(text):
    """Path makes the working directory of it."""
    with pytest.raises(BadUsage, match="names no place"):
        place(text)


def test_a_source_is_noted_without_slashes_at_its_end():
    assert list(map(source_name, ("s3://b/c//", "c/", "c", "/", Path("c")))) == ["s3://b/c", "c", "c", "/", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:hush@bucket/a",
        "s3://hush@bucket",
        "s3://bucket/a?token=hush",
        "s3://bucket/a#hush",
        "https://me:hush@host/a?token=hush",
        "https://me:hush@host?x=hush",
        "filecache::s3://me:hush@bucket/a?b=hush::file:///c",
    ],
)
def test_credentials_in_an_address_are_refused_and_never_shown(text):
    with pytest.raises(BadUsage) as refused:
        place(text)
    assert "hush" not in str(refused.value) and ("bucket" in str(refused.value) or "host" in str(refused.value))
    assert redacted("a/b?c#d@e") == "a/b?c#d@e"  # a path, not an address


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadUsage, match=r"needs the package s3fs(?s:.*)skill_fast\[s3\]"):
        place("s3://bucket/a")


def test_local_work_imports_no_client():
    code = """
import sys
from pathlib import Path
from shards.places import entries, place, size_of
assert size_of(place(sys.argv[1])) and entries(place(sys.argv[1]).parent)
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"upath", "fsspec", "s3fs", "gcsfs", "botocore", "ray"}, loaded
"""
    subprocess.run([sys.executable, "-c", code, __file__], check=True)


def test_sizes_and_entries_are_the_same_in_both(s3, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_bytes(b"1")
    (tmp_path / "a b+ü.tar").write_bytes(b"12345")
    (tmp_path / "empty").write_bytes(b"")
    remote = place(s3.url)
    assert entries(remote) == {}
    for path in ("sub/x", "a b+ü.tar", "empty"):
        (remote / path).write_bytes((tmp_path / path).read_bytes())
    expected = {"sub": None, "a b+ü.tar": 5, "empty": 0}
    assert entries(tmp_path) == entries(remote) == expected
    for where in (tmp_path, remote):
        assert [size_of(where / name) for name in (*expected, "none", "none/none")] == [None, 5, 0, None, None]
    s3.local(f"{s3.url}/new").write_bytes(b"123")  # by another process: no listing is kept
    time.sleep(0.1)  # but for 5 ms in the test's server
    assert entries(remote)["new"] == 3 and size_of(remote / "new") == 3


def test_many_entries_come_in_pages(s3):
    folder = s3.local(s3.url)
    folder.mkdir()
    for number in range(1100):
        (folder / f"{number:04d}").write_bytes(b"x" * (number % 7))
    assert entries(place(s3.url)) == {f"{number:04d}": number % 7 for number in range(1100)}


def test_a_storage_that_refuses_is_a_failure_and_no_empty_folder(s3, monkeypatch):
    place(s3.url).joinpath("a").write_bytes(b"a")
    refusing = type(place(s3.url))(s3.url, use_listings_cache=False, secret="wrong", key="tester")
    assert not (refusing / "a").is_file()  # why size_of is there
    for ask in (lambda: size_of(refusing / "a"), lambda: entries(refusing)):
        with pytest.raises(StorageFailure, match=r"s3://bucket/\S+' could not be reached: PermissionError") as failed:
            ask()
        assert "wrong" not in str(failed.value)
    with pytest.raises(ZeroDivisionError), reaching(refusing):
        _ = 1 / 0
    with pytest.raises(FileNotFoundError), reaching(refusing):
        place(f"{s3.url}/none").read_bytes()
