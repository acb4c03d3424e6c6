import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.folder import catalogue, natural_key
from shards.sources.product import Product


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_layouts_may_be_mixed_and_order_is_natural(tmp_path: Path) -> None:
    root = touch(tmp_path, "p10/1.jpg", "p9/b10.JPG", "p9/b9.png", "p9/notes.txt", "p9/.hidden.jpg", "shirt/s1/a.webp")
    found = catalogue(root)
    assert found.images == 4
    assert [(p.product_id, p.product_type, [x.name for x in p.photographs]) for p in found.entries] == [
        ("p9", "", ["b9.png", "b10.JPG"]),
        ("p10", "", ["1.jpg"]),
        ("s1", "shirt", ["a.webp"]),
    ]


def test_what_lies_elsewhere_is_a_reject_each(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.jpg", "p/1.jpg", "p/deep/2.jpg", "t/q/1.jpg", "t/q/deep/er/2.jpg", "t/loose.txt")
    found = catalogue(root)
    rejects = [entry for entry in found.entries if isinstance(entry, Reject)]
    assert sorted(Path(reject.image_path).relative_to(root).as_posix() for reject in rejects) == [
        "a.jpg",
        "p/deep/2.jpg",
        "t/q/deep/er/2.jpg",
    ]
    assert {reject.reason for reject in rejects} == {"outside_product"} and found.images == 5


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


@given(st.lists(st.text("ab019²٣ .", max_size=6)))
def test_natural_order_is_an_order(names: list[str]) -> None:
    once = sorted(names, key=natural_key)
    assert sorted(reversed(names), key=natural_key) == once
    assert sorted(["a10", "a2", "a"], key=natural_key) == ["a", "a2", "a10"]
