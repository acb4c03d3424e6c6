"""What an append adds, counts and refuses; no shard that is there is touched."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import build
from shards.cli import main
from shards.engines import local
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.lock import Lock
from shards.repair import repair
from shards.selection import Selection
from tests.shards.append.conftest import NEW, OLD, catalogue
from tests.shards.conftest import photograph
from tests.shards.data_sets import assert_whole, files


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


@pytest.mark.parametrize("reason", ["unreadable", "decoder_died", "decoder_timeout", "out_of_memory", "undecodable"])
def test_a_photograph_that_a_machine_may_have_lost_is_told_and_not_taken_for_new(
    reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a product that is there; what is the photograph's own fault is not told again."""
    source, out = tmp_path / "c", tmp_path / "out"
    for number in range(3):
        photograph(source / "a" / f"{number}.png", 30, 30, seed=number)
    true = local.outcome_of
    with monkeypatch.context() as patch:
        patch.setattr(
            local, "outcome_of", lambda task, how: (reason, "") if task.photograph.stem == "1" else true(task, how)
        )
        assert build(source, out, workers=0)["counts"]["images_rejected"] == {reason: 1}
    before = files(out)
    append(source, out, workers=0)
    told = capsys.readouterr().err
    assert ("lack 1 rejected photographs that may be good by now" in told) == (reason != "undecodable")
    assert "more photographs in the source" not in told
    (source / "a" / "1.png").unlink()
    append(source, out, workers=0)
    assert capsys.readouterr().err == "" and files(out) == before


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
