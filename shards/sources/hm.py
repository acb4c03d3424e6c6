"""H&M: articles.csv, an article a row, and a photograph of each. See docs/sources/hm.md."""

from __future__ import annotations

import re

from shards.errors import BadData
from shards.places import Place, size_of
from shards.sources.gathering import Gathering, Mention
from shards.sources.product import Catalogue
from shards.sources.rows import BadRow, require, shown
from shards.sources.tables import Row, read_csv

LAYOUT = "articles.csv and images/010/0108775015.jpg: the first three digits of the article, then the article"
LABELS = {
    "product_type": "product_type_name",
    "color": "colour_group_name",
    "pattern": "graphical_appearance_name",
    "variant_group": "product_code",
}
ROW_LINES = 64
"""Descriptions may hold line breaks."""
# Numbers that stand for a name in another column.
_CODES = re.compile(r".*_(no|code|id)")
PRODUCT_DIGITS = 7
"""An article is its product code and three digits of its own."""
_ARTICLE = re.compile(r"\d{9,10}", re.ASCII)


def recognizes(root: Place) -> bool:
    return size_of(root / "articles.csv") is not None


def catalogue(root: Place, on_duplicate: str = "error") -> Catalogue:
    """A product is an article; articles with the same product_code differ in colour."""
    require(root, LAYOUT, files=("articles.csv",), folders=("images",))
    gathering = Gathering(lambda path: root / path, on_duplicate=on_duplicate)
    for number, row in read_csv(root / "articles.csv", lambda found: _check_columns(root, found), ROW_LINES):
        where = f"articles.csv row {number}"
        try:
            gathering.add(_mention(row, where))
        except BadRow as error:
            article = row["article_id"] if isinstance(row, dict) else ""
            gathering.reject(article, "", "bad_row", f"{where}: {error}")
    return gathering.catalogue(root)


def _check_columns(root: Place, found: list[str]) -> None:
    missing = [name for name in ("article_id", *LABELS.values()) if name not in found]
    if missing:
        raise BadData(
            f"'{root / 'articles.csv'}' has no column {', '.join(missing)}",
            allowed=f"article_id, {', '.join(LABELS.values())}",
            change="take the file as Kaggle gives it",
        )


def _mention(row: Row | BadRow, where: str) -> Mention:
    if isinstance(row, BadRow):
        raise row
    cells = {name: text for name, value in row.items() if (text := str(value).strip())}
    article = cells.get("article_id", "")
    if not _ARTICLE.fullmatch(article):
        raise BadRow(f"article_id is {shown(article)!r}, allowed: 10 digits")
    # Whoever read the file as numbers and wrote it again has lost the leading zeros; the photographs' names have them.
    article = article.zfill(10)
    labels = {label: cells[name] for label, name in LABELS.items() if name in cells}
    if labels.get("variant_group", "").isdecimal():
        labels["variant_group"] = labels["variant_group"].zfill(PRODUCT_DIGITS)
    taken = {"article_id", *LABELS.values()}
    attributes = {name: text for name, text in cells.items() if name not in taken and not _CODES.fullmatch(name)}
    return Mention(article, where, [f"images/{article[:3]}/{article}.jpg"], labels, attributes)
