"""Where a data set is written to: a disk that is full, and object storage."""

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shards.build import Progress, build
from shards.errors import BadUsage, StorageFailure
from shards.index import read_dataset
from shards.new_file import NewFile
from shards.places import entries, place
from tests.object_storage import ObjectStorage
from tests.shards.conftest import photograph
from tests.shards.data_sets import contents
from tests.shards.interruption import Stop

DISKS = 50 if os.environ.get("SKILL_FAST_LONG") == "1" else 10
NAMESPACES = (["unshare", "--map-root-user", "--mount"], ["unshare", "--mount"])
"""Ways to mount a disk that no one else sees: without privileges, or as root where users may not."""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Forty products with a photograph or two, of about 2 KB each."""
    for number in range(40):
        for view in range(1 + number % 2):
            photograph(tmp_path / "c" / f"p{number}" / f"{view}.png", 60, 44, seed=number + 100 * view)
    return tmp_path / "c"


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    for prefix in NAMESPACES:
        if not subprocess.run([*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode:
            return subprocess.run([*prefix, *command], capture_output=True, text=True)
    pytest.fail("no mount namespace: allow unprivileged user namespaces, or run as root with CAP_SYS_ADMIN")


def test_a_full_disk_is_named_and_the_same_command_goes_on_when_there_is_room(
    photographs: Path, tmp_path: Path
) -> None:
    """A2, on disks of drawn sizes that end in shards, journal or tables."""
    (tmp_path / "disk").mkdir()
    build(photographs, tmp_path / "size", shard_mib=0.03, workers=0, preprocess="none")
    needed_kib = sum(len(content) for content in contents(tmp_path / "size").values()) >> 10
    rng = random.Random(3)
    sizes = [round(needed_kib * (0.1 + (number + rng.random()) / DISKS)) for number in range(DISKS)]
    done = in_namespace(
        sys.executable,
        "-m",
        "tests.shards.full_disk_worker",
        str(photographs),
        str(tmp_path / "disk"),
        *map(str, sizes),
    )
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["kib"] for report in reports] == sizes
    for report in reports:
        assert report["torn"] == [] and report["equal"], report
        assert report["exit_code"] == StorageFailure.exit_code and not report["described"], report
        assert "bytes needed" in report["message"] and "same command" in report["message"], report
        told = re.search(r"no room for '(.+)': [\d,]+ bytes needed, ([\d,]+) free", report["message"])
        assert told is not None and Path(told[1]).is_relative_to(tmp_path / "disk" / "out"), report
        # What was unfinished is gone by the time that the worker looks, so that more is free; a disk is whole pages.
        assert int(told[2].replace(",", "")) <= report["free"] <= (report["kib"] + 3) << 10, report
        assert (report["resumed"] > 0) == (report["finished"] > 0)
    assert sum(report["finished"] > 0 for report in reports) > DISKS // 2


def test_the_message_of_a_full_disk_has_the_path_and_what_is_free(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    usage = SimpleNamespace(total=99_999, used=87_654, free=12_345)
    with monkeypatch.context() as patch, pytest.raises(StorageFailure) as caught:
        patch.setattr("shards.new_file.shutil.disk_usage", lambda folder: usage)
        patch.setattr("shards.new_file.os.fsync", full)
        build(photographs, tmp_path / "out", workers=0)
    assert re.search(rf"no room for '{tmp_path}/out/.+': [\d,]+ bytes needed, 12,345 free", str(caught.value))


def test_what_is_finished_on_a_disk_that_can_only_be_read_is_done(photographs: Path, tmp_path: Path) -> None:
    """Another build, and one that is not finished, are refused by what they would have to write."""
    for name, more in (("out", {}), ("begun", {"shard_mib": 0.03})):
        build(photographs, tmp_path / name, workers=0, **more)
    (tmp_path / "begun" / "dataset.json").unlink()
    (tmp_path / "begun" / ".build").mkdir()
    (tmp_path / "begun" / ".build" / "lock").touch()
    command = f"{sys.executable} -m shards.cli build {photographs}/ {tmp_path}"
    done = in_namespace(
        "bash",
        "-c",
        f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} || exit 99; "
        f"{command}/out; echo $?; {command}/out --max-side 99; echo $?; "
        f"{command}/out --overwrite; echo $?; {command}/begun; echo $?",
    )
    said = [line for line in done.stdout.splitlines() if "chosen from" not in line]
    assert said == [f"{tmp_path}/out: already built, nothing to do; 40 products", "0", "2", "6", "6"], done.stderr
    assert "max_side was 512, is 99" in done.stderr and done.stderr.count("Read-only file system at") == 2


def test_slashes_at_the_end_of_an_address_make_no_other_source(
    photographs: Path, tmp_path: Path, s3: ObjectStorage
) -> None:
    catalogue = s3.local(f"{s3.url}/catalogue")
    shutil.copytree(photographs, catalogue)
    for source in (f"{s3.url}/catalogue", str(photographs)):
        out = tmp_path / f"of {source[:2]}"
        dataset = build(source, out, workers=0)
        assert build(f"{source}/", out, workers=0) == build(f"{source}//", out, workers=0) == dataset


def objects(s3: ObjectStorage, url: str) -> dict[str, bytes]:
    """What the bucket holds below an address, the journal included."""
    root = s3.local(url)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_object_storage_gets_what_a_folder_gets(photographs: Path, tmp_path: Path, s3: ObjectStorage) -> None:
    local = build(photographs, tmp_path / "local", shard_mib=0.03, workers=0)
    remote = build(photographs, f"{s3.url}/out", shard_mib=0.03, workers=0)
    assert remote == local == read_dataset(place(f"{s3.url}/out"))
    assert objects(s3, f"{s3.url}/out") == contents(tmp_path / "local")
    with pytest.raises(BadUsage, match="finished data set"):
        build(photographs, f"{s3.url}/out", workers=0)
    again = build(photographs, f"{s3.url}/out", shard_mib=1, workers=0, overwrite=True)
    build(photographs, tmp_path / "again", shard_mib=1, workers=0)
    assert len(again["shards"]) == 1 and objects(s3, f"{s3.url}/out") == contents(tmp_path / "again")


def test_object_storage_is_gone_on_in_from_what_lies_there(
    photographs: Path, tmp_path: Path, s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates are compared with shards that are no longer on the local disk, whose use stays within two shards."""
    for number in (30, 39):
        photograph(photographs / f"q{number}" / "0.png", 60, 44, seed=number - 30)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    used, seen = [], []

    def stop(done: Progress) -> None:
        used.append(sum(path.stat().st_size for path in (tmp_path / "temporary").rglob("*") if path.is_file()))
        if done.products == 30:
            raise Stop

    url, options = f"{s3.url}/out", {"shard_mib": 0.03, "workers": 0}
    with pytest.raises(Stop):
        build(photographs, url, progress=stop, **options)
    left = objects(s3, url)
    heads = [
        json.loads(content) for name, content in left.items() if name.startswith(".build/part-") and "json" in name
    ]
    assert len(heads) >= 3 and "dataset.json" not in left
    assert max(used) < 3 * 0.03 * 2**20 and list((tmp_path / "temporary").iterdir()) == []
    build(photographs, url, progress=lambda done: seen.append(done.resumed), **options)
    build(photographs, tmp_path / "local", **options)
    assert seen[-1] >= sum(head["shard"]["images"] for head in heads)
    assert objects(s3, url) == contents(tmp_path / "local")
    assert read_dataset(tmp_path / "local")["counts"]["images_seen"] == 62


def test_a_build_whose_place_in_object_storage_was_taken_over_stops(photographs: Path, s3: ObjectStorage) -> None:
    """As from another machine: its lock is elsewhere, so it is only seen by what it has written."""
    owner = s3.local(f"{s3.url}/out") / ".build" / "owner.json"

    def taken(done: Progress) -> None:
        if done.products == 20:
            # An object is replaced as a whole; a file that is written in place is empty for an instant.
            written = owner.with_name("written.json")
            written.write_text('{"host": "elsewhere", "pid": 12, "token": "x"}')
            os.replace(written, owner)

    with pytest.raises(BadUsage, match="pid 12 on elsewhere"):
        build(photographs, f"{s3.url}/out", shard_mib=0.03, workers=0, progress=taken)
    assert "dataset.json" not in entries(place(f"{s3.url}/out"))


@pytest.mark.parametrize("left", [None, "", "[]", '{"host": 1}'])
def test_a_build_whose_mark_was_removed_or_spoilt_stops(photographs: Path, s3: ObjectStorage, left: str | None) -> None:
    """Another build that took the place over and has ended removes the mark with its journal."""
    owner = s3.local(f"{s3.url}/out") / ".build" / "owner.json"

    def ended(done: Progress) -> None:
        if done.products == 20:
            if left is None:
                owner.unlink()
            else:
                owner.with_name("written.json").write_text(left)
                os.replace(owner.with_name("written.json"), owner)

    with pytest.raises(BadUsage, match=r"another process builds .* since: it is not known which"):
        build(photographs, f"{s3.url}/out", shard_mib=0.03, workers=0, progress=ended)
    assert "dataset.json" not in entries(place(f"{s3.url}/out"))


def test_a_new_file_is_seen_when_it_is_complete_and_not_before(tmp_path: Path, s3: ObjectStorage) -> None:
    for folder in (tmp_path, place(s3.url)):
        file = NewFile(folder / "a")
        file.write(b"12")
        assert "a" not in entries(folder)
        file.write(memoryview(b"345"))
        file.commit()
        assert (folder / "a").read_bytes() == b"12345"
        assert (file.bytes, file.sha256) == (5, "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5")
        dropped = NewFile(folder / "b")
        dropped.write(b"1")
        dropped.abandon()
        dropped.write(b"2")
        assert sorted(entries(folder)) == ["a"]
