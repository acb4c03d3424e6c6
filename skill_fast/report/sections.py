"""The sections of a run's page as HTML: curves, scores, neighbours, provenance and configuration.

Each is made of what the run folder holds; what is missing or damaged there, the section says instead.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from skill_fast.data.index import CatalogueIndex, open_index
from skill_fast.errors import Failure
from skill_fast.evaluate.baselines import grey_pixels
from skill_fast.evaluate.command import recorded_data
from skill_fast.evaluate.embed import embed_all
from skill_fast.evaluate.products import choose_split, product_rows
from skill_fast.evaluate.scoreboard import Column, color_columns, color_rows, knn_columns, knn_rows, retrieval_columns
from skill_fast.models.encoder import load_encoder
from skill_fast.report.contact_sheet import contact_sheet, photographs
from skill_fast.report.curves import CHARTS, chart, read_metrics, series
from skill_fast.report.neighbors import NEIGHBORS, choose_queries, neighbor_rows, neighbor_strip

PHOTOGRAPH_SIDE = 88
SHEET_COLUMNS, SHEET_PHOTOGRAPHS = 12, 24
MAX_PHOTOGRAPHS = 4000
"""Photographs among which neighbours are looked for; of a larger split the first products are taken."""


def outcome(run: Path) -> str:
    """How the run ended, by exit.json; else that it has not."""
    end = _read_json(run / "exit.json")
    if isinstance(end, str):
        return '<p class="note">The run has no exit.json: it is still running, or it was killed.</p>'
    words = f"ended with exit code {end.get('exit_code')} at step {end.get('step')}: {end.get('reason')}"
    return f'<p class="note">{escape(words)}</p>'


def curves_section(run: Path) -> str:
    """The charts of metrics.jsonl."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return _absent("no metrics.jsonl: the run has logged nothing yet")
    rows, broken = read_metrics(path)
    lines = ({name: series(rows, key) for key, name in keys.items()} for keys in CHARTS.values())
    charts = [drawn for title, each in zip(CHARTS, lines, strict=True) if (drawn := chart(title, each))]
    note = _absent(f"{broken} lines of metrics.jsonl are not JSON and were left out") if broken else ""
    if not charts:
        return note + _absent("metrics.jsonl holds no step with numbers")
    return f'{note}<div class="curves">{"".join(charts)}</div>'


def scores_section(run: Path) -> str:
    """The tables of evaluation.json."""
    result = _read_json(run / "evaluation.json")
    if isinstance(result, str):
        return _absent(f"{result}; skill-eval RUN --json RUN/evaluation.json makes it")
    try:
        others = [*retrieval_columns(result), *color_columns(result)]
        groups = [(list(knn_columns(result)), knn_rows(result)), (others, color_rows(result))]
        tables = "".join(_table(columns, rows) for columns, rows in groups if columns)
        reasons = "".join(_absent(f"no {name}: {why}") for name, why in result["absent"].items())
        where = f"split {result['split']}: {result['products']} products, {result['photographs']} photographs; kNN"
        note = f"{where} with k = {result['knn']['k']}, {result['protocol']}"
    except (KeyError, TypeError, AttributeError) as error:
        return _absent(f"evaluation.json is not what skill-eval writes: {type(error).__name__} {error}")
    entropy = "Colour entropy in nats: higher is more colour-agnostic, and worth what the purity beside it says."
    return f'{tables}<p class="note">{escape(note)}. {entropy}</p>{reasons}'


def neighbors_section(run: Path, data: str | None, device: torch.device) -> str:
    """A few photographs of the data, and for some of them the neighbours under the encoder and under grey pixels."""
    try:
        encoder, index = load_encoder(run), open_index(data or recorded_data(run))
        rows = _photographs_to_search(index)
        found = embed_all(
            index,
            {"trained": encoder.to(device), "grey pixels": grey_pixels},
            rows,
            resize=encoder.resize,
            crop=encoder.image_size,
            device=device,
        )
    except Failure as failure:
        return _absent(f"not shown: {failure}")
    return _sheet(index, rows) + _neighbor_strips(index, rows, found)


def provenance_section(run: Path) -> str:
    """model.json, exit.json and what evaluation.json says of its data, as one table."""
    entries: list[tuple[str, str]] = []
    for file in ("model.json", "exit.json"):
        content = _read_json(run / file)
        if isinstance(content, str):
            entries.append((file, content))
        else:
            entries += [(f"{file}: {key}", _plain(value)) for key, value in content.items()]
    scores = _read_json(run / "evaluation.json")
    if not isinstance(scores, str):
        keys = ("data", "dataset", "step", "split", "resize", "crop", "color_source")
        entries += [(f"evaluation.json: {key}", _plain(scores[key])) for key in keys if key in scores]
    skipped = run / "skipped.jsonl"
    count = len(skipped.read_text(encoding="utf-8", errors="replace").splitlines()) if skipped.is_file() else 0
    entries.append(("photographs substituted", str(count)))
    lines = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in entries)
    return f"<table>{lines}</table>"


def config_section(run: Path) -> str:
    """config.yaml as it stands."""
    path = run / "config.yaml"
    if not path.is_file():
        return _absent("no config.yaml")
    return f"<pre>{escape(path.read_text(encoding='utf-8', errors='replace'))}</pre>"


def _photographs_to_search(index: CatalogueIndex) -> np.ndarray:
    products = product_rows(index, choose_split(index, None))
    enough = np.cumsum(index.images_per_product[products]) <= MAX_PHOTOGRAPHS
    return index.images_of(products[enough] if enough.any() else products[:1])


def _sheet(index: CatalogueIndex, rows: np.ndarray) -> str:
    sheet = contact_sheet(photographs(index, rows[:SHEET_PHOTOGRAPHS], PHOTOGRAPH_SIDE - 16), SHEET_COLUMNS)
    return f'<p class="note">Photographs of the data set, product by product:</p>{_picture(sheet, "photographs")}'


def _neighbor_strips(index: CatalogueIndex, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> str:
    products = index.product[rows]
    groups = index.column("variant_group")[products]
    queries = choose_queries(products, groups)
    columns = []
    for name, vectors in found.items():
        near = neighbor_rows(vectors, products, groups, queries)
        strips = (neighbor_strip(index, rows, row, PHOTOGRAPH_SIDE) for row in near)
        right = sum(int(row.same_design.sum()) for row in near)
        pictures = "".join(_picture(strip, f"a query and its neighbours under {name}") for strip in strips)
        columns.append(f"<div><h3>{name}: {right} of {sum(len(row.neighbors) for row in near)}</h3>{pictures}</div>")
    note = (
        f"Left of each strip a photograph, framed grey, then the nearest photographs of the {NEIGHBORS} nearest other "
        f"products among {len(rows)} photographs; framed green: the same design in another colour."
    )
    return f'<p class="note">{note}</p><div class="pair">{"".join(columns)}</div>'


def _picture(image: Image.Image, alternative: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img {size} alt="{escape(alternative, quote=True)}" src="data:image/jpeg;base64,{text}">'


def _table(columns: Sequence[Column], rows: Mapping[str, Mapping[str, float]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading, _ in columns)

    def lines() -> Iterator[str]:
        for place, (name, scores) in enumerate(rows.items()):
            cells = "".join(f"<td>{escape(cell(scores))}</td>" for _, cell in columns)
            mark = ' class="first"' if place == 0 else ""
            yield f"<tr{mark}><td>{escape(name)}</td>{cells}</tr>"

    return f"<table><tr><th>embedding</th>{head}</tr>{''.join(lines())}</table>"


def _read_json(path: Path) -> dict[str, Any] | str:
    """The JSON object of a file, or why there is none."""
    if not path.is_file():
        return f"no {path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"{path.name} is not JSON: {error}"
    return content if isinstance(content, dict) else f"{path.name} is not a JSON object"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _absent(text: str) -> str:
    return f'<p class="absent">{escape(text)}</p>'
