"""A contact sheet of a data set: a row a product, its labels and its photographs side by side.

With the source beside it, each photograph is shown as it came and, right of that, as it was written.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.new_file import write_new
from shards.originals import Original, find_originals, show_original
from shards.places import Place, check_is_file
from shards.summary import printable
from shards.tables import gather, row_count, rows

CELL = 128
"""Side of a photograph's place in pixels; smaller photographs are enlarged by whole factors."""
GAP = 6
CAPTION = 250
MAX_PHOTOGRAPHS = 8
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Of a picture's name -> what Pillow calls its format."""
MOST_PIXELS = {"JPEG": 65_500, "WEBP": 16_383}
"""Of a side, where a format has a limit below what memory holds."""
UNPAIRED = "after not known"
INK, GROUND, PLATE, VOID = (30, 30, 30), (238, 240, 243), (208, 212, 218), (150, 154, 160)

Cell = Image.Image | str
"""A picture, or the words on a grey plate in its place."""


def write_sheet(
    folder: Place,
    file: Path,
    *,
    products: int = 24,
    seed: int = 0,
    source: str | None = None,
    format: str | None = None,
) -> tuple[int, int]:
    """Draw ``products`` products chosen by ``seed``, in the data set's order; returns (shown, all) products.

    source: the catalogue that the data set was built from, for before and after; ``format`` names its adapter where the
    choice is not clear. A photograph that was not written has a grey plate with the reason in the place of its after;
    so have all of a product whose photographs in the source are not as many as were written and rejected, for which of
    them became which nobody can say: a line on stderr counts these products.
    Raises BadData where a photograph can not be read or a product is not in the source, BadUsage where ``file`` is no
    picture's name, or no file of that name can be.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise BadUsage(f"'{file}' is no picture's name", allowed=f"a file ending in {', '.join(SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise BadUsage(
            f"'{file}' would lie in a folder that does not exist",
            allowed="a file in a folder that is there",
            change=f"make '{file.parent}', or name another file",
        )
    if file.is_dir():
        raise BadUsage(f"'{file}' is a folder", allowed="a file", change="name another file")
    if seed < 0:
        raise BadUsage(f"--seed is {seed}", allowed="0 or more")
    dataset = read_dataset(folder)
    total = row_count(folder, "products.parquet")
    _check_height(file, min(products, total))
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:products])
    labels = gather(folder, "products.parquet", None, chosen).to_pylist()
    originals: dict[str, list[Original]] = {}
    if source is not None:
        ids = [row["product_id"] for row in labels]
        originals = find_originals(folder, dataset["options"], ids, source, format)
        _leave_unpaired(labels, originals, source)
    sheet = _draw(labels, [_cells(folder, dataset, row, originals) for row in labels], source is not None)
    drawn = io.BytesIO()
    sheet.save(drawn, SUFFIXES[file.suffix.lower()])
    # Where the name is a link, what it leads to is replaced.
    write_new(Path(os.path.realpath(file)), drawn.getvalue())
    return len(labels), total


def _check_height(file: Path, products: int) -> None:
    """Raise BadUsage where a picture of that format can not be as high, before photographs are read for it."""
    most = MOST_PIXELS.get(SUFFIXES[file.suffix.lower()])
    if most is not None and _height(products) > most:
        allowed = (most - GAP) // (CELL + GAP)
        raise BadUsage(
            f"'{file}' would be {_height(products):,} pixels high with {products:,} products",
            allowed=f"{most:,} pixels in a file ending in {file.suffix}: --products {allowed}",
            change="ask for fewer products, or for a .png",
        )


def _height(products: int) -> int:
    return products * (CELL + GAP) + GAP


def _leave_unpaired(labels: Sequence[dict[str, Any]], originals: dict[str, list[Original]], source: str) -> None:
    """Give the photographs of products that can not be paired a reason for it."""
    unclear = [
        row["product_id"]
        for row in labels
        if sum(not original.reason for original in originals[row["product_id"]]) != row["images"]
    ]
    for product_id in unclear:
        originals[product_id] = [original._replace(reason=UNPAIRED) for original in originals[product_id]]
    if unclear:
        line = (
            f"{len(unclear):,} of {len(labels):,} products have other photographs in '{source}' than were written and "
            f"rejected, and are shown without an after (first: '{unclear[0]}')"
        )
        print(printable(line), file=sys.stderr)


def _cells(
    folder: Place, dataset: dict[str, Any], row: dict[str, Any], originals: dict[str, list[Original]]
) -> list[Cell]:
    """The pictures of a product in the order in which they are shown: written ones, or before and after by turns."""
    views = list(rows(folder, "images.parquet", row["first_image"], row["images"]))
    if not originals:
        return [_written(folder, dataset, view, row["product_id"]) for view in views[:MAX_PHOTOGRAPHS]]
    cells: list[Cell] = []
    left = iter(views)
    for original in originals[row["product_id"]][: MAX_PHOTOGRAPHS // 2]:
        cells.append(show_original(original.photograph, CELL))
        view = None if original.reason else next(left, None)
        cells.append(
            original.reason or "not there" if view is None else _written(folder, dataset, view, row["product_id"])
        )
    return cells


def _written(folder: Place, dataset: dict[str, Any], view: dict[str, Any], product_id: str) -> Image.Image:
    shard = folder / dataset["shards"][view["shard"]]["name"]
    check_is_file(shard)
    try:
        with shard.open("rb") as file:
            file.seek(view["offset"])
            return Image.open(io.BytesIO(file.read(view["size"]))).convert("RGB")
    except OSError as error:
        raise BadData(
            f"a photograph of '{product_id}' can not be read from '{shard}': {error}",
            change="skill-shards verify --full names all damage",
        ) from error


def _draw(labels: Sequence[dict[str, Any]], cells: Sequence[Sequence[Cell]], in_pairs: bool) -> Image.Image:
    columns = max((len(row) for row in cells), default=0)
    # A wider gap between the pairs than within them.
    places = [
        CAPTION + column * (CELL + GAP) + (2 * GAP * (column // 2) if in_pairs else 0) for column in range(columns)
    ]
    width = (places[-1] + CELL if places else CAPTION) + GAP
    sheet = Image.new("RGB", (width, _height(len(labels))), GROUND)
    for number, (row, pictures) in enumerate(zip(labels, cells, strict=True)):
        top = GAP + number * (CELL + GAP)
        _caption(ImageDraw.Draw(sheet), row, top)
        for left, picture in zip(places, pictures, strict=False):
            _place(sheet, picture, left, top)
    return sheet


def _place(sheet: Image.Image, picture: Cell, left: int, top: int) -> None:
    frame = (left, top, left + CELL, top + CELL)
    if isinstance(picture, str):
        sheet.paste(VOID, frame)
        font = ImageFont.load_default(12)
        ImageDraw.Draw(sheet).text((left + 8, top + CELL // 2 - 8), picture.replace("_", " "), fill=INK, font=font)
        return
    sheet.paste(PLATE, frame)
    fitted = _fitted(picture)
    sheet.paste(fitted, (left + (CELL - fitted.width) // 2, top + (CELL - fitted.height) // 2))


def _fitted(image: Image.Image) -> Image.Image:
    """Letterboxed into a cell; small ones enlarged by whole factors, so that their pixels are seen as they are."""
    factor = CELL / max(image.size)
    if factor >= 2:
        whole = int(factor)
        return image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    if factor < 1:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS)
    return image


def _caption(pen: ImageDraw.ImageDraw, row: dict[str, Any], top: int) -> None:
    labels = [row["product_type"], row["color"], row["pattern"], row["variant_group"], row["split"]]
    lines = [
        row["product_id"],
        *(label for label in labels if label),
        f"{row['images']} photograph{'s' * (row['images'] != 1)}",
    ]
    for number, line in enumerate(lines):
        text = line if len(line) <= 30 else line[:29] + "…"
        pen.text((GAP, top + number * 17), text, fill=INK, font=ImageFont.load_default(14 if number == 0 else 12))
