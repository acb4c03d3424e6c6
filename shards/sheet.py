"""A contact sheet of a data set: a row a product, its labels and its photographs side by side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from shards.errors import BadData, BadUsage
from shards.index import read_dataset

CELL = 128
"""Side of a photograph's place in pixels; smaller photographs are enlarged by whole factors."""
GAP = 6
CAPTION = 250
MAX_PHOTOGRAPHS = 8
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
INK, GROUND, PLATE = (30, 30, 30), (238, 240, 243), (208, 212, 218)


def write_sheet(folder: Path, file: Path, *, products: int = 24, seed: int = 0) -> tuple[int, int]:
    """Draw ``products`` products chosen by ``seed``, in the data set's order; returns (shown, all) products.

    Raises BadData where a photograph can not be read, BadUsage where ``file`` is no picture's name.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise BadUsage(f"'{file}' is no picture's name", allowed=f"a file ending in {', '.join(SUFFIXES)}")
    dataset = read_dataset(folder)
    table = pq.read_table(folder / "products.parquet")
    images = pq.read_table(folder / "images.parquet", columns=["shard", "offset", "size"])
    chosen = np.random.default_rng(seed).permutation(len(table))[:products]
    rows = [table.slice(int(row), 1).to_pylist()[0] for row in sorted(chosen)]
    columns = min(MAX_PHOTOGRAPHS, max(row["images"] for row in rows))
    sheet = Image.new("RGB", (CAPTION + columns * (CELL + GAP) + GAP, len(rows) * (CELL + GAP) + GAP), GROUND)
    for number, row in enumerate(rows):
        top = GAP + number * (CELL + GAP)
        _caption(ImageDraw.Draw(sheet), row, top)
        place = images.slice(row["first_image"], min(row["images"], MAX_PHOTOGRAPHS)).to_pylist()
        for view, image in enumerate(place):
            shard = folder / dataset["shards"][image["shard"]]["name"]
            photograph = _read(shard, image["offset"], image["size"], row["product_id"])
            left = CAPTION + view * (CELL + GAP)
            sheet.paste(PLATE, (left, top, left + CELL, top + CELL))
            sheet.paste(photograph, (left + (CELL - photograph.width) // 2, top + (CELL - photograph.height) // 2))
    sheet.save(file)
    return len(rows), len(table)


def _caption(pen: ImageDraw.ImageDraw, row: dict, top: int) -> None:
    labels = [row["product_type"], row["color"], row["pattern"], row["variant_group"], row["split"]]
    lines = [
        row["product_id"],
        *(label for label in labels if label),
        f"{row['images']} photograph{'s' * (row['images'] != 1)}",
    ]
    for number, line in enumerate(lines):
        text = line if len(line) <= 30 else line[:29] + "…"
        pen.text((GAP, top + number * 17), text, fill=INK, font=ImageFont.load_default(14 if number == 0 else 12))


def _read(shard: Path, offset: int, size: int, product_id: str) -> Image.Image:
    try:
        with shard.open("rb") as file:
            file.seek(offset)
            image = Image.open(io.BytesIO(file.read(size))).convert("RGB")
    except OSError as error:
        raise BadData(
            f"a photograph of '{product_id}' can not be read from '{shard}': {error}",
            change="skill-shards verify --full names all damage",
        ) from error
    factor = CELL / max(image.size)
    if factor >= 2:
        whole = int(factor)
        return image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    if factor < 1:
        image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return image
