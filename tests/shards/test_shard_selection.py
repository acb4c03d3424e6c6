"""Which products are taken: types, caps, and splits that hang on nothing but the product or its variant group."""

import hashlib
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.build import Progress, build
from shards.errors import BadData, BadUsage
from shards.rejects import Reject
from shards.selection import Selection, parse_split, parse_words, select, split_of
from shards.sources.product import Catalogue, Product
from tests.shards.conftest import photograph

SPLIT = (("train", 0.8), ("val", 0.1), ("test", 0.1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)


def product(
    number: int, product_type: str = "", photographs: int = 1, group: str = "", split: str = "train"
) -> Product:
    names = tuple(Path(f"{number}-{view}.jpg") for view in range(photographs))
    return Product(f"p{number}", names, product_type=product_type, variant_group=group)


TYPED = [product(number, "dress" if number % 3 else "shirt", 1 + number % 4) for number in range(12)]
BAD_ROW = Reject("", "x.jpg", "bad_row", "row 1")


def test_without_a_choice_the_catalogue_is_the_same() -> None:
    catalogue = Catalogue(TYPED, 30)
    assert select(catalogue, Selection()) is catalogue and Selection().options() == {}


def test_other_types_become_rejects_and_the_cap_counts_what_is_to_do() -> None:
    catalogue = Catalogue([BAD_ROW, *TYPED, Reject("p0", "", "duplicate_product", "")], 31, {"seed": 1}, {"note": 1})
    found = select(catalogue, Selection(types=("dress",), cap_per_type=3))
    entries = list(found.entries)
    assert entries == list(found.entries), "can be gone through again"
    kept = [entry for entry in entries if isinstance(entry, Product)]
    assert kept == [entry for entry in TYPED if entry.product_type == "dress"], "what is full the packing knows"
    reasons = Counter(entry.reason for entry in entries if isinstance(entry, Reject))
    assert reasons == {"other_type": 4, "bad_row": 1, "duplicate_product": 1}
    assert [entry.product_id for entry in entries[1:-1]] == [entry.product_id for entry in TYPED], (
        "nobody changed places"
    )
    # What will be seen where all are good: the photographs of the first three, and the row that named none.
    assert found.images == 1 + sum(len(TYPED[number].photographs) for number in (1, 2, 4))
    assert (found.options, found.notes) == ({"seed": 1}, {"note": 1})


@pytest.fixture
def half_good(tmp_path: Path) -> Path:
    """Twelve products of one photograph in two types; of shirts the first and third, of dresses the last are bad."""
    for number in range(12):
        kind = "dress" if number % 2 else "shirt"
        path = photograph(tmp_path / "c" / kind / f"p{number:02d}" / "0.png", 40, 40, seed=number)
        if number in (0, 4, 11):
            path.write_bytes(b"no image")
    return tmp_path / "c"


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_cap_counts_what_is_written(half_good: Path, tmp_path: Path, workers: int) -> None:
    """For each type, whatever the workers had decoded by then; what was left out counts as not seen."""
    out = tmp_path / "out"
    dataset = build(half_good, out, selection=Selection(cap_per_type=3), shard_mib=0.001, workers=workers)
    products = pq.read_table(out / "products.parquet", columns=["product_id"])["product_id"].to_pylist()
    assert products == ["p01", "p03", "p05", "p02", "p06", "p08"], "dresses, then shirts: the first three good ones"
    counts = dataset["counts"]
    assert counts["products_rejected"] == {"no_good_photographs": 2, "over_cap": 4}
    assert (counts["images_seen"], counts["images_rejected"]) == (8, {"not_an_image": 2})
    build(half_good, tmp_path / "alone", selection=Selection(cap_per_type=3), shard_mib=0.001, workers=0)
    for path in (tmp_path / "alone").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


@pytest.mark.parametrize("after", range(1, 7))
def test_a_cap_holds_over_an_interruption(half_good: Path, tmp_path: Path, after: int) -> None:
    class Stop(Exception):
        pass

    def stop(done: Progress) -> None:
        if done.products == after:
            raise Stop

    how = {"selection": Selection(cap_per_type=3), "shard_mib": 0.001, "workers": 0}
    with pytest.raises(Stop):
        build(half_good, tmp_path / "out", progress=stop, **how)
    assert build(half_good, tmp_path / "out", **how) == build(half_good, tmp_path / "whole", **how)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_type_that_no_product_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadData) as caught:
        select(Catalogue([*TYPED, product(99)], 31), Selection(types=("shirt", "drees")))
    text = str(caught.value)
    assert "no product has the type 'drees'" in text and "dress (8), shirt (4); 1 with no type" in text
    assert "did you mean dress?" in text


@given(TEXTS)
def test_a_type_that_is_offered_can_be_named_as_it_is_written(name: str) -> None:
    """As the command line takes it; the products of any other type are counted."""
    with pytest.raises(BadData) as caught:
        select(Catalogue([product(0, name)], 1), Selection(types=("no such type",)))
    listed, _, unnamed = caught.value.allowed.removeprefix("the types there are, with their products: ").rpartition(
        "; "
    )
    if unnamed.startswith("1 with no type"):
        assert listed == "none" and (name != name.strip() or set(name) & set("\r\n\0"))
    else:
        offered = f"{listed}; {unnamed}" if listed else unnamed
        assert parse_words(offered.removesuffix(" (1)")) == (name,)


def test_names_as_the_command_line_writes_them() -> None:
    assert parse_words("CHAIR, SOFA,") == ("CHAIR", "SOFA")
    assert parse_words('"Tops, long",Skirts,"5"" heels"') == ("Tops, long", "Skirts", '5" heels')
    for text in ("", " , ", '""'):
        with pytest.raises(BadUsage, match="names nothing"):
            parse_words(text)
    with pytest.raises(BadUsage, match="can not be read"):
        parse_words('"Tops, long')


def test_a_type_with_a_comma_is_offered_in_quotes(tmp_path: Path) -> None:
    products = [product(0, "Tops, long"), product(1, "")]
    with pytest.raises(BadData) as caught:
        select(Catalogue(products, 2), Selection(types=("Tops",)))
    assert '"Tops, long" (1); 1 with no type' in str(caught.value) and "(none)" not in str(caught.value)
    found = select(Catalogue(products, 2), Selection(types=parse_words('"Tops, long"')))
    assert [entry for entry in found.entries if isinstance(entry, Product)] == products[:1]


def grouped(*splits: tuple[str, str], given: bool = True) -> Catalogue:
    """A product each, of a group and in a split."""
    products = [
        Product(f"p{number}", (Path("x.jpg"),), "dress" if number < 4 else "shirt", variant_group=group, split=split)
        for number, (group, split) in enumerate(splits)
    ]
    return Catalogue(products, len(products), gives_splits=given)


WHOLE = [("g0", "train"), ("g1", "test"), ("", "train"), ("", "test")]


def test_a_group_in_several_splits_of_the_source_is_refused_by_name() -> None:
    torn = [("g0", "test"), ("g1", "test"), ("g2", "test"), ("g2", "val"), ("g2", "train")]
    with pytest.raises(BadData) as caught:
        select(grouped(*WHOLE, *torn), Selection())
    text = str(caught.value)
    assert "2 variant groups in more than one split of the source: 'g0': 'p0' in train, 'p4' in test; 'g2': " in text
    assert "'p6' in test, 'p7' in val" in text and "'g1'" not in text and "--split train=0.9,test=0.1" in text


def test_splits_that_are_made_anew_or_products_that_are_left_out_tear_nothing() -> None:
    for selection in (Selection(split=SPLIT), Selection(types=("dress",))):
        select(grouped(*WHOLE, ("g0", "test")), selection)
    select(grouped(*WHOLE, *WHOLE), Selection())


def test_of_many_torn_groups_three_are_named() -> None:
    with pytest.raises(BadData, match=r"50 variant groups in") as caught:
        select(
            grouped(*((f"g{number % 50}", "train" if number < 50 else "test") for number in range(100))), Selection()
        )
    assert str(caught.value).count(" in train") == 3


def test_a_manifest_with_torn_groups_is_built_with_other_splits_only(tmp_path: Path) -> None:
    rows = ["product_id,image_path,variant_group,split", "a,0.png,g,train", "b,1.png,g,test"]
    for number in range(2):
        photograph(tmp_path / f"{number}.png", 20, 20, seed=number)
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(BadData, match="'g': 'a' in train, 'b' in test"):
        build(tmp_path / "m.csv", tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / "dataset.json").exists()
    dataset = build(tmp_path / "m.csv", tmp_path / "out", workers=0, selection=Selection(split=(("train", 1.0),)))
    assert dataset["counts"]["products"] == 2


def test_crop_to_item_names_types_or_all() -> None:
    assert [Selection(crop_to_item=("dress",)).crops(name) for name in ("dress", "shirt")] == [True, False]
    assert Selection(crop_to_item=("all",)).crops("")


def test_types_to_be_cropped_must_be_there() -> None:
    with pytest.raises(BadData, match="no product has the type 'drees'"):
        select(Catalogue(TYPED, 30), Selection(crop_to_item=("shirt", "drees")))
    with pytest.raises(BadData, match="no product has the type 'drees'"):
        select(Catalogue(TYPED, 30), Selection(types=("dress",), crop_to_item=("drees",)))
    for found in (("shirt", "dress"), ("all",)):
        select(Catalogue(TYPED, 30), Selection(crop_to_item=found))


def test_options_say_what_was_chosen() -> None:
    chosen = Selection(("dress",), 5, SPLIT, ("all",))
    assert chosen.options() == {
        "types": ["dress"],
        "cap_per_type": 5,
        "split": {"train": 0.8, "val": 0.1, "test": 0.1},
        "crop_to_item": ["all"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train", "no NAME=SHARE"),
        ("train=x", "no NAME=SHARE"),
        ("", "no NAME=SHARE"),
        ("train=0.8,test=0.1", "add up to 0.9"),
        ("train=0.8,train=0.2", "no name twice"),
        ("train=1.2,test=-0.2", "share of split 'train' is 1.2"),
        ("train=nan", "share of split 'train' is nan"),
        ("=1", "letters, digits"),
    ],
)
def test_a_split_that_is_none_is_bad_usage(text: str, said: str) -> None:
    with pytest.raises(BadUsage) as caught:
        parse_split(text)
    assert said in str(caught.value)


def test_a_split_as_the_command_line_writes_it() -> None:
    assert parse_split("train=0.8, val=0.1,test=.1") == SPLIT
    with pytest.raises(BadUsage, match="cap_per_type is 0"):
        Selection(cap_per_type=0)


@given(
    st.lists(st.tuples(TEXTS, st.sampled_from(["", "", "g1", "g2"]) | TEXTS), unique_by=lambda row: row[0]),
    st.randoms(),
)
def test_splits_hang_on_the_group_alone(rows: list[tuple[str, str]], random) -> None:
    """Disjoint, the same in any order and any company, and no variant group in two of them."""
    products = [Product(product_id, (), variant_group=group, split="old") for product_id, group in rows]

    def assigned(some: list[Product]) -> dict[str, str]:
        entries = select(Catalogue(some, 0), Selection(split=SPLIT)).entries
        return {entry.product_id: entry.split for entry in entries}

    found = assigned(products)
    assert set(found) == {row[0] for row in rows} and set(found.values()) <= {"train", "val", "test"}
    shuffled = random.sample(products, len(products))
    assert assigned(shuffled) == found
    assert assigned(shuffled[: len(shuffled) // 2]).items() <= found.items()
    groups: dict[str, set[str]] = {}
    for product_id, group in rows:
        if group:
            groups.setdefault(group, set()).add(found[product_id])
    assert all(len(splits) == 1 for splits in groups.values())


def test_the_definition_of_a_split() -> None:
    """u = first 8 bytes of sha256 / 2^64 against 0.8 and 0.9, with integers in place of floats."""
    for number in range(2_000):
        text = f"p{number}"
        tenths = 10 * int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") // 2**64
        expected = "train" if tenths < 8 else "val" if tenths < 9 else "test"
        assert split_of(product(number), SPLIT) == split_of(product(-1, group=text), SPLIT) == expected


@pytest.mark.parametrize("count", [2_000, 20_000])
def test_shares_are_met_within_four_sigma(count: int) -> None:
    found = Counter(split_of(product(number), SPLIT) for number in range(count))
    for name, share in SPLIT:
        sigma = (count * share * (1 - share)) ** 0.5
        assert abs(found[name] - count * share) < 4 * sigma, (name, found)
