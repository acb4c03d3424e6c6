"""Splits and variant groups of several sources: no group may come to lie in two splits."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.merge import merge
from shards.repeats import with_several
from shards.selection import Selection
from shards.summary import summarize, summary_lines
from tests.shards.data_sets import made
from tests.shards.merge.conftest import content


def test_sources_that_were_split_in_other_ways_are_refused(tmp_path: Path) -> None:
    by_ten = Selection(split=(("train", 0.5), ("test", 0.5)))
    sources = [
        made(tmp_path / "a", {"a1": 1}, selection=by_ten),
        made(tmp_path / "b", {"b1": 1}, selection=by_ten),
        made(tmp_path / "c", {"c1": 1}),
    ]
    dataset = merge(tmp_path / "out", sources[:2])
    assert dataset["options"]["split"] == read_dataset(sources[0])["options"]["split"]
    with pytest.raises(BadUsage, match=r"a/out' was built with split .*c/out' with none"):
        merge(tmp_path / "other", [sources[0], sources[2]])


def test_a_group_in_other_splits_of_two_sources_is_refused(tmp_path: Path) -> None:
    """A later product that is left out does not count; one whose group comes from the later source does."""
    in_train, in_test = ({"variant_group": "g", "split": split} for split in ("train", "test"))
    one = made(tmp_path / "one", {"a": 1, "b": 1}, labels={"a": in_train, "b": {"split": "test"}})
    two = made(tmp_path / "two", {"c": 1, "d": 1}, labels={"c": in_test, "d": {"variant_group": "h"}})
    with pytest.raises(BadData, match=r"1 variant group in more than one split of .*: 'g': 'a' in train, 'c' in test"):
        merge(tmp_path / "out", [one, two])
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadData, match=r"'a' is in train in .*one/out', in test in"):
        merge(tmp_path / "out", [one, made(tmp_path / "tested", {"a": 1}, labels={"a": in_test})], on_duplicate="first")
    again = made(tmp_path / "again", {"b": 1, "e": 1}, labels={"b": in_train | {"variant_group": "h"}, "e": {}})
    for on_duplicate in ("first", "merge"):
        merge(tmp_path / on_duplicate, [one, again], on_duplicate=on_duplicate)
    late = made(tmp_path / "late", {"b": 1, "f": 1}, labels={"b": in_train, "f": {}})
    merge(tmp_path / "left out", [one, late], on_duplicate="first")
    with pytest.raises(BadData, match="'g': 'a' in train, 'b' in test"):
        merge(tmp_path / "united", [one, late], on_duplicate="merge")


def test_groups_that_lie_in_two_splits_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As data sets have them that were merged before this was refused."""
    monkeypatch.setattr("shards.merge.check_groups", lambda *arguments: None)

    def labels(split: str, *groups: str) -> dict[str, Any]:
        return {f"{split}{number}": {"variant_group": group, "split": split} for number, group in enumerate(groups)}

    one, two, three = labels("train", "g", "h", "", "i"), labels("test", "h", "", "k"), labels("", "i", "k")
    sources = [made(tmp_path / name, dict.fromkeys(own, 1), labels=own) for name, own in (("a", one), ("b", two))]
    sources.append(made(tmp_path / "c", {"0": 1, "1": 1}, labels={"0": three["0"], "1": three["1"]}))
    merge(tmp_path / "out", sources)
    found = summarize(tmp_path / "out")
    assert found["groups_in_several_splits"] == 2, "h and k: products without a split are of train"
    assert any("2 variant groups in more than one split" in line for line in summary_lines(tmp_path / "out", found))
    alone = summarize(sources[0])
    assert alone["groups_in_several_splits"] == 0
    assert not any("more than one split" in line for line in summary_lines(sources[0], alone))


def test_texts_with_several_others_beside_them() -> None:
    parts = [(["a", "b", "", "c"], ["x", "x", "x", "x"]), (["a", "b", "", "c", "a"], ["y", "", "y", "x", "z"])]
    assert with_several((pa.array(first), pa.array(second)) for first, second in parts) == 1
    assert with_several([]) == 0


def test_a_product_that_gains_a_group_stays_in_its_split_only_where_the_group_is(tmp_path: Path) -> None:
    """By shares of products a product without a group goes by its own id, one with a group by the group's name."""
    by_half = Selection(split=(("train", 0.5), ("test", 0.5)))
    names = [f"p{number}" for number in range(6)]
    alone = made(tmp_path / "alone", dict.fromkeys(names, 1), selection=by_half)
    splits = {product["split"] for product, _ in content(alone).values()}
    assert splits == {"train", "test"}, "six names of which some go to either side"
    trained, tested = (
        made(
            tmp_path / group,
            dict.fromkeys(names, 1),
            labels={name: {"variant_group": group} for name in names},
            selection=by_half,
        )
        for group in ("j", "g")
    )
    assert {product["split"] for product, _ in content(trained).values()} == {"train"}
    assert {product["split"] for product, _ in content(tested).values()} == {"test"}
    with pytest.raises(BadData, match=r"1 variant group in more than one split of .*'j': 'p\d' in "):
        merge(tmp_path / "out", [alone, trained], on_duplicate="merge")
    merge(tmp_path / "first", [alone, trained], on_duplicate="first")
    for on_duplicate in ("first", "merge"):
        with pytest.raises(
            BadData, match=r"\d products that a later source holds back from training: 'p\d' is in train"
        ):
            merge(tmp_path / "out", [alone, tested], on_duplicate=on_duplicate)
    assert not (tmp_path / "out").exists()
    merge(tmp_path / "other way", [tested, alone], on_duplicate="merge")
    assert pq.read_table(tmp_path / "other way" / "products.parquet")["variant_group"].to_pylist() == ["g"] * 6
