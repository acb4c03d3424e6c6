"""ABO: its languages, colours and damage, on a small tree."""

import gzip
import json
from pathlib import Path

import pytest

from shards.build import build
from shards.errors import BadData
from shards.sources.catalogue import open_catalogue
from shards.sources.product import Product
from tests.shards.sources.trees import ABO_IMAGES, ABO_LISTINGS, TREES, names, put, read, text


def test_abo(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path)
    products, rejects = read(root, "abo")
    assert list(products) == ["B01", "B02", "B03"]
    chair = products["B01"]
    # Two marketplaces, one product: its photographs are united in order, an image that both name is there once.
    assert names(chair, root) == [f"images/small/{name}" for name in ("81/81e2.jpg", "01/0101.jpg", "01/0104.jpg")]
    # en_US, else en_*, else the first: each field by itself, over both listings.
    assert (chair.product_type, chair.color, chair.pattern) == ("CHAIR", "Blue", "Solid")
    assert chair.attributes == {
        "brand": "Rivet",
        "color_standardized": ["Blue", "Teal"],
        "color_text": "Azure",
        "domain_names": ["amazon.de", "amazon.com"],
        "item_name": "Chair, Azure",
        "model_year": 2019,
        "node": "/Möbel/Stühle",
    }
    assert (chair.variant_group, chair.split) == ("", "train")
    assert products["B02"].product_type == "CELLULAR_PHONE_CASE", "a plain string, as the README has it"
    assert products["B03"] == Product("B03", ()), "any key may be missing"
    found = [(reject.reason, reject.product_id, reject.image_path, reject.detail) for reject in rejects]
    assert found[0][:3] == ("unknown_image", "B01", "gone") and "listings_0.json.gz line 1" in found[0][3]
    assert found[1][0] == "bad_row" and "listings_0.json.gz line 4: no JSON object with an item_id" in found[1][3]
    assert found[2][0] == "bad_row" and "listings_0.json.gz line 5: not JSON" in found[2][3]
    assert len(found) == 3


def test_abo_colours_may_be_standardized_without_a_text(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path)
    colors = [{"language_tag": "en_US", "standardized_values": ["Black", "Grey"]}, text("Noir", "fr_FR")]
    listing = {"item_id": "B09", "color": colors, "brand": [{"standardized_values": ["X"]}, text("Y", "fr_FR")]}
    put(root, "listings/metadata/listings_f.json.gz", gzip.compress(json.dumps(listing).encode()))
    product = read(root, "abo")[0]["B09"]
    assert product.color == "Black"
    assert product.attributes == {"brand": "Y", "color_standardized": ["Black", "Grey"]}, "and no colour's text"


def abo_product(root: Path, *listings: dict[str, object]) -> tuple[Product, dict[str, int]]:
    """The one product of these listings, and what was noted."""
    lines = "\n".join(json.dumps({"item_id": "B09", **listing}) for listing in listings)
    for name in ABO_LISTINGS:
        put(root, f"listings/metadata/{name}", gzip.compress(lines.encode() if name.endswith("f.json.gz") else b""))
    found = open_catalogue(root, "abo")
    (product,) = [entry for entry in found.entries if isinstance(entry, Product)]
    return product, {name: count for name, count in found.notes.items() if count}


@pytest.mark.parametrize(
    ("entries", "taken"),
    [
        ([{"value": "none"}, text("gb", "en_GB")], "gb"),
        ([{"value": "none"}, text("us", "en_US")], "us"),
        ([text("de", "de_DE"), {"value": "none"}], "de"),
        ([{"value": "none"}, text("de", "de_DE")], "none"),
        ([text("gb", "en_GB"), text("us")], "us"),
    ],
)
@pytest.mark.parametrize("over_listings", [False, True])
def test_abo_takes_a_text_without_a_language_for_none_of_english(
    tmp_path: Path, entries: list[object], taken: str, over_listings: bool
) -> None:
    """en_US, else en_*, else the first, within a listing and over several."""
    root = TREES["abo"](tmp_path)
    listings = [[entry] for entry in entries] if over_listings else [entries]
    product, _ = abo_product(root, *({"pattern": found, "style": found} for found in listings))
    assert (product.pattern, product.attributes["style"]) == (taken, taken)


@pytest.mark.parametrize(
    ("listings", "labels", "contradicting"),
    [
        ([{"product_type": "CHAIR"}, {"product_type": [{"value": "SOFA"}]}], ("CHAIR", ""), 1),
        ([{"product_type": "CHAIR"}, {}, {"product_type": "CHAIR"}], ("CHAIR", ""), 0),
        ([{"color": [text("Red")]}, {"color": [text("Blue")]}, {"color": [text("Grey")]}], ("", "Red"), 2),
        ([{"color": [text("Rot", "de_DE")]}, {"color": [text("Blue")]}], ("", "Blue"), 0),
        ([{"color": [text("Rot", "de_DE")]}, {"color": [text("Rouge", "fr_FR")]}], ("", "Rot"), 0),
        (
            [
                {"color": [text("Azure", standardized_values=["Blue"])]},
                {"color": [text("Sky", standardized_values=["Blue", "White"])]},
                {"color": [text("Sky", standardized_values=["White"])]},
            ],
            ("", "Blue"),
            1,
        ),
    ],
)
def test_abo_counts_labels_that_listings_give_otherwise(
    tmp_path: Path, listings: list[dict[str, object]], labels: tuple[str, str], contradicting: int
) -> None:
    """In one language; what another language calls it contradicts nothing."""
    product, notes = abo_product(TREES["abo"](tmp_path), *listings)
    assert (product.product_type, product.color) == labels
    assert notes.get("contradicting_labels", 0) == contradicting


def test_an_abo_image_that_has_two_ids_leaves_a_line_for_the_second(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path / "abo")
    put(root, "images/metadata/images.csv.gz", gzip.compress(f"{ABO_IMAGES}again,48,40,01/0101.jpg\n".encode()))
    listing = json.dumps({"item_id": "B09", "main_image_id": "0101", "other_image_id": ["again", "0104", "0101"]})
    put(root, "listings/metadata/listings_f.json.gz", gzip.compress(listing.encode()))
    products, rejects = read(root, "abo")
    assert names(products["B09"], root) == ["images/small/01/0101.jpg", "images/small/01/0104.jpg"]
    (reject,) = [reject for reject in rejects if reject.product_id == "B09"]
    assert (reject.reason, reject.image_path) == ("bad_row", "again")
    assert "listings_f.json.gz line 1: the same photograph" in reject.detail
    counts = build(root, tmp_path / "out", format="abo", workers=0)["counts"]
    assert counts["images_seen"] == counts["images_written"] + sum(counts["images_rejected"].values())


def test_abo_takes_the_originals_where_they_are(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path)
    (root / "images" / "original").mkdir()
    products, _ = read(root, "abo")
    assert names(products["B02"], root) == ["images/original/02/0202.jpg"]


def test_abo_with_damaged_files(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path)
    listing = root / "listings" / "metadata" / "listings_f.json.gz"
    lines = b'{"item_id": "B04", "main_image_id": "0202"}\n' * 4_000
    listing.write_bytes(gzip.compress(lines)[:-40])
    products, rejects = read(root, "abo")
    assert list(products) == ["B01", "B02", "B03", "B04"]
    assert "listings_f.json.gz line" in rejects[-1].detail and "damaged" in rejects[-1].detail
    listing.write_bytes(b"no gzip at all")
    _, rejects = read(root, "abo")
    assert rejects[-1].detail.startswith("listings_f.json.gz line 1: the gzip file is damaged")
    images = root / "images" / "metadata" / "images.csv.gz"
    images.write_bytes(images.read_bytes()[:-9])
    with pytest.raises(BadData, match=r"images\.csv\.gz' is a damaged gzip file"):
        open_catalogue(root, "abo")
    images.write_bytes(gzip.compress(ABO_IMAGES.replace("path", "file").encode()))
    with pytest.raises(BadData, match="no column path"):
        open_catalogue(root, "abo")


def test_abo_never_leaves_its_tree(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path)
    wild = ABO_IMAGES.replace("81/81e2.jpg", "../../../etc/passwd").replace("02/0202.jpg", "/etc/passwd")
    put(root, "images/metadata/images.csv.gz", gzip.compress(wild.encode()))
    products, rejects = read(root, "abo")
    assert not products["B02"].photographs and names(products["B01"], root)[0] == "images/small/01/0101.jpg"
    assert {r.image_path for r in rejects if r.reason == "unknown_image"} == {"81e2", "0202", "gone"}
