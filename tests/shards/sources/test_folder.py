import inspect
import os
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from upath import UPath

from shards.build import build
from shards.errors import BadData
from shards.places import place
from shards.rejects import Reject
from shards.sources.folder import catalogue, in_natural_order
from shards.sources.product import Product
from tests.shards.sources.trees import jpeg, put


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_layouts_may_be_mixed_and_order_is_natural(tmp_path: Path) -> None:
    root = touch(tmp_path, "p10/1.jpg", "p9/b10.JPG", "p9/b9.png", "p9/notes.txt", "p9/.hidden.jpg", "shirt/s1/a.webp")
    found = catalogue(root)
    assert found.images == 5, "the text is seen, and left out"
    products = [entry for entry in found.entries if isinstance(entry, Product)]
    assert [(p.product_id, p.product_type, [x.name for x in p.photographs]) for p in products] == [
        ("p9", "", ["b9.png", "b10.JPG"]),
        ("p10", "", ["1.jpg"]),
        ("s1", "shirt", ["a.webp"]),
    ]


def test_what_lies_elsewhere_is_a_reject_each(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.jpg", "p/1.jpg", "p/deep/2.jpg", "t/q/1.jpg", "t/q/deep/er/2.jpg", "t/loose.txt")
    found = catalogue(root)
    rejects = [entry for entry in found.entries if isinstance(entry, Reject)]
    assert sorted((Path(reject.image_path).relative_to(root).as_posix(), reject.reason) for reject in rejects) == [
        ("a.jpg", "outside_product"),
        ("p/deep/2.jpg", "outside_product"),
        ("t/loose.txt", "not_a_photograph"),
        ("t/q/deep/er/2.jpg", "outside_product"),
    ]
    assert found.images == 6


def test_folders_lie_in_each_other_more_often_than_calls_may(tmp_path: Path) -> None:
    root = touch(tmp_path, "p/1.jpg", f"p/{'d/' * 3}2.jpg", f"p/{'d/' * 300}2.jpg")
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        found = catalogue(root)
    finally:
        sys.setrecursionlimit(usual)
    rejects = [entry for entry in found.entries if isinstance(entry, Reject)]
    assert [(Path(reject.image_path).parts.count("d"), reject.reason) for reject in rejects] == [
        (3, "outside_product"),
        (300, "outside_product"),
    ]


def test_every_file_leaves_a_line_or_counts_as_hidden(tmp_path: Path) -> None:
    """Nothing that lies in the tree is passed over in silence: at each depth, with a strange suffix or none."""
    strange = ["readme", "p/IMG_1", "p/raw.heic", "p/deep/x.psd", "t/list.csv", "t/q/notes.txt", "p/a.JPG.bak"]
    hidden = [".DS_Store", "p/Thumbs.db", "p/.DS_Store", "t/q/desktop.ini"]
    root = touch(tmp_path, "p/1.jpg", "t/q/1.jpg", *strange, *hidden, ".git/a", ".git/b/c.jpg")
    found = catalogue(root)
    for _ in range(2):
        entries = list(found.entries)
        rejects = [entry for entry in entries if isinstance(entry, Reject)]
        assert sorted(Path(reject.image_path).relative_to(root).as_posix() for reject in rejects) == sorted(strange)
        assert {reject.reason for reject in rejects} == {"not_a_photograph"}
        assert dict(found.notes) == {"hidden_names": len(hidden) + 1}, "a hidden folder counts once"
    why = {Path(reject.image_path).name: (reject.product_id, reject.detail) for reject in rejects}
    assert why["raw.heic"] == ("p", "the suffix '.heic' is none of a photograph")
    assert why["readme"] == ("", "a name without a suffix")
    assert found.images == 2 + len(strange)


def test_a_folder_of_other_files_alone_is_told_what_they_are(tmp_path: Path) -> None:
    root = touch(tmp_path, "p/1.heic", "p/2.heic")
    with pytest.raises(BadData, match=r"holds no photographs; its 2 files have other suffixes, as '.*p/1\.heic'"):
        catalogue(root)


def test_an_empty_product_is_one_without_photographs(tmp_path: Path) -> None:
    root = touch(tmp_path, "p/1.jpg", "t/q/1.jpg")
    (root / "none").mkdir()
    (root / "t" / "r").mkdir()
    entries = [entry for entry in catalogue(root).entries if isinstance(entry, Product)]
    assert [(e.product_id, len(e.photographs)) for e in entries] == [("none", 0), ("p", 1), ("q", 1), ("r", 0)]


def test_the_same_id_twice_names_both_places(tmp_path: Path) -> None:
    root = touch(tmp_path, "dress/x/1.jpg", "shirt/x/1.jpg")
    with pytest.raises(BadData) as caught:
        catalogue(root)
    assert str(root / "dress" / "x") in str(caught.value) and str(root / "shirt" / "x") in str(caught.value)


def test_a_name_that_is_no_text_is_written_out(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    open(folder + b"/1.jpg", "wb").close()
    assert [entry.product_id for entry in catalogue(tmp_path).entries] == ["caf\\xe9"]


def by_value(name: str) -> tuple:
    """The definition of natural order: texts and numbers in turn, numbers by value; ties by the name itself."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)], name


@given(st.lists(st.text("abAB019-²٣ .", max_size=8)))
def test_natural_order_is_by_value(names: list[str]) -> None:
    assert in_natural_order(list(reversed(names))) == sorted(names, key=by_value)
    assert in_natural_order(["a10", "a2", "a", "A2", "a02"]) == ["a", "A2", "a02", "a2", "a10"]
    assert in_natural_order(["1" * 5000, "2"]) == ["2", "1" * 5000], "longer than int() takes"


def test_links_that_go_round_end(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "p/1.jpg", "p/deep/2.jpg")
    (root / "p" / "deep" / "round").symlink_to(root / "p")
    (root / "q").symlink_to(root / "p")
    entries = list(catalogue(root).entries)
    products = [(e.product_id, len(e.photographs)) for e in entries if isinstance(e, Product)]
    assert products == [("p", 1), ("q", 1)], "a product's folder may be a link"
    rejects = [(Path(e.image_path).name, e.reason) for e in entries if isinstance(e, Reject)]
    assert rejects == [("2.jpg", "outside_product"), ("round", "not_a_photograph")] * 2, "nor is it passed over"


def test_what_is_no_photograph_is_called_what_it_is(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "p/1.jpg", "p/notes.txt", "p/README", "q/1.jpg")
    (root / "p" / "deep").mkdir()
    for name, goal in (("link.txt", "notes.txt"), ("link.jpg", "1.jpg"), ("deep/up", ".."), ("deep/q.jpg", "../../q")):
        (root / "p" / name).symlink_to(goal)
    entries = list(catalogue(root).entries)
    assert [len(entry.photographs) for entry in entries if isinstance(entry, Product)] == [2, 1], "link.jpg is one"
    told = {Path(entry.image_path).name: entry.detail for entry in entries if isinstance(entry, Reject)}
    assert told.pop("up") == told.pop("q.jpg") == "a link to a folder"
    assert told.pop("notes.txt") == told.pop("link.txt") == "the suffix '.txt' is none of a photograph"
    assert told.pop("README") == "a name without a suffix" and not told


NAMES = ("p10/1.jpg", "p9/b10.JPG", "p9/b9.png", "p9/notes.txt", "p9/.hidden.jpg", "shirt/s 1/ä.webp", ".git/x/1.jpg")
LOOSE = ("a.jpg", "p9/deep/2.jpg", "shirt/s 1/deep/er/3.jpg", "t/loose.txt", "t/q/1.jpg")


def test_a_bucket_is_read_like_a_folder_with_one_listing(tmp_path: Path, s3) -> None:
    local = touch(tmp_path, *NAMES, *LOOSE)
    touch(s3.local(s3.url), *NAMES, *LOOSE)
    here, there = catalogue(local), catalogue(place(s3.url))

    def told(found, root) -> list:
        return [
            (e.image_path.removeprefix(f"{root}/"), e.reason)
            if isinstance(e, Reject)
            else (e.product_id, e.product_type, [str(path).removeprefix(f"{root}/") for path in e.photographs])
            for e in found.entries
        ]

    assert told(there, s3.url) == told(here, local) and there.images == here.images == 10
    assert len(told(here, local)) == 9 and dict(there.notes) == dict(here.notes) == {"hidden_names": 2}
    with pytest.raises(BadData, match="does not exist"):
        catalogue(place(f"{s3.url}/nowhere"))


def test_a_listing_of_a_bucket_is_a_request_a_thousand_names(monkeypatch: pytest.MonkeyPatch) -> None:
    root = UPath("memory://listing")
    for number in range(30):
        (root / f"p{number}" / "1.jpg").write_bytes(b"x")
    asked = []
    for name in ("ls", "find", "info", "isdir", "isfile", "exists"):
        plain = getattr(type(root.fs), name)
        monkeypatch.setattr(type(root.fs), name, lambda *a, _n=name, _p=plain, **k: (asked.append(_n), _p(*a, **k))[1])
    products = list(catalogue(root).entries)
    assert len(products) == 30 and asked.count("find") == 1 and len(asked) < 20


def test_a_folder_without_a_name_is_no_product() -> None:
    root = UPath("memory://nameless")
    for name in ("/nameless//1.jpg", "/nameless/t//2.jpg", "/nameless/p/3.jpg"):
        root.fs.store[name] = type(root.fs).open(root.fs, "/nameless/p/3.jpg", "wb")
        root.fs.store[name].close()
    products = [entry for entry in catalogue(root).entries if isinstance(entry, Product)]
    rejects = [entry for entry in catalogue(root).entries if isinstance(entry, Reject)]
    assert [product.product_id for product in products] == ["p"]
    assert [(r.reason, r.detail) for r in rejects] == [
        ("outside_product", "lies in the root, beside the products"),
        ("outside_product", "lies in a folder without a name"),
    ]


def test_products_of_0_1_2_and_100_photographs(tmp_path: Path) -> None:
    """A6: none lost, none doubled, in order; without a photograph there is no product, and that is said."""
    for count in (0, 1, 2, 100):
        (tmp_path / "root" / f"p{count}").mkdir(parents=True)
        for number in range(count):
            put(tmp_path / "root", f"p{count}/{number}.jpg", jpeg(number))
    counts = build(tmp_path / "root", tmp_path / "out", workers=1)["counts"]
    assert counts["products_rejected"] == {"no_photographs": 1} and not counts["images_rejected"]
    assert (counts["products"], counts["images_seen"], counts["images_written"]) == (3, 103, 103)
    products = pq.read_table(tmp_path / "out" / "products.parquet").to_pylist()
    assert [(row["product_id"], row["images"]) for row in products] == [("p1", 1), ("p2", 2), ("p100", 100)]
    images = pq.read_table(tmp_path / "out" / "images.parquet", columns=["key", "view", "crc32"]).to_pylist()
    assert [row["view"] for row in images if row["key"] == "p100"] == list(range(100))
    assert len({row["crc32"] for row in images if row["key"] == "p100"}) == 100


def test_links_that_go_round_are_rejects_and_end_nothing(tmp_path):
    """A10 where folders are listed: beside the products, in the place of one, and among its photographs."""
    (tmp_path / "in" / "p1").mkdir(parents=True)
    Image.new("RGB", (20, 20), "red").save(tmp_path / "in" / "p1" / "a.jpg")
    for link in ("q", "p1/loop.jpg"):
        os.symlink(Path(link).name, tmp_path / "in" / link)
    build(tmp_path / "in", tmp_path / "out", workers=0)
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert sorted((row["image_path"].rpartition("/")[2], row["reason"]) for row in rejected) == [
        ("loop.jpg", "unreadable"),
        ("q", "outside_product"),
    ]
    assert any("ELOOP" in row["detail"] for row in rejected)
