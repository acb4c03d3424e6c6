"""DeepFashion In-shop Clothes Retrieval: lists padded with spaces, a photograph a line. See docs/sources/inshop.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from shards.errors import BadData
from shards.places import Place, size_of
from shards.sources.gathering import Gathering, Mention
from shards.sources.lines import numbered, open_lines
from shards.sources.product import Catalogue
from shards.sources.rows import NUMBER_DIGITS, BadRow, inside, is_number, require, shown
from shards.sources.spool import Lookup

PARTITION, COLORS, BOXES = "list_eval_partition.txt", "list_color_cloth.txt", "list_bbox_inshop.txt"
FOLDERS = ("", "Eval", "Anno", "Anno/attributes")
HEADER = ["image_name", "item_id", "evaluation_status"]
SPLITS = {"train": "train", "query": "test", "gallery": "test"}
LAYOUT = f"{PARTITION}, {COLORS} and {BOXES} in the root, Eval/ or Anno/, and the photographs in img/ or Img/img/"
_NAME = re.compile(r"(?P<colorway>\d+)_\d+_(?P<pose>\w+)\.(?i:jpg)")


def recognizes(root: Place) -> bool:
    return _find(root, PARTITION) is not None


def catalogue(root: Place, on_duplicate: str = "error") -> Catalogue:
    """A product is an item in one colourway, the number that its photographs' names begin with."""
    lists = {name: found for name in (PARTITION, COLORS, BOXES) if (found := _find(root, name)) is not None}
    if missing := [name for name in (PARTITION, COLORS, BOXES) if name not in lists]:
        raise BadData(f"'{root}' has no {' and no '.join(missing)}", allowed=LAYOUT, change="check the path")
    within = "Img" if (root / "Img" / "img").is_dir() else ""
    require(root, LAYOUT, folders=(f"{within}/img".lstrip("/"),))
    gathering = Gathering(
        lambda path: root / within / path, combine=lambda mentions: _united(mentions, gathering.notes)
    )
    colors = Lookup(_usable(lists[COLORS], COLORS, _color, gathering))
    boxes = Lookup(_usable(lists[BOXES], BOXES, _box, gathering))
    for number, line in _rows(lists[PARTITION]):
        where = f"{PARTITION} line {number}"
        try:
            gathering.add(_mention(line, where, colors, boxes))
        except BadRow as error:
            path = "" if isinstance(line, BadRow) else line.split()[0]
            gathering.reject("", path, "bad_row", f"{where}: {error}")
    return gathering.catalogue(root)


def _find(root: Place, name: str) -> Place | None:
    return next((path for folder in FOLDERS if size_of(path := root / folder / name) is not None), None)


def _rows(path: Place) -> Iterator[tuple[int, str | BadRow]]:
    """The photographs' lines; raises BadData unless there are as many as the first line says, below the header."""
    said, count = "", 0
    with open_lines(path) as lines:
        for number, line in numbered(lines):
            if number == 1:
                said = str(line).strip()
            elif number == 2:
                _check_head(path, said, line)
            else:
                count += 1
                yield number, line
    if str(count) != said:
        raise BadData(
            f"'{path}' lists {count} photographs, its first line says {said or 'nothing'}",
            allowed="a whole list",
            change="copy it again, or set its first line",
        )


def _check_head(path: Place, said: str, line: str | BadRow) -> None:
    if not said.isdecimal() or isinstance(line, BadRow) or line.split() != HEADER:
        raise BadData(
            f"'{path}' begins with '{shown(said)}' and '{shown(line)}'",
            allowed=f"the number of photographs and '{' '.join(HEADER)}'",
            change="copy it again",
        )


def _mention(line: str | BadRow, where: str, colors: Lookup, boxes: Lookup) -> Mention:
    if isinstance(line, BadRow):
        raise line
    cells = line.split()
    if len(cells) != 3 or cells[2] not in SPLITS:
        raise BadRow(f"'{shown(line)}', allowed: image_name, item_id and one of {', '.join(SPLITS)}")
    path, item_id, status = cells
    parts = inside(path, "image_name").split("/")
    name = _NAME.fullmatch(parts[-1])
    if name is None or len(parts) < 4:
        raise BadRow(f"image_name is {shown(path)!r}, allowed: the like of img/MEN/Pants/id_00000001/02_1_front.jpg")
    seen: dict[str, Any] = {"partition": status, "pose": name["pose"]}
    if box := boxes.get(path):
        if not all(map(is_number, box.split())):
            raise BadRow(f"its box in {BOXES} is '{shown(box)}', allowed: numbers of up to {NUMBER_DIGITS} digits")
        seen["box"] = [int(number) for number in box.split()]
    labels = {"product_type": parts[-3], "variant_group": item_id, "split": SPLITS[status]}
    if color := colors.get(path):
        labels["color"] = color
    attributes = {"gender": parts[-4], "photographs": {path: seen}}
    return Mention(f"{item_id}_{name['colorway']}", where, [path], labels, attributes)


def _united(mentions: list[Mention], notes: Counter[str]) -> Mention:
    """The first non-empty labels, others counted in ``notes``; what is known of each photograph, by its path.

    One photograph of the test side takes the product there: nothing that is tested is trained on.
    """
    labels: dict[str, str] = {}
    photographs: dict[str, Any] = {}
    for mention in mentions:
        notes["contradicting_labels"] += sum(labels.get(name, value) != value for name, value in mention.labels.items())
        labels = mention.labels | labels
        for path, seen in mention.attributes["photographs"].items():
            photographs.setdefault(path, seen)
    if any(mention.labels["split"] == "test" for mention in mentions):
        labels["split"] = "test"
    attributes = mentions[0].attributes | {"photographs": photographs}
    return mentions[0]._replace(labels=labels, attributes=attributes)


def _usable(
    path: Place, name: str, parse: Callable[[str], tuple[str, str]], gathering: Gathering
) -> Iterator[tuple[str, str]]:
    """What the lines of a list say of each photograph, below count and header; a reject for each that says nothing."""
    with open_lines(path) as lines:
        for number, line in numbered(lines):
            if isinstance(line, str) and _is_head(number, line):
                continue
            try:
                if isinstance(line, BadRow):
                    raise line
                yield parse(line)
            except BadRow as error:
                named = next(filter(_is_photograph, str(line).split()[:1]), "")
                gathering.reject("", named, "bad_row", f"{name} line {number}: {error}")


def _is_head(number: int, line: str) -> bool:
    return line.strip().isdecimal() if number == 1 else number == 2 and line.split()[0] == HEADER[0]


def _is_photograph(text: str) -> bool:
    return text.lower().endswith(".jpg")


def _color(line: str) -> tuple[str, str]:
    """Path and colour; in the list as it is published some lines are broken in two."""
    cells = line.split(maxsplit=1)
    if len(cells) != 2 or not _is_photograph(cells[0]):
        raise BadRow(f"'{shown(line)}', allowed: a photograph's .jpg and its colour")
    return cells[0], cells[1].strip()


def _box(line: str) -> tuple[str, str]:
    """Path and "x_1 y_1 x_2 y_2", pixels from the upper left."""
    cells = line.split()
    if len(cells) != 7 or not _is_photograph(cells[0]) or not all(cell.isdecimal() for cell in cells[1:]):
        raise BadRow(f"'{shown(line)}', allowed: a photograph's .jpg and six numbers")
    return cells[0], " ".join(cells[3:])
