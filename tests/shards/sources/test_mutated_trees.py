"""A8 for the five public catalogues: lists that nobody cleaned are read to their end, or refused with a name."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from shards.errors import BadData
from shards.in_order import arrive
from shards.rejects import Reject
from shards.sources.catalogue import open_catalogue
from tests.shards.sources.test_mutated_manifests import TYPED, VALUES, mutated_bytes
from tests.shards.sources.trees import TREES, put

MUTATIONS = 3_000 if os.environ.get("SKILL_FAST_LONG") == "1" else 150
"""Of each tree."""
LISTS = {
    "abo": [
        "listings/metadata/listings_0.json.gz",
        "listings/metadata/listings_f.json.gz",
        "images/metadata/images.csv.gz",
    ],
    "sop": ["Ebay_train.txt", "Ebay_test.txt"],
    "inshop": [
        "Eval/list_eval_partition.txt",
        "Anno/attributes/list_color_cloth.txt",
        "Anno/list_bbox_inshop.txt",
    ],
    "hm": ["articles.csv"],
    "myntra": ["styles.csv"],
}
JSON_VALUES: list[Any] = [
    *(value for value in TYPED if not isinstance(value, bytes)),
    *([value] for value in ("x", None, {}, {"value": []}, {"value": "x", "language_tag": 5}, {"value": 10**400})),
    *({"value": "x", "standardized_values": value} for value in (5, [], [None], ["y"], "z")),
    *([{"value": "x", "standardized_values": value}] for value in (5, [], [None], ["y"], "z")),
    [{"standardized_values": ["y"]}],
    [{"path": 5}, {"path": ["x"]}],
]


def mutated_json(line: str, rng: random.Random) -> str:
    """One field of a listing with a value of another type; or the line as it is, where it is no JSON."""
    try:
        listing = json.loads(line)
    except ValueError:
        return line
    if isinstance(listing, dict) and listing:
        listing[rng.choice(list(listing))] = rng.choice([*JSON_VALUES, *VALUES])
    return json.dumps(listing)


def mutated_cell(line: str, rng: random.Random) -> str:
    cells = re.split(r"([ ,/_]+)", line)
    cells[rng.randrange(0, len(cells), 2)] = rng.choice(VALUES)
    return "".join(cells)


def mutated(content: bytes, name: str, rng: random.Random) -> bytes:
    lines = content.decode().split("\n")
    for _ in range(rng.randint(1, 3)):
        number = rng.randrange(len(lines))
        lines[number] = (mutated_json if ".json" in name else mutated_cell)(lines[number], rng)
    changed = "\n".join(lines).encode("utf-8", "surrogatepass")
    return mutated_bytes(changed, rng) if rng.random() < 0.2 else changed


@pytest.mark.parametrize("format", TREES)
def test_damaged_lists_end_no_catalogue_with_anything_but_a_refusal(format: str, tmp_path: Path) -> None:
    root = TREES[format](tmp_path / "tree")
    whole = {name: (root / name).read_bytes() for name in LISTS[format]}
    read = rejected = 0
    for seed in range(MUTATIONS):
        rng = random.Random(f"{format} {seed}")
        name = rng.choice(LISTS[format])
        packed = name.endswith(".gz")
        content = mutated(gzip.decompress(whole[name]) if packed else whole[name], name, rng)
        content = gzip.compress(content, 1, mtime=0) if packed else content
        put(root, name, mutated_bytes(content, rng) if packed and rng.random() < 0.1 else content)
        try:
            found = open_catalogue(root, format)
            entries = list(found.entries)
        except BadData as error:
            assert str(root) in str(error), seed
        else:
            read += 1
            assert entries == list(found.entries), seed
            rejects = [entry for entry in entries if isinstance(entry, Reject)]
            rejected += any(name.rpartition("/")[2] in reject.detail for reject in rejects)
            assert all(isinstance(entry, Reject) or json.loads(arrive(entry).meta) for entry in entries), seed
        put(root, name, whole[name])
    assert read > MUTATIONS // 3 and rejected > MUTATIONS // 20, (read, rejected)
