"""The five public catalogues: each quirk of their formats on a small tree, locally and in a store."""

import gzip
import json
import re
from pathlib import Path

import pytest
from upath import UPath

from shards.build import build
from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.catalogue import choose_format, open_catalogue
from shards.sources.product import Product
from shards.summary import summarize
from tests.shards.sources.trees import (
    HM_ARTICLES,
    INSHOP_PARTITION,
    MYNTRA_STYLES,
    TREES,
    put,
)


def read(root, format: str, **options) -> tuple[dict[str, Product], list[Reject]]:
    catalogue = open_catalogue(root, format, **options)
    entries = list(catalogue.entries)
    assert entries == list(catalogue.entries), "can be gone through again"
    rejects = [entry for entry in entries if isinstance(entry, Reject)]
    products = [entry for entry in entries if isinstance(entry, Product)]
    seen = sum(len(product.photographs) for product in products) + sum(r.reason != "duplicate_product" for r in rejects)
    assert catalogue.images == seen
    assert len({product.product_id for product in products}) == len(products)
    return {product.product_id: product for product in products}, rejects


def names(product: Product, root) -> list[str]:
    return [path.relative_to(root).as_posix() for path in product.photographs]


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


def test_inshop(tmp_path: Path) -> None:
    root = TREES["inshop"](tmp_path)
    products, rejects = read(root, "inshop")
    # The colourway is the number that the file's name begins with; an item's colourways are one variant group.
    assert list(products) == ["id_00000002_02", "id_00000002_03", "id_00000007_01"]
    assert [p.variant_group for p in products.values()] == ["id_00000002", "id_00000002", "id_00000007"]
    assert [p.color for p in products.values()] == ["Light blue", "", "Heather grey"], "only lines that name a .jpg"
    assert [p.split for p in products.values()] == ["train", "train", "test"]
    assert [p.product_type for p in products.values()] == ["Dresses", "Dresses", "Tees_Tanks"]
    assert names(products["id_00000002_03"], root) == ["Img/img/WOMEN/Dresses/id_00000002/03_1_front.jpg"]
    assert products["id_00000007_01"].attributes == {
        "gender": "MEN",
        "photographs": {
            "img/MEN/Tees_Tanks/id_00000007/01_1_front.jpg": {
                "partition": "query",
                "pose": "front",
                "box": [55, 30, 190, 201],
            },
            "img/MEN/Tees_Tanks/id_00000007/01_7_additional.jpg": {"partition": "gallery", "pose": "additional"},
        },
    }
    first, second, last = rejects
    broken = "img/WOMEN/Dresses/id_00000002/03_1_front.jpg"
    assert (first.image_path, first.detail) == (
        broken,
        f"list_color_cloth.txt line 5: '{broken}', allowed: a photograph's .jpg and its colour",
    )
    assert (second.image_path, second.detail) == (
        "",
        "list_color_cloth.txt line 6: 'Red', allowed: a photograph's .jpg and its colour",
    )
    assert last.detail.startswith("list_eval_partition.txt line 8: image_name is 'img/MEN/Tees_Tanks")


def test_each_line_of_inshops_lists_that_is_not_used_leaves_a_line(tmp_path: Path) -> None:
    """Of the colours and the boxes, too; count and header are none, and are not needed there."""
    root = TREES["inshop"](tmp_path / "tree")
    name = "img/WOMEN/Dresses/id_00000002/02_1_front.jpg"
    colors = ["6", "image_name color", f"{name} Blue", "", f"{name}", "image_name color", "7", f"{name[:-4]}.png Red"]
    boxes = [f"{name} 3 1 067 027 186 240", f"{name} 3 1 67 27 186", f"{name} 3 1 67 27 186 x", "1 2 3 4 5 6 7", "é \0"]
    put(root, "Anno/attributes/list_color_cloth.txt", "\n".join(colors))
    put(root, "Anno/list_bbox_inshop.txt", "\n".join(boxes).encode() + b"\n\xff\xff")
    products, rejects = read(root, "inshop")
    assert products["id_00000002_02"].color == "Blue"
    assert products["id_00000002_02"].attributes["photographs"][name]["box"] == [67, 27, 186, 240]
    told = [re.match(r"(list_\w+\.txt) line (\d+): ", reject.detail) for reject in rejects]
    assert [match and (match[1], int(match[2])) for match in told] == [
        *(("list_color_cloth.txt", number) for number in (5, 6, 7, 8)),
        *(("list_bbox_inshop.txt", number) for number in (2, 3, 4, 5, 6)),
        ("list_eval_partition.txt", 8),
    ]
    assert {reject.reason for reject in rejects} == {"bad_row"} and "not UTF-8" in rejects[-2].detail
    assert [reject.image_path for reject in rejects[:7]] == [name, "", "", "", name, name, ""]
    counts = build(root, tmp_path / "out", format="inshop", workers=0)["counts"]
    assert counts["images_rejected"] == {"bad_row": 10}
    assert counts["images_seen"] == counts["images_written"] + 10
    rows = summarize(tmp_path / "out")["rejected"]["bad_row"]
    assert rows["count"] == 10 and rows["examples"][0]["detail"].startswith("list_color_cloth.txt line 5: ")


def test_inshop_may_lie_flat_and_must_be_whole(tmp_path: Path) -> None:
    nested = TREES["inshop"](tmp_path / "nested")
    flat = tmp_path / "flat"
    (nested / "Img").rename(flat)
    for name in ("Eval/list_eval_partition.txt", "Anno/attributes/list_color_cloth.txt", "Anno/list_bbox_inshop.txt"):
        put(flat, Path(name).name, (nested / name).read_bytes())
    products, _ = read(flat, "inshop")
    assert names(products["id_00000002_03"], flat) == ["img/WOMEN/Dresses/id_00000002/03_1_front.jpg"]
    listing = flat / "list_eval_partition.txt"
    listing.write_text("".join(listing.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(BadData, match="lists 5 photographs, its first line says 6"):
        open_catalogue(flat, "inshop")


def test_hm(tmp_path: Path) -> None:
    root = TREES["hm"](tmp_path)
    products, (reject,) = read(root, "hm")
    # Ten digits: an id that was once read as a number has lost its zero.
    assert list(products) == ["0108775015", "0108775044", "0110065001"]
    black, white, lost = products.values()
    assert names(lost, root) == ["images/011/0110065001.jpg"], "named even where the file is missing: the build says so"
    assert black.variant_group == white.variant_group == "0108775"
    assert (black.product_type, black.color, black.pattern) == ("Vest top", "Black", "Solid")
    assert black.attributes == {
        "prod_name": "Strap top",
        "perceived_colour_master_name": "Black",
        "index_name": "Ladieswear",
        "detail_desc": 'Jersey top, with "narrow" straps.',
    }
    assert reject.detail == "articles.csv row 5: article_id is '12x', allowed: 10 digits" and reject.product_id == "12x"
    put(root, "articles.csv", HM_ARTICLES.replace("colour_group_name", "color"))
    with pytest.raises(BadData, match="no column colour_group_name"):
        open_catalogue(root, "hm")


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


def hm_row(article: str, description: str, code: str = "0108775") -> str:
    return f"{article},{code},Top,253,Vest top,Solid,Black,Black,A,Ladieswear,{description}\n"


def test_hm_descriptions_may_hold_line_breaks_but_no_rows(tmp_path: Path) -> None:
    header = HM_ARTICLES.partition("\n")[0] + "\n"
    root = TREES["hm"](tmp_path)
    long = '"' + "x\n" * 70 + '"'
    rows = [hm_row("0000000001", '"One,\ntwo,\n\nthree."'), hm_row("0000000002", '"open')]
    rows += [hm_row(f"{number:010}", "x") for number in range(3, 9)] + [hm_row("0000000009", 'x"')]
    put(root, "articles.csv", header + "".join(rows) + hm_row("0000000010", "x"))
    products, rejects = read(root, "hm")
    assert list(products) == [f"{number:010}" for number in (1, 3, 4, 5, 6, 7, 8, 10)]
    assert products["0000000001"].attributes["detail_desc"] == "One,\ntwo,\n\nthree."
    assert [reject.detail.split(":")[0] for reject in rejects] == ["articles.csv row 3", "articles.csv row 10"]
    put(root, "articles.csv", header + hm_row("0000000001", long) + hm_row("0000000002", "x"))
    products, rejects = read(root, "hm")
    assert list(products) == ["0000000002"] and len(rejects) == 71, "more than 64 lines are no description"


def test_hm_codes_that_lost_their_zeros_get_them_back(tmp_path: Path) -> None:
    root = TREES["hm"](tmp_path)
    lost = hm_row("108775051", "x", code="108775") + hm_row("0108775061", "x", code="0108775")
    put(root, "articles.csv", HM_ARTICLES + lost)
    products, _ = read(root, "hm")
    groups = {products[article].variant_group for article in ("0108775015", "0108775051", "0108775061")}
    assert groups == {"0108775"}


@pytest.mark.parametrize("status", ["query", "gallery"])
@pytest.mark.parametrize("line", [3, 4])
def test_inshop_colourway_of_both_sides_is_tested_and_counted(tmp_path: Path, status: str, line: int) -> None:
    """Whichever comes first; a label that differs is counted, once for each photograph that has it."""
    root = TREES["inshop"](tmp_path / "tree")
    listing = root / "Eval/list_eval_partition.txt"
    lines = INSHOP_PARTITION.splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace("train", status)
    listing.write_text("".join(lines))
    found = open_catalogue(root, "inshop")
    (product,) = (entry for entry in found.entries if entry.product_id == "id_00000002_02")
    assert product.split == "test" and len(product.photographs) == 2
    assert found.notes["contradicting_labels"] == 1
    with pytest.raises(BadData, match=r"'id_00000002_02' in test, 'id_00000002_03' in train"):
        build(root, tmp_path / "out", format="inshop", workers=0)


def test_inshop_one_item_in_two_folders(tmp_path: Path) -> None:
    """Files of one name keep what is known of each; the second folder's type contradicts the first's."""
    root = TREES["inshop"](tmp_path)
    line = "img/MEN/Pants/id_00000002/02_1_front.jpg  id_00000002 train\n"
    put(root, "Eval/list_eval_partition.txt", INSHOP_PARTITION.replace("6\n", "7\n", 1) + line)
    found = open_catalogue(root, "inshop")
    (product,) = (entry for entry in found.entries if entry.product_id == "id_00000002_02")
    assert product.attributes["photographs"] == {
        "img/WOMEN/Dresses/id_00000002/02_1_front.jpg": {
            "partition": "train",
            "pose": "front",
            "box": [67, 27, 186, 240],
        },
        "img/WOMEN/Dresses/id_00000002/02_2_side.jpg": {"partition": "train", "pose": "side"},
        "img/MEN/Pants/id_00000002/02_1_front.jpg": {"partition": "train", "pose": "front"},
    }
    assert product.product_type == "Dresses" and found.notes["contradicting_labels"] == 1


def test_what_inshop_says_of_photographs_is_in_their_order(tmp_path: Path) -> None:
    """View n of a product is the n-th of them; of a photograph that is listed again the first line holds."""
    root = TREES["inshop"](tmp_path)
    lines = [f"img/WOMEN/Dresses/id_00000002/02_{view}_front.jpg" for view in (7, 5, 6)]
    more = "".join(f"{line} id_00000002 train\n" for line in lines) + f"{lines[0]} id_00000002 query\n"
    put(root, "Eval/list_eval_partition.txt", INSHOP_PARTITION.replace("6\n", "10\n", 1) + more)
    product = read(root, "inshop")[0]["id_00000002_02"]
    told = product.attributes["photographs"]
    assert list(told) == [name.removeprefix("Img/") for name in names(product, root)]
    assert [name.rpartition("/")[2][:4] for name in told] == ["02_1", "02_2", "02_7", "02_5", "02_6"]
    assert told[lines[0]]["partition"] == "train"


def test_inshop_photographs_in_upper_case(tmp_path: Path) -> None:
    root = TREES["inshop"](tmp_path)
    for name in ("Eval/list_eval_partition.txt", "Anno/attributes/list_color_cloth.txt"):
        put(
            root,
            name,
            (root / name).read_text().replace("03_1_front.jpg", "03_1_front.JPG").replace(".JPG\nRed", ".JPG Red"),
        )
    products, rejects = read(root, "inshop")
    product = products["id_00000002_03"]
    assert names(product, root / "Img") == ["img/WOMEN/Dresses/id_00000002/03_1_front.JPG"]
    assert product.color == "Red" and len(rejects) == 1, "the partition's alone"


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


def test_an_inshop_photograph_must_lie_in_a_gender_and_a_type(tmp_path: Path) -> None:
    root = TREES["inshop"](tmp_path)
    short = [f"{path}/02_1_front.jpg" for path in ("img/id_00000002", "WOMEN/Dresses", "img")]
    more = "".join(f"{path} id_00000002 train\n" for path in short)
    put(root, "Eval/list_eval_partition.txt", INSHOP_PARTITION.replace("6\n", "9\n", 1) + more)
    products, rejects = read(root, "inshop")
    assert len(products["id_00000002_02"].photographs) == 2
    told = [reject for reject in rejects if reject.image_path in short]
    assert [reject.reason for reject in told] == ["bad_row"] * 3
    assert all("allowed: the like of img/MEN/Pants/" in reject.detail for reject in told)


@pytest.mark.parametrize("digits", [8, 11])
def test_an_hm_article_has_ten_digits_or_has_lost_one_zero(tmp_path: Path, digits: int) -> None:
    root = TREES["hm"](tmp_path)
    put(root, "articles.csv", HM_ARTICLES + hm_row("1234567890123"[:digits], "x") + hm_row("123456789", "x"))
    products, rejects = read(root, "hm")
    assert list(products)[-1] == "0123456789" and len(products) == 4
    assert "1234567890123"[:digits] in [reject.product_id for reject in rejects]


def test_hm_leaves_out_every_column_of_codes(tmp_path: Path) -> None:
    root = TREES["hm"](tmp_path)
    head, *rows = HM_ARTICLES.splitlines()
    codes = "section_no,section_code,section_id,section_name"
    put(root, "articles.csv", "\n".join([f"{head},{codes}", *(f"{row},1,2,3,Womens" for row in rows)]))
    products, _ = read(root, "hm")
    for product in products.values():
        assert product.attributes["section_name"] == "Womens"
        assert not {"section_no", "section_code", "section_id"} & product.attributes.keys()


def test_a_path_of_sop_may_hold_spaces(tmp_path: Path) -> None:
    root = TREES["sop"](tmp_path)
    line = "59553 11320 3 chair_final/old and new.JPG\n"
    put(root, "Ebay_test.txt", (root / "Ebay_test.txt").read_text() + line)
    assert names(read(root, "sop")[0]["11320"], root) == ["chair_final/old and new.JPG"]
