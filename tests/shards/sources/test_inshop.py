"""In-shop: its lists, colourways and boxes, on a small tree."""

import re
from pathlib import Path

import pytest

from shards.build import build
from shards.errors import BadData
from shards.sources.catalogue import open_catalogue
from shards.summary import summarize
from tests.shards.sources.trees import INSHOP_PARTITION, TREES, names, put, read


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
