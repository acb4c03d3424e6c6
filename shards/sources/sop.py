"""Stanford Online Products: Ebay_train.txt and Ebay_test.txt, a photograph a line. See docs/sources/sop.md."""

from __future__ import annotations

from shards.errors import BadData
from shards.places import Place, size_of
from shards.sources.gathering import Gathering, Mention
from shards.sources.lines import numbered, open_lines
from shards.sources.product import Catalogue
from shards.sources.rows import NUMBER_DIGITS, BadRow, inside, is_number, require, shown

LISTS = {"Ebay_train.txt": "train", "Ebay_test.txt": "test"}
HEADER = ["image_id", "class_id", "super_class_id", "path"]
LAYOUT = "Ebay_train.txt, Ebay_test.txt and the folders that they name: bicycle_final/111085122871_0.JPG"


def recognizes(root: Place) -> bool:
    return any(size_of(root / name) is not None for name in LISTS)


def catalogue(root: Place, on_duplicate: str = "error") -> Catalogue:
    """A product is a class_id; its type is the name of its super class, the file it is listed in its split."""
    require(root, LAYOUT, files=tuple(LISTS))
    gathering = Gathering(lambda path: root / path)
    for name, split in LISTS.items():
        with open_lines(root / name) as lines:
            for number, line in numbered(lines):
                where = f"{name} line {number}"
                if number == 1:
                    _check_header(root / name, line)
                    continue
                try:
                    gathering.add(_mention(line, where, split))
                except BadRow as error:
                    path = "" if isinstance(line, BadRow) else line.split()[-1]
                    gathering.reject("", path, "bad_row", f"{where}: {error}")
    return gathering.catalogue(root)


def _check_header(path: Place, line: str | BadRow) -> None:
    if isinstance(line, BadRow) or line.split() != HEADER:
        raise BadData(f"'{path}' begins with '{shown(line)}'", allowed=f"'{' '.join(HEADER)}'", change="copy it again")


def _mention(line: str | BadRow, where: str, split: str) -> Mention:
    if isinstance(line, BadRow):
        raise line
    cells = line.split(maxsplit=3)
    if len(cells) != 4 or not all(map(is_number, cells[:3])):
        raise BadRow(f"'{shown(line)}', allowed: three numbers of up to {NUMBER_DIGITS} digits and a path")
    _, class_id, super_class_id, path = cells
    product_type = inside(path, "path").partition("/")[0].removesuffix("_final")
    labels = {"product_type": product_type, "split": split}
    return Mention(class_id, where, [path.rstrip()], labels, {"super_class_id": int(super_class_id)})
