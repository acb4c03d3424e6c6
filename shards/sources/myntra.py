"""Myntra (Fashion Product Images): styles.csv, a product a line, and images/ID.jpg. See docs/sources/myntra.md."""

from __future__ import annotations

from shards.errors import BadData
from shards.places import Place, size_of
from shards.sources.gathering import Gathering, Mention
from shards.sources.lines import numbered, open_lines
from shards.sources.product import Catalogue
from shards.sources.rows import BadRow, require, shown

HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
COLUMNS = tuple(HEADER.split(","))
LABELS = {"product_type": "articleType", "color": "baseColour"}
LAYOUT = "styles.csv and images/15970.jpg, named by the id"


def recognizes(root: Place) -> bool:
    return size_of(root / "styles.csv") is not None


def catalogue(root: Place, on_duplicate: str = "error") -> Catalogue:
    """A product is a line. The file is no CSV: its last field may hold commas, and nothing is quoted."""
    require(root, LAYOUT, files=("styles.csv",), folders=("images",))
    gathering = Gathering(lambda path: root / path, on_duplicate=on_duplicate)
    with open_lines(root / "styles.csv") as lines:
        for number, line in numbered(lines):
            where = f"styles.csv line {number}"
            if number == 1:
                _check_header(root, line)
                continue
            try:
                gathering.add(_mention(line, where))
            except BadRow as error:
                product_id = "" if isinstance(line, BadRow) else line.partition(",")[0]
                gathering.reject(product_id, "", "bad_row", f"{where}: {error}")
    return gathering.catalogue(root)


def _check_header(root: Place, line: str | BadRow) -> None:
    if isinstance(line, BadRow) or line != HEADER:
        raise BadData(
            f"'{root / 'styles.csv'}' begins with '{shown(line)}'",
            allowed=f"'{HEADER}'",
            change="take the file as Kaggle gives it",
        )


def _mention(line: str | BadRow, where: str) -> Mention:
    if isinstance(line, BadRow):
        raise line
    # Nine commas divide; all that follow belong to the name.
    values = line.split(",", len(COLUMNS) - 1)
    if len(values) != len(COLUMNS):
        raise BadRow(f"{len(values)} fields, allowed: {len(COLUMNS)} or more")
    cells = {name: text for name, value in zip(COLUMNS, values, strict=True) if (text := value.strip())}
    product_id = cells.pop("id", "")
    if not (product_id.isascii() and product_id.isdecimal()):
        raise BadRow(f"id is {shown(product_id)!r}, allowed: a number")
    labels = {label: cells.pop(name) for label, name in LABELS.items() if name in cells}
    return Mention(product_id, where, [f"images/{product_id}.jpg"], labels, cells)
