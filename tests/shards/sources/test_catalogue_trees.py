"""The five public catalogues on small trees, locally and in a store.

Quirks of SOP and Myntra, and those that several share; ABO, In-shop and H&M have files of their own.
"""

import gzip
import json
from pathlib import Path

import pytest
from upath import UPath

from shards.build import build
from shards.errors import BadData
from shards.sources.catalogue import choose_format, open_catalogue
from tests.shards.sources.trees import MYNTRA_STYLES, TREES, names, put, read


@pytest.fixture(params=TREES)
def tree(request, tmp_path: Path) -> tuple[str, Path]:
    return request.param, TREES[request.param](tmp_path / "tree")


def test_a_tree_is_known_by_its_own_files(tree) -> None:
    format, root = tree
    assert choose_format(str(root)) == format
    put(root, "manifest.csv", "product_id,image_path\n")
    assert choose_format(str(root)) == "manifest", "what someone wrote for this purpose comes first"


def test_it_reads_the_same_from_a_store(tree) -> None:
    format, root = tree
    remote = TREES[format](UPath(f"memory://{root.parent.name}-{format}"))
    assert choose_format(remote) == format
    (here, rejects), (there, rejects_there) = read(root, format), read(remote, format)
    assert rejects == rejects_there and list(here) == list(there)
    for product_id, product in here.items():
        assert names(product, root) == [str(path).removeprefix(f"{remote}/") for path in there[product_id].photographs]
        assert there[product_id].attributes == product.attributes


def test_its_data_set_accounts_for_every_photograph(tree, tmp_path: Path) -> None:
    format, root = tree
    counts = build(root, tmp_path / "out", format=format, workers=1)["counts"]
    assert counts["images_seen"] == counts["images_written"] + sum(counts["images_rejected"].values())
    assert counts["images_seen"] == open_catalogue(root, format).images
    assert counts["images_rejected"]["bad_row"] >= 1 and counts["images_written"] >= 2


@pytest.mark.parametrize("format", TREES)
def test_what_is_missing_is_named(format: str, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    with pytest.raises(BadData) as caught:
        open_catalogue(tmp_path, format)
    needed = {
        "abo": ["images/metadata/images.csv.gz", "listings/metadata"],
        "sop": ["Ebay_train.txt", "Ebay_test.txt"],
        "inshop": ["list_eval_partition.txt", "list_color_cloth.txt", "list_bbox_inshop.txt"],
        "hm": ["articles.csv", "images"],
        "myntra": ["styles.csv", "images"],
    }[format]
    assert all(name in str(caught.value) for name in needed) and str(tmp_path) in str(caught.value)


def test_sop(tmp_path: Path) -> None:
    root = TREES["sop"](tmp_path)
    products, rejects = read(root, "sop")
    labels = {i: (p.product_type, p.split, len(p.photographs)) for i, p in products.items()}
    assert labels == {"1": ("bicycle", "train", 2), "2": ("coffee_maker", "train", 1), "11319": ("chair", "test", 1)}
    assert names(products["1"], root)[0] == "bicycle_final/111085122871_0.JPG"
    assert products["2"].attributes == {"super_class_id": 8}
    assert [r.detail.split(":")[0] for r in rejects] == ["Ebay_train.txt line 5", "Ebay_train.txt line 6"]
    assert "'../outside.JPG', allowed: a path within the catalogue" in rejects[1].detail
    put(root, "Ebay_test.txt", "59552 11319 3 chair_final/361402130128_0.JPG\n")
    with pytest.raises(BadData, match="image_id class_id super_class_id path"):
        open_catalogue(root, "sop")


def test_a_path_of_sop_may_hold_spaces(tmp_path: Path) -> None:
    root = TREES["sop"](tmp_path)
    line = "59553 11320 3 chair_final/old and new.JPG\n"
    put(root, "Ebay_test.txt", (root / "Ebay_test.txt").read_text() + line)
    assert names(read(root, "sop")[0]["11320"], root) == ["chair_final/old and new.JPG"]


def test_myntra(tmp_path: Path) -> None:
    root = TREES["myntra"](tmp_path)
    products, (reject,) = read(root, "myntra")
    shirt, ring, jeans = products.values()
    assert (shirt.product_id, shirt.product_type, shirt.color) == ("15970", "Shirts", "Navy Blue")
    assert ring.attributes["productDisplayName"] == "Lucera Women Ring, Silver, Size 8", "its commas are not quoted"
    assert ring.attributes["usage"] == "NA", "a text, not a missing value"
    assert "season" not in jeans.attributes and jeans.attributes["year"] == "2012"
    assert names(jeans, root) == ["images/39386.jpg"] and not jeans.photographs[0].exists()
    assert (reject.product_id, reject.detail) == ("59263", "styles.csv line 5: 4 fields, allowed: 10 or more")
    put(root, "styles.csv", MYNTRA_STYLES.replace("baseColour", "colour"))
    with pytest.raises(BadData, match=r"styles\.csv' begins with"):
        open_catalogue(root, "myntra")


def test_a_lone_surrogate_is_a_bad_row(tmp_path: Path) -> None:
    root = TREES["abo"](tmp_path)
    listings = [{"item_id": "\ud800"}, {"item_id": ""}, {"item_id": "B09", "brand": [{"value": "\udfff"}]}]
    lines = "".join(json.dumps(listing) + "\n" for listing in listings)
    put(root, "listings/metadata/listings_f.json.gz", gzip.compress(lines.encode()))
    products, rejects = read(root, "abo")
    assert "B09" not in products
    assert [r.detail.split(": ", 1)[1] for r in rejects[-3:]] == [
        "product_id is no Unicode text: surrogates not allowed",
        "product_id is empty",
        "texts is no Unicode text: surrogates not allowed",
    ]


def test_values_that_no_list_should_hold_cost_their_row_alone(tmp_path: Path) -> None:
    digits = "9" * 5000
    sop = TREES["sop"](tmp_path / "sop")
    line = f"59553 11320 {digits} chair_final/361402130128_0.JPG\n"
    put(sop, "Ebay_test.txt", (sop / "Ebay_test.txt").read_text() + line)
    products, rejects = read(sop, "sop")
    assert "11319" in products and "allowed: three numbers of up to 18 digits" in rejects[-1].detail
    inshop = TREES["inshop"](tmp_path / "inshop")
    boxes = inshop / "Anno/list_bbox_inshop.txt"
    boxes.write_text(boxes.read_text().replace("067", digits))
    products, rejects = read(inshop, "inshop")
    assert names(products["id_00000002_02"], inshop) == ["Img/img/WOMEN/Dresses/id_00000002/02_2_side.jpg"]
    (reject,) = (reject for reject in rejects if "its box" in reject.detail)
    assert reject.image_path == "img/WOMEN/Dresses/id_00000002/02_1_front.jpg"
    abo = TREES["abo"](tmp_path / "abo")
    lines = '{"item_id": "X", "domain_name": ["amazon"], "main_image_id": "0101"}\n{"item_id": "Y"}\n'
    lines += '{"item_id": "Z", "other_image_id": ["\\ud800"]}\n'
    (abo / "listings/metadata/listings_f.json.gz").write_bytes(gzip.compress(lines.encode()))
    products, rejects = read(abo, "abo")
    assert "Y" in products and "X" not in products
    assert [reject.detail for reject in rejects[-2:]] == [
        "listings_f.json.gz line 1: domain_name is ['amazon'], allowed: text",
        "listings_f.json.gz line 3: an image id is no Unicode text: surrogates not allowed",
    ]
