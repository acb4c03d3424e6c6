"""Nothing tested is trained on: by a product that two rows or sources put elsewhere, or by another of its group."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import build
from shards.cli import main
from shards.errors import BadData, BadUsage
from shards.merge import merge
from shards.selection import Selection
from tests.shards.conftest import photograph
from tests.shards.data_sets import files, made
from tests.shards.sources.trees import INSHOP_PARTITION, SOP_TEST, SOP_TRAIN, TREES, put

TRAIN, TEST = {"split": "train"}, {"split": "test"}
HALVES = Selection(split=(("train", 0.5), ("test", 0.5)))


def splits(out: Path) -> dict[str, str]:
    products = pq.read_table(out / "products.parquet")
    return dict(zip(products["product_id"].to_pylist(), products["split"].to_pylist(), strict=True))


def listed(folder: Path, suffix: str, rows: list[dict[str, str]]) -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("\n".join(map(",".join, lines)))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_a_group_that_a_tested_row_tears_is_refused_by_each_kind_of_manifest(
    tmp_path: Path, suffix: str, order: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Product a is test, whichever of its rows says so; b of its group is in train."""
    rows = []
    for number, (product, split) in enumerate((("a", order[0]), ("b", "train"), ("a", order[1]))):
        photograph(tmp_path / f"{number}.png", seed=number)
        rows.append(
            {"product_id": product, "image_path": f"{number}.png", "variant_group": "g" * (number < 2), "split": split}
        )
    source, out = str(listed(tmp_path, suffix, rows)), tmp_path / "out"
    assert main(["build", source, str(out), "--workers", "0"]) == BadData.exit_code
    said = capsys.readouterr().err
    assert "1 variant group in more than one split of the source: 'g': 'a' in test, 'b' in train" in said
    assert "change:" in said and "--split" in said and not out.exists()
    assert main(["build", source, str(out), "--workers", "0", "--split", "train=0.5,test=0.5"]) == 0
    assert set(splits(out)) == {"a", "b"} and len(set(splits(out).values())) == 1


def test_an_item_of_inshop_that_is_torn_is_refused_unless_shares_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = TREES["inshop"](tmp_path / "tree"), tmp_path / "out"
    torn = INSHOP_PARTITION.replace(
        "02_2_side.jpg                           id_00000002 train", "02_2_side.jpg id_00000002 query"
    )
    put(root, "Eval/list_eval_partition.txt", torn)
    command = ["build", str(root), str(out), "--workers", "0"]
    assert main(command) == BadData.exit_code
    assert "'id_00000002': 'id_00000002_02' in test, 'id_00000002_03' in train" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--split", "train=0.5,test=0.5"]) == 0
    assert splits(out)["id_00000002_02"] == splits(out)["id_00000002_03"]


def test_a_class_of_both_of_sops_lists_is_tested(tmp_path: Path) -> None:
    """It has no variant groups, so nothing else can be torn."""
    root = TREES["sop"](tmp_path / "tree")
    put(root, "Ebay_test.txt", SOP_TEST + SOP_TRAIN.splitlines()[1].replace("1 1 1", "59553 1 1") + "\n")
    build(root, tmp_path / "out", format="sop", workers=0)
    assert splits(tmp_path / "out") == {"1": "test", "2": "train", "11319": "test"}


@pytest.mark.parametrize("on_duplicate", ["first", "merge"])
@pytest.mark.parametrize(("early", "late"), [("train", "test"), ("train", "val"), ("", "test"), ("val", "test")])
def test_a_merge_that_would_train_on_what_a_later_source_tests_is_refused(
    tmp_path: Path, on_duplicate: str, early: str, late: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = made(tmp_path / "one", {"p": 1, "a": 1}, labels={"p": {"split": early}})
    two = made(tmp_path / "two", {"p": 1, "b": 1}, labels={"p": {"split": late}})
    out = tmp_path / "out"
    command = ["merge", str(out), str(one), str(two), "--on-duplicate", on_duplicate]
    assert main(command) == BadData.exit_code
    said = capsys.readouterr().err
    assert f"'p' is in {early or 'train'} in '{one}', in {late} in '{two}'" in said and "--split" in said
    assert not out.exists()
    merge(out, [two, one], on_duplicate=on_duplicate)
    assert splits(out)["p"] == late


def test_of_three_sources_the_first_that_has_a_product_decides(tmp_path: Path) -> None:
    made_of = {
        name: made(tmp_path / name, {"p": 1, name: 1}, labels={"p": {"split": split}})
        for name, split in (("a", "test"), ("b", "train"), ("c", "test"))
    }
    merge(tmp_path / "out", [made_of[name] for name in "abc"], on_duplicate="merge")
    assert splits(tmp_path / "out")["p"] == "test"
    with pytest.raises(
        BadData,
        match=r"1 product that a later source holds back from training: 'p' is in train in .*b/out', in test",
    ):
        merge(tmp_path / "other", [made_of[name] for name in "bc"], on_duplicate="first")


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    """A data set of before groups were asked for, with one --split of its own: group g is in two splits."""
    names = [f"p{number}" for number in range(6)]
    labels = {name: {"variant_group": "g"} for name in names}
    alone = made(tmp_path / "alone", dict.fromkeys(names, 1), selection=HALVES)
    grouped = made(tmp_path / "grouped", dict.fromkeys(names, 1), labels=labels, selection=HALVES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.merge.check_groups", lambda *arguments: None)
        patch.setattr("shards.merge_repeats._check_splits", lambda *arguments: None)
        merge(tmp_path / "torn", [alone, grouped], on_duplicate="merge")
    assert set(splits(tmp_path / "torn").values()) == {"train", "test"}
    return tmp_path / "torn"


def test_groups_are_asked_for_also_where_all_have_one_split(torn: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other", {"o": 1}, selection=HALVES)
    for sources in ([torn], [torn, other], [other, torn]):
        with pytest.raises(BadData, match="1 variant group in more than one split of the data sets: 'g': "):
            merge(tmp_path / "out", sources)
        assert not (tmp_path / "out").exists()
    before = files(torn)
    with pytest.raises(
        BadData, match=r"1 variant group in more than one split of '.*torn' with what is to be appended"
    ):
        append(tmp_path / "other" / "catalogue.jsonl", torn, workers=0)
    assert {name: data for name, data in files(torn).items() if not name.startswith(".append")} == before


def test_the_same_shares_in_another_order_are_another_split(tmp_path: Path) -> None:
    """The shares are laid one behind the other: each product is in the other half."""
    turned = Selection(split=HALVES.split[::-1])
    labels: dict[str, Any] = {name: {"variant_group": "g"} for name in "ab"}
    one = made(tmp_path / "one", {"a": 1}, labels=labels, selection=HALVES)
    two = made(tmp_path / "two", {"b": 1}, labels=labels, selection=turned)
    assert splits(one)["a"] != splits(two)["b"]
    with pytest.raises(BadUsage, match="was built with split"):
        merge(tmp_path / "out", [one, two])
    with pytest.raises(BadUsage, match=r"split was .*'train': 0.5, 'test': 0.5.*, is .*'test': 0.5, 'train': 0.5"):
        build(tmp_path / "one" / "catalogue.jsonl", one, workers=0, shard_mib=0.008, selection=turned)


def test_a_number_is_the_same_option_however_it_was_written(tmp_path: Path) -> None:
    """As --shard-mib 1 and a default of 1 are."""
    one = made(tmp_path / "one", {"a": 1}, shard_mib=1)
    build(tmp_path / "one" / "catalogue.jsonl", one, workers=0, shard_mib=1.0)
    merge(tmp_path / "out", [one, made(tmp_path / "two", {"b": 1}, max_side=512)])
    assert set(splits(tmp_path / "out")) == {"a", "b"}
