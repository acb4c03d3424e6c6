import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.arrival import ARRIVAL, arrive
from shards.build import build
from shards.cli import main
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.lock import Lock
from shards.repair import repair
from shards.selection import Selection
from shards.verify import verify
from tests.shards.conftest import photograph

LONG = os.environ.get("SKILL_FAST_LONG") == "1"
OPERATIONS = ("replace", "unlink", "rename", "rmdir", "fsync")
"""Of the module os: every change that an arrival makes to a disk goes through one of them."""


def catalogue(folder: Path, products: dict[str, int], name: str = "catalogue") -> Path:
    """A manifest of products (name -> photographs), each in a colour; "bad" has an empty file too."""
    lines = []
    for product, images in products.items():
        for view in range(images):
            path = folder / "photographs" / f"{product}-{view}.png"
            if not path.exists():
                photograph(path, 16 + len(product), 18, seed=sum(map(ord, product)) * 10 + view)
            lines.append({"product_id": product, "image_path": str(path), "color": f"color of {product}"})
        if product.startswith("bad"):
            (folder / "photographs" / "empty.png").touch()
            lines.append({"product_id": product, "image_path": str(folder / "photographs" / "empty.png")})
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / f"{name}.jsonl"


OLD = {"a": 1, "bad": 2, "c": 3}
NEW = {"d": 2, "bad2": 1, "e": 1, "f": 3}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    build(catalogue(tmp_path, OLD), tmp_path / "out", shard_mib=0.01, max_side=32, workers=0)
    return tmp_path / "out"


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """The catalogue with what was new in it behind what was there."""
    return catalogue(tmp_path, OLD | NEW, "grown")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_whole(folder: Path) -> None:
    assert [str(finding) for finding in verify(folder, full=True, workers=1).findings] == []


def test_only_what_is_new_is_built_and_no_shard_is_touched(out: Path, grown: Path) -> None:
    old, before = read_dataset(out), files(out)
    dataset = append(grown, out, workers=0)
    assert_whole(out)
    assert dataset == read_dataset(out)
    after = files(out)
    assert all(after[name] == data for name, data in before.items() if name.startswith("shard-"))
    assert dataset["shards"][: len(old["shards"])] == old["shards"] and len(dataset["shards"]) > len(old["shards"])
    ids = pq.read_table(out / "products.parquet")["product_id"].to_pylist()
    assert ids == [*OLD, *NEW]
    counts = dataset["counts"]
    assert counts["products"] == 7 and counts["images_written"] == 6 + 7 and counts["images_seen"] == 15
    assert counts["images_rejected"] == {"empty_file": 2}
    assert dataset["options"]["appended"] == [
        {"source_format": "manifest", "already_there": 3, "products": 4, "images_written": 7}
    ]
    assert {name: dataset["options"][name] for name in old["options"]} == old["options"]
    assert not (out / ".append").exists()
    assert not any(name.endswith(".partial") for name in after)


def test_the_new_products_are_what_a_build_of_them_alone_gives(out: Path, grown: Path, tmp_path: Path) -> None:
    build(catalogue(tmp_path, NEW, "new"), tmp_path / "alone", shard_mib=0.01, max_side=32, workers=0)
    append(grown, out, workers=0)
    assert_whole(out)
    first = len(list(out.glob("*.tar"))) - len(list((tmp_path / "alone").glob("*.tar")))
    for number, path in enumerate(sorted((tmp_path / "alone").glob("*.tar")), first):
        assert (out / f"shard-{number:06d}.tar").read_bytes() == path.read_bytes()


def test_appending_again_changes_nothing(out: Path, grown: Path) -> None:
    append(grown, out, workers=0)
    before = files(out)
    append(grown, out, workers=0)
    assert files(out) == before


def test_appending_twice(out: Path, grown: Path, tmp_path: Path) -> None:
    append(grown, out, workers=0)
    dataset = append(catalogue(tmp_path, {"a": 1, "z": 2}, "more"), out, workers=0)
    assert_whole(out)
    assert [entry["products"] for entry in dataset["options"]["appended"]] == [4, 1]
    assert pq.read_table(out / "products.parquet")["product_id"].to_pylist()[-1] == "z"


def test_a_known_product_is_an_error_on_request(out: Path, grown: Path) -> None:
    before = files(out)
    with pytest.raises(BadData, match=r"product 'a' is in .* already"):
        append(grown, out, on_duplicate="error", workers=0)
    assert files(out) == before
    with pytest.raises(BadUsage, match=r"merge --on-duplicate merge"):
        append(grown, out, on_duplicate="merge", workers=0)


def test_nothing_good_among_the_new_changes_nothing(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(out)
    (tmp_path / "hopeless.jsonl").write_text('{"product_id": "new", "image_path": "gone.png"}')
    assert main(["append", str(tmp_path / "hopeless.jsonl"), str(out), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "0 products added; nothing new could be used; 3 in all" in printed
    assert "missing_file" in printed and "gone.png" in printed
    assert files(out) == before


def test_rejects_that_are_listed_are_not_counted_again(out: Path, tmp_path: Path) -> None:
    def more(name: str, new: dict[str, int], *lines: dict[str, str]) -> dict[str, Any]:
        path = catalogue(tmp_path, OLD | new, name)
        with path.open("a") as file:
            file.writelines(f"\n{json.dumps(line)}" for line in lines)
        return append(path, out, workers=0)

    dead = {"product_id": "dead", "image_path": "gone.png"}
    first = more("first", {"d": 1}, dead, {"product_id": "", "image_path": "x.png"})
    assert first["counts"]["products_rejected"] == {"no_good_photographs": 1}
    again = more("again", {"d": 1, "e": 2}, dead, {"product_id": "", "image_path": "x.png"})
    assert_whole(out)
    assert again["counts"]["images_rejected"] == first["counts"]["images_rejected"]
    assert again["counts"]["products_rejected"] == first["counts"]["products_rejected"]
    assert again["counts"]["images_seen"] == first["counts"]["images_seen"] + 2
    other = more("other", {"f": 1}, dead, {"product_id": "dead", "image_path": "gone too.png"})
    assert_whole(out)
    assert other["counts"]["images_rejected"]["missing_file"] == first["counts"]["images_rejected"]["missing_file"] + 1
    rows = pq.read_table(out / "rejected.parquet").to_pylist()
    assert len({(row["product_id"], row["image_path"], row["reason"]) for row in rows}) == len(rows)


def test_the_options_of_the_data_set_hold(tmp_path: Path) -> None:
    build(catalogue(tmp_path, OLD), tmp_path / "out", preprocess="none", max_side=16, jpeg_quality=50, workers=0)
    append(catalogue(tmp_path, NEW, "new"), tmp_path / "out", workers=0)
    assert_whole(tmp_path / "out")
    sides = pq.read_table(tmp_path / "out" / "images.parquet")
    assert max(sides["height"].to_pylist()) == 16 and min(sides["width"].to_pylist()) < 16


def test_what_can_not_be_appended_to(out: Path, grown: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="does not exist"):
        append(grown, tmp_path / "nowhere", workers=0)
    assert not (tmp_path / "nowhere").exists()
    path = out / "shard-000000.tar"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(BadData, match=r"shard-000000\.tar"):
        append(grown, out, workers=0)
    path.write_bytes(data)
    assert not (out / ".append").exists()
    lock = Lock(out / ".append", out)
    lock.take()
    with pytest.raises(BadUsage, match="another process"):
        append(grown, out, workers=0)
    with pytest.raises(BadUsage, match="another process"):
        repair(out)
    lock.release()
    append(grown, out, workers=0)
    assert_whole(out)


class Killed(BaseException):
    """Ends a process without its clean-up: nothing here catches it but the tests."""


def test_an_interrupted_build_goes_on(out: Path, grown: Path, tmp_path: Path) -> None:
    """Until the arrival the data set is the old one, and what was built is not built again."""
    shutil.copytree(out, tmp_path / "whole")
    append(grown, tmp_path / "whole", workers=0)
    before = files(out)

    def stop(done: Any) -> None:
        if done.products == 4:
            raise Killed

    with pytest.raises(Killed):
        append(grown, out, workers=0, progress=stop)
    assert {name: data for name, data in files(out).items() if not name.startswith(".append")} == before
    assert_whole(out)
    resumed = []
    append(grown, out, workers=0, progress=lambda done: resumed.append(done.resumed))
    assert max(resumed) > 0
    assert files(out) == files(tmp_path / "whole")


def test_what_another_append_prepared_is_not_taken(out: Path, grown: Path, tmp_path: Path) -> None:
    def stop(done: Any) -> None:
        if done.products == 4:
            raise Killed

    with pytest.raises(Killed):
        append(grown, out, workers=0, progress=stop)
    append(catalogue(tmp_path, {"z": 1}, "other"), out, workers=0)
    assert_whole(out)
    assert pq.read_table(out / "products.parquet")["product_id"].to_pylist() == [*OLD, "z"]


def test_repair_removes_what_was_only_prepared(out: Path, grown: Path) -> None:
    before = files(out)

    def stop(done: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        append(grown, out, workers=0, progress=stop)
    (line,) = repair(out)
    assert "run it again" in line
    assert files(out) == before


@pytest.fixture
def about_to_arrive(out: Path, grown: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose append was killed when all was prepared."""

    def killed(folder: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shards.append.arrive", killed)
        with pytest.raises(Killed):
            append(grown, out, workers=0)
    assert (out / ".append" / ARRIVAL).is_file()
    return out


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do ``work`` in a process that is gone, without any clean-up, before its ``step``-th change of the disk.

    Returns whether it came so far.
    """
    child = os.fork()
    if child == 0:
        done = [0]

        def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
            def change(*arguments: Any, **named: Any) -> Any:
                if done[0] == step:
                    os._exit(9)
                done[0] += 1
                return operation(*arguments, **named)

            return change

        for name in OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def states(
    folder: Path, fresh: Path, finish: Callable[[Path], Any], every: int = 1, first: int = 0
) -> Iterator[tuple[int, Path]]:
    """Kill ``finish`` before each of its steps in turn; yields what is left, each time from the start."""
    step = first
    while True:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(folder, fresh)
        if not killed_at(step, lambda: finish(fresh)):
            return
        yield step, fresh
        step += every


def test_an_arrival_killed_at_any_step_is_rolled_forward(about_to_arrive: Path, grown: Path, tmp_path: Path) -> None:
    """At each instant a reader has the old data set, or the new one, or is told what goes on."""
    old = read_dataset(about_to_arrive)
    whole = tmp_path / "whole"
    shutil.copytree(about_to_arrive, whole)
    arrive(whole)
    assert_whole(whole)
    new, expected = read_dataset(whole), files(whole)
    seen = []
    for step, folder in states(about_to_arrive, tmp_path / "killed", arrive):
        try:
            found = read_dataset(folder)
            assert found in (old, new)
            seen.append("old" if found == old else "new")
            quick = verify(folder).findings
            assert all(finding.file == ".append" for finding in quick), (step, quick)
        except BadData as error:
            assert "being appended" in str(error)
            seen.append("neither")
        by_repair = step % 2 == 0
        lines = repair(folder) if by_repair else append(grown, folder, workers=0)
        assert files(folder) == expected, step
        assert not by_repair or seen[-1] == "new" or "complete now" in lines[0]
    assert seen == sorted(seen, key=["old", "neither", "new"].index)
    moved = 2 * (len(new["shards"]) - len(old["shards"])) + len(new["tables"])
    assert seen.count("old") >= 1 and seen.count("neither") > moved and seen.count("new") > 3


def test_a_second_kill_on_the_way_forward(about_to_arrive: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(about_to_arrive, whole)
    arrive(whole)
    ended = 0
    for _, folder in states(about_to_arrive, tmp_path / "killed", arrive, 1 if LONG else 7, 1):
        for _, twice in states(folder, tmp_path / "twice", repair, 1 if LONG else 9):
            repair(twice)
            assert files(twice) == files(whole)
            ended += 1
    assert ended > 8


def test_a_reader_that_began_before_never_mixes_the_two(about_to_arrive: Path, tmp_path: Path) -> None:
    """Whoever holds the old dataset.json finds every file as it says, or of another size."""
    old = read_dataset(about_to_arrive)
    for _, folder in states(about_to_arrive, tmp_path / "killed", arrive):
        for name, line in [(line["name"], line) for line in old["shards"]] + list(old["tables"].items()):
            found = (folder / name).read_bytes()
            assert len(found) != line["bytes"] or found == (about_to_arrive / name).read_bytes()


def test_a_build_leaves_a_half_arrived_data_set_alone(about_to_arrive: Path, grown: Path, tmp_path: Path) -> None:
    for _, folder in states(about_to_arrive, tmp_path / "killed", arrive, 1 if LONG else 4):
        before = files(folder)
        if not (folder / ".append").exists():
            continue
        with pytest.raises(BadUsage):
            build(grown, folder, workers=0)
        assert files(folder) == before


def test_new_photographs_of_old_products_are_counted_though_not_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each product, once however often; what was rejected before is no new photograph."""
    source, out = tmp_path / "c", tmp_path / "out"
    for number, name in enumerate(("a/0.png", "b/0.png", "b/1.png")):
        photograph(source / name, 30, 30, seed=number)
    (source / "a" / "bad.png").write_bytes(b"")
    build(source, out, workers=0)
    assert append(source, out, workers=0) == read_dataset(out) and capsys.readouterr().err == ""
    for number, name in enumerate(("b/2.png", "b/3.png")):
        photograph(source / name, 30, 30, seed=10 + number)
    before = files(out)
    append(source, out, workers=0)
    assert files(out) == before
    assert "have 2 more photographs in the source, which are not added" in capsys.readouterr().err
    for number, name in enumerate(("q", "r")):
        photograph(source / name / "0.png", 30, 30, seed=20 + number)
        dataset = append(source, out, workers=0)
        assert_whole(out)
        assert "have 2 more photographs" in capsys.readouterr().err
        assert dataset["counts"]["products_rejected"] == {"duplicate_product": 1}
        assert dataset["options"]["appended"][-1]["photographs_not_added"] == 2
    rejected = pq.read_table(out / "rejected.parquet").to_pylist()
    (row,) = [row for row in rejected if row["reason"] == "duplicate_product"]
    assert row["product_id"] == "b" and "2 of its 4 photographs are new and not added" in row["detail"]
    assert dataset["counts"]["images_seen"] == 6 and dataset["counts"]["products"] == 4


@pytest.mark.parametrize("killed", ["before tables", "before arrival", "amid tidying of the build"])
@pytest.mark.parametrize("gains", [False, True])
def test_what_an_interrupted_append_had_prepared_is_told_and_what_came_since_is_added(
    out: Path, grown: Path, tmp_path: Path, killed: str, gains: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    at = {
        "before tables": "shards.append.prepare",
        "before arrival": "shards.append.arrive",
        "amid tidying of the build": "shards.output.LocalOutput.remove_journal",
    }[killed]

    def kill(*arguments: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(at, kill)
        append(grown, out, workers=0)
    if gains:
        catalogue(tmp_path, OLD | NEW | {"g": 1, "h": 2}, "grown")
    assert main(["append", str(grown), str(out), "--workers", "0"]) == 0
    assert_whole(out)
    ids = pq.read_table(out / "products.parquet")["product_id"].to_pylist()
    assert ids == [*OLD, *NEW, *(["g", "h"] if gains else [])]
    said = capsys.readouterr().out
    assert "4 products added that an interrupted append had prepared" in said
    last = (
        "2 more products added; 7 of the source's were" if gains else "0 more products added; all of the source's were"
    )
    assert f"{last} there already; {9 if gains else 7} in all" in said


def test_a_prepared_append_arrives_though_a_known_product_is_an_error(out: Path, tmp_path: Path) -> None:
    new = catalogue(tmp_path, NEW, "new")

    def kill(*arguments: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("shards.append.prepare", kill)
        append(new, out, on_duplicate="error", workers=0)
    append(new, out, on_duplicate="error", workers=0)
    assert pq.read_table(out / "products.parquet")["product_id"].to_pylist() == [*OLD, *NEW]


def test_a_photograph_that_was_missing_and_is_there_now_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "late.jsonl"
    lines = [{"product_id": "late", "image_path": name} for name in ("late-0.png", "late-1.png", "late-2.png")]
    source.write_text("\n".join(map(json.dumps, lines)))
    photograph(tmp_path / "late-0.png", 20, 20)
    build(source, tmp_path / "late", workers=0)
    append(source, tmp_path / "late", workers=0)
    assert capsys.readouterr().err == ""
    photograph(tmp_path / "late-1.png", 20, 20, seed=1)
    append(source, tmp_path / "late", workers=0)
    assert "have 1 more photographs in the source, which are not added" in capsys.readouterr().err


def test_a_group_that_an_append_would_put_in_two_splits_is_refused(tmp_path: Path) -> None:
    """Though each catalogue keeps its own groups whole; where shares make the splits they follow the group."""

    def source(product: str, split: str) -> Path:
        photograph(tmp_path / f"{product}.png", 20, 20, seed=ord(product))
        line = {"product_id": product, "image_path": f"{product}.png", "variant_group": "g", "split": split}
        (tmp_path / f"{product}.jsonl").write_text(json.dumps(line))
        return tmp_path / f"{product}.jsonl"

    out = tmp_path / "out"
    build(source("a", "train"), out, workers=0)
    before = files(out)
    with pytest.raises(BadData, match=r"split of '.*out' with .*: 'g': 'a' in train, 'b' in test"):
        append(source("b", "test"), out, workers=0)
    assert files(out) == before
    assert append(source("c", "train"), out, workers=0)["counts"]["products"] == 2
    build(source("a", "train"), tmp_path / "shares", workers=0, selection=Selection(split=(("x", 0.5), ("y", 0.5))))
    append(source("b", "test"), tmp_path / "shares", workers=0)
    assert len(set(pq.read_table(tmp_path / "shares" / "products.parquet")["split"].to_pylist())) == 1
