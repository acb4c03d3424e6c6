import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.build import build
from shards.errors import BadData, BadUsage
from shards.index import DATASET, describe, read_dataset, sealed
from shards.merge import merge
from shards.places import entries, place
from shards.repeats import with_several
from shards.selection import Selection
from shards.summary import summarize, summary_lines
from shards.table_files import TABLES
from shards.verify import verify
from tests.object_storage import ObjectStorage
from tests.shards.conftest import photograph

Found = dict[str, tuple[dict[str, Any], list[bytes]]]


def made(folder: Path, products: dict[str, int], *, labels: dict[str, Any] | None = None, **options: Any) -> Path:
    """A data set of products (name -> photographs) in shards of one or two of them, with one reject."""
    lines = []
    for name, images in products.items():
        for view in range(images):
            path = photograph(
                folder / "photographs" / f"{name}-{view}.png", 17 + len(name), 20, seed=hash_of(folder, name, view)
            )
            lines.append({"product_id": name, "image_path": str(path)} | ((labels or {}).get(name, {})))
    lines.append({"product_id": next(iter(products)), "image_path": "gone.png"})
    (folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    build(folder / "catalogue.jsonl", folder / "out", workers=0, **{"shard_mib": 0.008, **options})
    return folder / "out"


def hash_of(*parts: Any) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate("".join(map(str, parts))[-12:])) % 2**32


def with_duplicates(folder: Path, *rows: tuple[str, int, str, str, int, int]) -> Path:
    """Give a data set a table of duplicates."""
    schema = TABLES["duplicates.parquet"]
    named = [dict(zip(schema.names, row, strict=True)) for row in rows]
    pq.write_table(pa.Table.from_pylist(named, schema=schema), folder / "duplicates.parquet")
    dataset = read_dataset(folder)
    dataset["tables"]["duplicates.parquet"] = describe(folder / "duplicates.parquet")
    (folder / DATASET).write_bytes(sealed(dataset))
    return folder


def content(folder: Path) -> Found:
    """Product id -> (labels, photographs), read by way of the tables."""
    images = pq.read_table(folder / "images.parquet").to_pylist()
    found: Found = {}
    for product in pq.read_table(folder / "products.parquet").to_pylist():
        own = images[product["first_image"] : product["first_image"] + product["images"]]
        tars = [folder / f"shard-{image['shard']:06d}.tar" for image in own]
        data = [
            path.read_bytes()[image["offset"] : image["offset"] + image["size"]]
            for path, image in zip(tars, own, strict=True)
        ]
        labels = {name: product[name] for name in ("product_type", "color", "split", "attributes")}
        assert product["product_id"] not in found
        found[product["product_id"]] = (labels, data)
    return found


def tables(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / name).to_pylist()


def assert_whole(folder: Path) -> None:
    assert [str(finding) for finding in verify(folder, full=True, workers=1).findings] == []


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path / "a", {"a1": 1, "a2": 2, "a3": 3}), made(tmp_path / "b", {"b1": 2, "b2": 1, "b3": 1, "b4": 1})


def test_tars_are_copied_byte_for_byte_and_tables_follow(two: tuple[Path, Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    dataset = merge(tmp_path / "out", two, progress=lambda *state: told.append(state))
    assert_whole(tmp_path / "out")
    sources = [read_dataset(source) for source in two]
    lines = [line for source in sources for line in source["shards"]]
    assert len(sources[0]["shards"]) > 1 < len(sources[1]["shards"])
    for suffix in (".tar", ".idx"):
        before = [path.read_bytes() for source in two for path in sorted(source.glob(f"*{suffix}"))]
        assert [path.read_bytes() for path in sorted((tmp_path / "out").glob(f"*{suffix}"))] == before
    assert [line | {"name": ""} for line in dataset["shards"]] == [line | {"name": ""} for line in lines]
    assert content(tmp_path / "out") == content(two[0]) | content(two[1])
    assert dataset == read_dataset(tmp_path / "out")
    for name in ("products", "images_seen", "images_written"):
        assert dataset["counts"][name] == sum(source["counts"][name] for source in sources)
    assert dataset["counts"]["images_rejected"] == {"missing_file": 2}
    assert dataset["options"]["merged_from"] == [source["fingerprint"] for source in sources]
    assert tables(tmp_path / "out", "rejected.parquet") == [
        row for source in two for row in tables(source, "rejected.parquet")
    ]
    total = sum(line["bytes"] for line in lines)
    assert len(told) == len(lines) and told[-1] == (total, total)


def test_the_same_sources_give_the_same_bytes(two: tuple[Path, Path], tmp_path: Path) -> None:
    for out in ("x", "y"):
        merge(tmp_path / out, two)
    files = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "y").iterdir()} == files
    assert not any(name.startswith(".") for name in files)


def test_merged_data_sets_can_be_merged(two: tuple[Path, Path], tmp_path: Path) -> None:
    third = made(tmp_path / "c", {"c1": 1})
    once = merge(tmp_path / "out", two)
    merge(tmp_path / "more", [tmp_path / "out", third])
    assert_whole(tmp_path / "more")
    assert read_dataset(tmp_path / "more")["options"]["merged_from"][0] == once["fingerprint"]
    assert content(tmp_path / "more") == content(tmp_path / "out") | content(third)


@pytest.mark.parametrize(("option", "value"), [("preprocess", "none"), ("max_side", 64), ("jpeg_quality", 80)])
def test_what_decides_pixels_must_agree(two: tuple[Path, Path], tmp_path: Path, option: str, value: Any) -> None:
    other = made(tmp_path / "c", {"c1": 1}, **{option: value})
    with pytest.raises(BadUsage, match=f"{option} .* with {value}"):
        merge(tmp_path / "out", [*two, other])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets that have x and y in common; z is alone in its shard and in both."""
    first = made(
        tmp_path / "a",
        {"a1": 1, "x": 2, "y": 1, "z": 1},
        labels={"x": {"color": "red", "attributes": {"size": 7, "fit": ""}}, "y": {"product_type": "shirt"}},
    )
    second = made(
        tmp_path / "b",
        {"b1": 1, "y": 2, "x": 3, "b2": 1, "z": 4},
        labels={"x": {"color": "blue", "product_type": "dress", "attributes": {"size": 8, "fit": "slim"}}},
    )
    return first, second


def test_a_product_in_two_sources_is_an_error_that_names_both(shared: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadData) as error:
        merge(tmp_path / "out", shared)
    for words in ("3 product ids twice", "'y'", "'x'", "'z'", str(shared[0]), str(shared[1])):
        assert words in str(error.value)
    assert not (tmp_path / "out").exists()


def test_first_leaves_the_later_product_out(shared: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = merge(tmp_path / "out", shared, on_duplicate="first")
    assert_whole(tmp_path / "out")
    first, second = map(content, shared)
    assert content(tmp_path / "out") == second | first
    assert list(content(tmp_path / "out")) == ["a1", "x", "y", "z", "b1", "b2"]
    counts = dataset["counts"]
    assert counts["products"] == 6 and counts["products_rejected"] == {"duplicate_product": 3}
    assert counts["images_written"] == 5 + 2
    assert counts["images_seen"] == counts["images_written"] + counts["images_rejected"]["missing_file"]
    left_out = [row for row in tables(tmp_path / "out", "rejected.parquet") if row["reason"] == "duplicate_product"]
    assert [row["product_id"] for row in left_out] == ["y", "x", "z"]
    assert all(str(shared[0]) in row["detail"] and str(shared[1]) in row["detail"] for row in left_out)


def test_merge_adds_the_later_photographs(shared: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = merge(tmp_path / "out", shared, on_duplicate="merge")
    assert_whole(tmp_path / "out")
    first, second = map(content, shared)
    found = content(tmp_path / "out")
    assert list(found) == ["a1", "x", "y", "z", "b1", "b2"]
    for name in found:
        assert found[name][1] == first.get(name, ({}, []))[1] + second.get(name, ({}, []))[1]
    assert found["x"][0] == {
        "product_type": "dress",
        "color": "red",
        "split": "train",
        "attributes": '{"size": 7, "fit": "slim"}',
    }
    assert found["y"][0]["product_type"] == "shirt"
    counts, sources = dataset["counts"], [read_dataset(source)["counts"] for source in shared]
    assert counts["products_rejected"] == {} and counts["products"] == 6
    for name in ("images_seen", "images_written"):
        assert counts[name] == sum(source[name] for source in sources)


def test_shards_without_shared_products_stay_as_they_are(shared: tuple[Path, Path], tmp_path: Path) -> None:
    """And a shard that loses all of its products is not there any more."""
    dataset = merge(tmp_path / "out", shared, on_duplicate="first")
    sources = [read_dataset(source)["shards"] for source in shared]
    sums = [line["sha256"] for line in dataset["shards"]]
    assert sums[: len(sources[0])] == [line["sha256"] for line in sources[0]]
    assert len(sums) < len(sources[0]) + len(sources[1])


def test_three_sources_with_one_product(tmp_path: Path) -> None:
    sources = [made(tmp_path / name, {"x": number + 1, name: 1}) for number, name in enumerate("abc")]
    merge(tmp_path / "out", sources, on_duplicate="merge")
    assert_whole(tmp_path / "out")
    assert content(tmp_path / "out")["x"][1] == [data for source in sources for data in content(source)["x"][1]]
    merge(tmp_path / "first", sources, on_duplicate="first")
    assert_whole(tmp_path / "first")
    assert content(tmp_path / "first")["x"] == content(sources[0])["x"]


def test_duplicates_follow_their_photographs(shared: tuple[Path, Path], tmp_path: Path) -> None:
    """Views of the second source are counted behind those of the first."""
    with_duplicates(shared[0], ("x", 1, "near", "x", 0, 2))
    rows = [("y", 1, "near", "y", 0, 1), ("x", 2, "near", "x", 1, 3)]
    with_duplicates(shared[1], *rows)
    merge(tmp_path / "out", shared, on_duplicate="merge")
    assert_whole(tmp_path / "out")
    found = [tuple(row.values()) for row in tables(tmp_path / "out", "duplicates.parquet")]
    assert found == [("x", 1, "near", "x", 0, 2), ("y", 2, "near", "y", 1, 1), ("x", 4, "near", "x", 3, 3)]
    merge(tmp_path / "first", shared, on_duplicate="first")
    assert_whole(tmp_path / "first")
    assert [tuple(row.values()) for row in tables(tmp_path / "first", "duplicates.parquet")] == found[:1]


def test_a_duplicate_that_moves_before_its_original_changes_places_with_it(tmp_path: Path) -> None:
    """b2 and x show the same bytes; x is behind b2 in the second source, and before it when it joins the first's x."""
    first = with_duplicates(made(tmp_path / "a", {"x": 1}))
    folder = tmp_path / "b" / "photographs"
    same = photograph(folder / "same.png", seed=5)
    lines = [{"product_id": name, "image_path": str(same)} for name in ("b2", "x")]
    (tmp_path / "b" / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    build(tmp_path / "b" / "catalogue.jsonl", tmp_path / "b" / "out", workers=0)
    second = with_duplicates(tmp_path / "b" / "out", ("x", 0, "exact", "b2", 0, 0))
    assert_whole(second)
    merge(tmp_path / "out", [first, second], on_duplicate="merge")
    assert_whole(tmp_path / "out")
    assert [tuple(row.values()) for row in tables(tmp_path / "out", "duplicates.parquet")] == [
        ("b2", 0, "exact", "x", 1, 0)
    ]


def test_what_one_source_did_not_record_is_not_recorded(two: tuple[Path, Path], tmp_path: Path) -> None:
    with_duplicates(two[0])
    dataset = read_dataset(two[1])
    dataset["tables"].pop("duplicates.parquet", None)
    (two[1] / "duplicates.parquet").unlink(missing_ok=True)
    (two[1] / DATASET).write_text(json.dumps({name: value for name, value in dataset.items() if name != "sha256"}))
    assert "duplicates.parquet" not in merge(tmp_path / "out", two)["tables"]
    assert_whole(tmp_path / "out")


@pytest.mark.parametrize("damage", ["tar", "size", "index"])
def test_a_damaged_source_leaves_no_data_set(two: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    path = two[1] / ("shard-000001.idx" if damage == "index" else "shard-000001.tar")
    data = bytearray(path.read_bytes())
    data[700 if damage == "tar" else 0] ^= 1
    path.unlink() if damage == "index" else path.write_bytes(data + b"\0" * (damage == "size"))
    with pytest.raises(BadData, match=path.name):
        merge(tmp_path / "out", two)
    assert not (tmp_path / "out" / DATASET).exists()
    assert not list((tmp_path / "out").glob("*.partial")) if (tmp_path / "out").exists() else True


def test_an_interrupted_merge_starts_over(two: tuple[Path, Path], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    merge(tmp_path / "whole", two)
    with pytest.raises(KeyboardInterrupt):
        merge(tmp_path / "out", two, progress=stop)
    with pytest.raises(BadData):
        read_dataset(tmp_path / "out")
    merge(tmp_path / "out", two)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_what_lies_at_the_place_is_not_lost(two: tuple[Path, Path], tmp_path: Path) -> None:
    for out in (two[0], two[1]):
        with pytest.raises(BadUsage, match="another place"):
            merge(out, two, overwrite=True)
    shutil.copytree(two[0], tmp_path / "out")
    with pytest.raises(BadUsage, match="a finished data set"):
        merge(tmp_path / "out", two)
    assert_whole(tmp_path / "out")
    merge(tmp_path / "out", two, overwrite=True)
    assert content(tmp_path / "out") == content(two[0]) | content(two[1])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(BadUsage, match=r"letter\.txt"):
        merge(tmp_path / "other", two)
    with pytest.raises(BadUsage, match="on_duplicate"):
        merge(tmp_path / "new", two, on_duplicate="last")
    with pytest.raises(BadUsage, match="one source"):
        merge(tmp_path / "new", [])


def test_sources_and_result_in_object_storage(tmp_path: Path, s3: ObjectStorage) -> None:
    """There and back again: the same bytes as on a disk; verified and summarised where they lie."""
    sources = [made(tmp_path / name, {"x": 2, name: 1}, shard_mib=shard) for name, shard in (("a", 1), ("b", 0.005))]
    for name, source in zip("ab", sources, strict=True):
        shutil.copytree(source, s3.local(s3.url) / name)
    remote = [place(f"{s3.url}/{name}") for name in "ab"]
    merge(tmp_path / "disk", sources, on_duplicate="first")
    merge(place(f"{s3.url}/out"), remote, on_duplicate="first")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "disk").iterdir()}
    found = {path.name: path.read_bytes() for path in s3.local(f"{s3.url}/out").iterdir()}
    changed = {"rejected.parquet", DATASET}  # they name the places
    assert {name for name in expected if found[name] != expected[name]} <= changed and found.keys() == expected.keys()
    out = place(f"{s3.url}/out")
    assert verify(out, full=True, workers=2).findings == []
    assert summarize(out)["labels"] == summarize(tmp_path / "disk")["labels"]
    (s3.local(f"{s3.url}/out") / ".build").mkdir()
    (s3.local(f"{s3.url}/out") / ".build" / "owner.json").write_text("{}")
    merge(out, remote, on_duplicate="first")
    again = {path.name: path.read_bytes() for path in s3.local(f"{s3.url}/out").iterdir() if path.is_file()}
    assert again == found and not entries(out / ".build"), "as after a kill behind dataset.json"
    with pytest.raises(BadUsage, match="a finished data set"):
        merge(out, remote, on_duplicate="merge")
    shard = s3.local(f"{s3.url}/out/shard-000000.tar")
    shard.write_bytes(shard.read_bytes()[:-512])
    (finding,) = verify(out).findings
    assert finding.file == "shard-000000.tar"


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["relative", "dots", "file", "link", "files linked", "inside", "around"])
def test_a_source_under_another_name_is_not_deleted(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out, source = two[0], two[0]
    if name == "relative":
        source = Path("a/out")
    elif name == "dots":
        source = tmp_path / "b" / ".." / "a" / "out"
    elif name == "file":
        source = place(f"file://{tmp_path}/b/../a/out")
    elif name == "link":
        source = tmp_path / "link"
        source.symlink_to(two[0])
    elif name == "files linked":
        source = tmp_path / "links"
        source.mkdir()
        for path in two[0].iterdir():
            (source / path.name).symlink_to(path)
    elif name == "inside":
        source = out / "within"
        shutil.copytree(two[1], source)
    else:
        out = two[0] / "within"
    before = state(two[0])
    with pytest.raises(BadUsage, match="the same place, or one is within"):
        merge(out, [two[1], source], overwrite=True)
    assert state(two[0]) == before


def test_addresses_of_one_remote_place_are_the_same(tmp_path: Path, two: tuple[Path, Path]) -> None:
    for other in ("s3://bucket/a", "s3://bucket/a/", "s3://bucket/a/b", "s3://bucket", "s3://bucket/x/../a"):
        with pytest.raises(BadUsage, match="the same place, or one is within"):
            merge(place("s3://bucket/a"), [two[0], place(other)], overwrite=True)


def test_the_old_data_set_stays_until_the_sources_are_checked(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge(tmp_path / "out", two[:1])
    before = state(tmp_path / "out")
    path = two[1] / "rejected.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BadData, match=r"rejected\.parquet"):
        merge(tmp_path / "out", two, overwrite=True)
    assert state(tmp_path / "out") == before


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


@pytest.mark.parametrize("name", [*TABLES, ".built.json"])
def test_somebodys_table_is_not_taken_for_what_a_merge_left(two: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(BadUsage, match=f"other things: {re.escape(name)}"):
            merge(tmp_path / "out", two)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == "mine"


@pytest.mark.parametrize("sizes", [(1, 0.005), (0.005, 1)])
def test_of_two_sizes_of_shards_the_larger_is_noted(tmp_path: Path, sizes: tuple[float, float]) -> None:
    """No shard is larger than the data set says."""
    sources = [made(tmp_path / name, {name: 1}, shard_mib=size) for name, size in zip("ab", sizes, strict=True)]
    assert merge(tmp_path / "out", sources)["options"]["shard_mib"] == 1
