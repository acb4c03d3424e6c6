import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.build import build
from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.catalogue import choose_format, open_catalogue
from shards.sources.manifest import catalogue
from tests.shards.conftest import photograph

ROWS = [
    {"product_id": "a", "image_path": "1.jpg", "color": "red", "fit": "slim", "other_attrs": '{"season": 3}'},
    {"product_id": "b", "image_path": "2.jpg", "color": "", "fit": "", "other_attrs": ""},
    {"product_id": "a", "image_path": "3.jpg", "color": "blue", "fit": "wide", "other_attrs": '{"x": [1]}'},
]


def write(folder: Path, suffix: str, rows: list[dict]) -> Path:
    path = folder / f"list{suffix}"
    if suffix == ".csv":
        quoted = [['"' + str(value).replace('"', '""') + '"' for value in row.values()] for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *map(",".join, quoted)]) + "\n", encoding="utf-8")
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def split(path: Path) -> tuple[list, list[Reject]]:
    entries = list(catalogue(path).entries)
    rejects = [entry for entry in entries if isinstance(entry, Reject)]
    return [entry for entry in entries if not isinstance(entry, Reject)], rejects


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_gathered_by_product_and_the_first_label_wins(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, ROWS)
    (a, b), rejects = split(path)
    assert not rejects and catalogue(path).images == 3
    assert (a.product_id, a.photographs) == ("a", (tmp_path / "1.jpg", tmp_path / "3.jpg"))
    assert a.color == "red" and a.attributes == {"fit": "slim", "season": 3, "x": [1]} and a.split == "train"
    assert (b.color, b.attributes) == ("", {})


def test_byte_order_mark_semicolons_and_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("\ufeffproduct_id;image_path;split\n12;ä.jpg;test\n\n".encode())
    (product,), rejects = split(path)
    assert (product.product_id, product.split, product.photographs[0].name, rejects) == ("12", "test", "ä.jpg", [])
    path = write(tmp_path, ".parquet", [{"product_id": 12, "image_path": "a.jpg", "color": None, "price": math.nan}])
    (product,), _ = split(path)
    assert (product.product_id, product.color, product.attributes) == ("12", "", {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"product_id": "p"}', "image_path is empty"),
        ('{"image_path": "p"}', "product_id is empty"),
        ('{"product_id": 1.5, "image_path": "p"}', "product_id is 1.5 of type float"),
        ('{"product_id": true, "image_path": "p"}', "of type bool"),
        ('{"product_id": "p", "image_path": ["x"]}', "of type list"),
        ('{"product_id": "p", "image_path": "a\\u0000b"}', "NUL"),
        ('{"product_id": "p", "image_path": "http://host/x.jpg"}', "scheme of 'http://host/x.jpg' is not known"),
        ('{"product_id": "p", "image_path": "pipe:cat x"}', "scheme of 'pipe:cat x' is not known"),
        ('{"product_id": "p", "image_path": "s3://me:word@bucket/x.jpg"}', "user, password"),
        ('{"product_id": "p", "image_path": "simplecache::s3://bucket/x.jpg"}', "chain of addresses"),
        ('{"product_id": "\\ud800", "image_path": "x"}', "no Unicode text"),
        ('{"product_id": "p", "image_path": "x", "size": Infinity}', "can not be written as JSON"),
        ('{"product_id": "p", "image_path": "x", "attributes": "[1]"}', "allowed: an object"),
        ('{"product_id": "p", "image_path": "x", "attributes": "{"}', "is not JSON"),
        ('{"product_id": "good", "image_path": "1.jpg"}', "same photograph of the same product as in row 1"),
        ("[1, 2]", "a JSON list"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_row_is_a_reject_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"product_id": "good", "image_path": "1.jpg"}\n\n' + line + "\n")
    (product,), (reject,) = split(path)
    assert product.product_id == "good" and catalogue(path).images == 2
    assert reject.reason == "bad_row" and reject.detail.startswith("row 3: ") and said in reject.detail


def test_bad_rows_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("product_id,image_path\na,1.jpg\nb\nc,2.jpg,extra\n" + "d," + "x" * (1 << 21) + "\ne,3.jpg\n")
    products, rejects = split(path)
    assert [product.product_id for product in products] == ["a", "e"]
    assert [reject.detail.split(":")[0] for reject in rejects] == ["row 3", "row 4", "row 5"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_names_those_found_and_allowed(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, [{"product": "a", "image_path": "x", "colour": "red"}])
    with pytest.raises(BadData) as caught:
        catalogue(path)
    text = str(caught.value)
    assert "no column product_id" in text and "'product', 'image_path', 'colour'" in text
    assert "variant_group" in text and "rename 'product' to 'product_id'" in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", b"", "no column"),
        ("m.csv", b"product_id,image_path\n", "no rows"),
        ("m.csv", "product_id,image_path\nä,1.jpg\n".encode("latin1"), "not UTF-8"),
        ("m.jsonl", b"", "no rows"),
        ("m.parquet", b"PAR1", "can not be read as Parquet"),
        ("m.xlsx", b"", "unknown kind"),
    ],
)
def test_a_file_that_can_not_be_read_as_a_whole(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=said):
        catalogue(tmp_path / name)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("m")
    for suffix in (".csv", ".jsonl"):
        (folder / f"m{suffix}").write_bytes(b"product_id,image_path\n" * (suffix == ".csv") + content)
        try:
            list(catalogue(folder / f"m{suffix}").entries)
        except BadData as error:
            assert str(folder) in str(error)


def test_a_manifest_in_a_bucket(tmp_path: Path, s3) -> None:
    """Relative paths lie beside it, also by way of ".."; others may be absolute, here or in storage."""
    s3.local(s3.url).mkdir(parents=True)
    rows = [
        "i/1 ä.jpg",
        "../up/2.jpg",
        "s3://bucket/else/3.jpg",
        "gs://other/4.jpg",
        "/data/5.jpg",
        "file:///data/6.jpg",
    ]
    listed = "".join(f"p{number % 2},{row}\n" for number, row in enumerate([*rows, "pipe:cat", "http://host/7.jpg"]))
    s3.local(f"{s3.url}/list.csv").write_text("product_id,image_path\n" + listed, encoding="utf-8")
    source = f"{s3.url}/list.csv"
    assert choose_format(source) == "manifest"
    found = open_catalogue(source, "manifest")
    products = [entry for entry in found.entries if not isinstance(entry, Reject)]
    rejects = [entry for entry in found.entries if isinstance(entry, Reject)]
    assert [[str(path) for path in product.photographs] for product in products] == [
        [f"{s3.url}/i/1 ä.jpg", "s3://bucket/else/3.jpg", "/data/5.jpg"],
        ["s3://bucket/up/2.jpg", "gs://other/4.jpg", "/data/6.jpg"],
    ]
    assert [reject.detail.split(":")[0] for reject in rejects] == ["row 8", "row 9"] and found.images == 8
    local = tmp_path / "list.csv"
    local.write_text("product_id,image_path\np,s3://bucket/else/3.jpg\np,../4.jpg\n")
    (product,) = catalogue(local).entries
    assert [str(path) for path in product.photographs] == ["s3://bucket/else/3.jpg", str(tmp_path / "../4.jpg")]
    with pytest.raises(BadData, match="does not exist"):
        open_catalogue(f"{s3.url}/none.csv", "manifest")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_kinds_of_manifest_in_a_bucket(tmp_path: Path, s3, suffix: str) -> None:
    s3.local(s3.url).mkdir(parents=True)
    write(s3.local(s3.url), suffix, ROWS)
    a, b = open_catalogue(f"{s3.url}/list{suffix}", "manifest").entries
    assert [str(path) for path in a.photographs] == [f"{s3.url}/1.jpg", f"{s3.url}/3.jpg"] and b.product_id == "b"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_any_text_is_an_id(tmp_path: Path, suffix: str) -> None:
    """A5: what is not empty once blanks around it are gone is kept as it is."""
    ids = [
        "../x",
        "/abs",
        "a\0b",
        "a\nb",
        ".",
        "..",
        "é",
        "e\u0301",
        "A",
        "a",
        "x" * 10_000,
        "a b",
        "%41",
        "\U0001f600",
    ]
    rows = [
        {"product_id": text, "image_path": f"{number}.jpg"} for number, text in enumerate([*ids, "", " ", "\u3000"])
    ]
    broken = suffix == ".csv"
    products, rejects = split(write(tmp_path, suffix, rows))
    assert [product.product_id for product in products] == [text for text in ids if not (broken and text == "a\nb")]
    said = [reject.detail.split(": ")[1] for reject in rejects]
    assert said[-3:] == ["product_id is empty"] * 3 and len(said) == (5 if broken else 3), "a line of a CSV is a row"


@pytest.mark.parametrize("count", [1, 2, 100])
def test_all_photographs_of_a_product_are_there(tmp_path: Path, count: int) -> None:
    rows = [{"product_id": "p", "image_path": f"{number}.jpg"} for number in range(count)]
    (product,), _ = split(write(tmp_path, ".csv", rows))
    assert product.photographs == tuple(tmp_path / f"{number}.jpg" for number in range(count))


@pytest.mark.parametrize("depth", [63, 64, 900, 1_000, 100_000])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a": ', "}")])
def test_json_nested_deeply_costs_its_row_alone(
    tmp_path: Path, suffix: str, depth: int, opens: str, closes: str
) -> None:
    """Up to 64 levels, the object of attributes itself included; beyond Python's own limit, too, it is a bad row."""
    inner = depth - 1
    nested = '{"x": ' + opens * inner + '"y"' + closes * inner + "}"
    rows = [ROWS[0] | {"other_attrs": nested}, ROWS[1]]
    (*good, last), rejects = split(write(tmp_path, suffix, rows))
    assert last.product_id == "b"
    if depth <= 64:
        assert not rejects and json.dumps(good[0].attributes["x"]).count(opens[0]) == inner
    else:
        assert not good and [reject.reason for reject in rejects] == ["bad_row"]
        assert rejects[0].detail.startswith("row ") and "other_attrs is " in rejects[0].detail


@pytest.mark.parametrize("depth", [200, 100_000])
def test_a_line_of_json_nested_deeply_costs_itself_alone(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "m.jsonl"
    deep = '{"product_id": "a", "image_path": "1.jpg", "attributes": ' + '{"x": ' * depth + "1" + "}" * depth + "}"
    path.write_text(deep + '\n{"product_id": "b", "image_path": "2.jpg"}\n')
    (product,), (reject,) = split(path)
    assert product.product_id == "b" and reject.reason == "bad_row" and "row 1: " in reject.detail


@pytest.mark.parametrize("kind", ["list", "struct"])
def test_a_column_of_parquet_nested_deeply_is_refused_as_a_file(tmp_path: Path, kind: str) -> None:
    column, value = pa.string(), "y"
    for _ in range(200):
        column = pa.list_(column) if kind == "list" else pa.struct([("a", column)])
        value = [value] if kind == "list" else {"a": value}
    table = pa.table({"product_id": ["a"], "image_path": ["1.jpg"], "x": pa.array([value], column)})
    pq.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(BadData, match=r"can not be read as Parquet: .*nested"):
        list(catalogue(tmp_path / "m.parquet").entries)


@pytest.mark.parametrize("path", ["s3://bucket/\\ud83d.jpg", "images/\\ud83d.jpg"])
def test_a_photographs_name_that_no_file_can_have_is_one_bad_row(tmp_path: Path, path: str) -> None:
    """Half of a surrogate pair, as JSON may hold it; the rows around it are built."""
    photograph(tmp_path / "good.png")
    rows = [f'{{"product_id": "{name}", "image_path": "{file}"}}' for name, file in (("p", "good.png"), ("r", path))]
    (tmp_path / "catalogue.jsonl").write_text("\n".join([*rows, rows[0].replace('"p"', '"q"')]))
    counts = build(tmp_path / "catalogue.jsonl", tmp_path / "out", workers=0)["counts"]
    assert counts["images_rejected"] == {"bad_row": 1} and counts["images_written"] == 2
    [line] = [row for row in pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()]
    assert "photograph's name is no Unicode text" in line["detail"]


@pytest.mark.parametrize(
    "order", [("train", "test"), ("test", "train"), ("test", ""), ("val", "test"), ("train", "val")]
)
def test_a_product_that_a_row_says_is_held_back_is_not_trained_on(tmp_path: Path, order: tuple[str, str]) -> None:
    rows = ["product_id,image_path,split"]
    for place, split in enumerate(order):
        photograph(tmp_path / f"{place}.png", seed=place)
        rows.append(f"p,{place}.png,{split}")
    (tmp_path / "catalogue.csv").write_text("\n".join(rows))
    build(tmp_path / "catalogue.csv", tmp_path / "out", workers=0)
    [product] = pq.read_table(tmp_path / "out" / "products.parquet").to_pylist()
    assert (product["split"], product["images"]) == ("test" if "test" in order else "val", 2)
