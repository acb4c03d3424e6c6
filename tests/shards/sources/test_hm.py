"""H&M: its articles, lost zeros and line breaks, on a small tree."""

from pathlib import Path

import pytest

from shards.errors import BadData
from shards.sources.catalogue import open_catalogue
from tests.shards.sources.trees import HM_ARTICLES, TREES, names, put, read


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
