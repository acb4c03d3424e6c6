"""dataset.json, the authority that is written last: written, sealed and read back. See docs/shard_format.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

from shards.errors import BadData
from shards.new_file import sync, write_new
from shards.places import Place, reaching, size_of
from shards.table_files import LATER_TABLES, TABLES
from shards.writer import Shard

FORMAT, VERSION = "skill-shards", 1
DATASET = "dataset.json"
APPEND_FOLDER = ".append"
"""Within a data set: where new products are prepared, and what their arrival is rolled forward from."""
SHARD_NAME = re.compile(r"shard-\d{6,}\.tar")
COUNTS = {"products", "images_seen", "images_written"}
REASON_COUNTS = {"images_rejected", "products_rejected"}
_READ_BYTES = 1 << 20
MOST_DATASET_BYTES = 1 << 30
"""Of dataset.json; one of 100,000 shards has 25 MB."""
_MOST_LEVELS = 64
"""Of objects and lists within each other, in dataset.json; what writes it is recursive."""
_NO_SEAL = "0" * 64
_SEAL_LINE = re.compile(rb'\n "sha256": "([0-9a-f]{64})"\n}\n\Z')


def write_dataset(
    folder: Place,
    *,
    options: dict[str, Any],
    counts: dict[str, Any],
    shards: Sequence[Shard],
    tables: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write dataset.json over finished shards and tables, atomically, and return it.

    tables: the ``line`` of each table; those that are not given are read once more.
    """
    lines = tables or {}
    present = [name for name in TABLES if name not in LATER_TABLES or name in lines or size_of(folder / name)]
    dataset: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "options": options,
        "counts": counts,
        "shards": [asdict(shard) for shard in shards],
        "tables": {name: lines.get(name) or describe(folder / name) for name in present},
        "fingerprint": fingerprint([asdict(shard) for shard in shards]),
    }
    sealed_text = sealed(dataset)
    if isinstance(folder, Path):
        # What dataset.json names has its name on disk before dataset.json has.
        sync(folder)
    write_new(folder / DATASET, sealed_text)
    if isinstance(folder, Path):
        sync(folder)
    return json.loads(sealed_text)


def sealed(dataset: dict[str, Any]) -> bytes:
    """An object as bytes: its last value is the sha256 of these bytes with 64 zeros in the place of that value."""
    open_ = {**{name: value for name, value in dataset.items() if name != "sha256"}, "sha256": _NO_SEAL}
    text = (json.dumps(open_, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    seal = hashlib.sha256(text).hexdigest().encode()
    end = text.rindex(_NO_SEAL.encode())
    return text[:end] + seal + text[end + len(seal) :]


def seal_fault(text: bytes) -> str:
    """What shows that dataset.json was changed after it was written; "" where nothing does."""
    found = _SEAL_LINE.search(text)
    if found is None:
        dataset = json.loads(text)
        # Data sets that were built before there was a seal lack the later tables too.
        sealed_once = "sha256" in dataset or LATER_TABLES & dataset["tables"].keys()
        return "no sha256 of its own at the end" if sealed_once else ""
    expected = _seal(text, found)
    return "" if expected.encode() == found[1] else f"sha256 of its own {found[1].decode()}, by its content {expected}"


def is_sealed(text: bytes) -> bool:
    """Whether these are bytes as ``sealed`` gave them."""
    found = _SEAL_LINE.search(text)
    return found is not None and _seal(text, found).encode() == found[1]


def _seal(text: bytes, found: re.Match[bytes]) -> str:
    return hashlib.sha256(text[: found.start(1)] + _NO_SEAL.encode() + text[found.end(1) :]).hexdigest()


def read_dataset(folder: Place) -> dict[str, Any]:
    """dataset.json as a dict; raises BadData where there is none or it is not one of this format and version."""
    path = folder / DATASET
    if size_of(path) is None:
        _say_what_lacks(folder)
    _, dataset = read_json(path)
    found = (dataset.get("format"), dataset.get("version")) if isinstance(dataset, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise BadData(
            f"'{path}' has format {found[0]!r}, version {found[1]!r}",
            allowed=f"format {FORMAT!r}, version {VERSION}",
            change="build the shards with this version of skill-shards",
        )
    if faults := _faults(dataset):
        raise BadData(
            f"'{path}' is not a whole {DATASET}: {', '.join(faults)}",
            allowed="the file as skill-shards build wrote it",
            change="build the shards again",
        )
    return dataset


def read_json(path: Place) -> tuple[bytes, Any]:
    """A dataset.json as bytes and as the value in them; raises BadData where it is too large, too deep or no JSON."""
    change = "build the shards again"
    size = size_of(path)
    if size is not None and size > MOST_DATASET_BYTES:
        raise BadData(f"'{path}' has {size:,} bytes", allowed=f"{MOST_DATASET_BYTES:,} bytes", change=change)
    with reaching(path):
        text = path.read_bytes()
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise _too_deep(path) from error
    except ValueError as error:
        raise BadData(f"'{path}' is not JSON: {error}", change=change) from error
    # The lines of the shards are looked at one by one, and are many.
    if _is_deeper({name: part for name, part in value.items() if name != "shards"} if isinstance(value, dict) else ()):
        raise _too_deep(path)
    return text, value


def _is_deeper(value: Any, levels: int = _MOST_LEVELS) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _too_deep(path: Place) -> BadData:
    return BadData(
        f"'{path}' has objects and lists too deep within each other",
        allowed=f"{_MOST_LEVELS} levels",
        change="build the shards again",
    )


def _say_what_lacks(folder: Place) -> NoReturn:
    if isinstance(folder, Path) and not folder.is_dir():
        raise BadData(
            f"folder '{folder}' does not exist", allowed="a folder of shards", change="build one: skill-shards build"
        )
    if (folder / APPEND_FOLDER).is_dir():
        raise BadData(
            f"products are being appended to '{folder}', or that was interrupted",
            allowed="a data set that nobody writes to",
            change="wait for skill-shards append; if it is not running, start it again or run skill-shards repair",
        )
    raise BadData(
        f"'{folder}' holds no {DATASET}",
        allowed="a folder that skill-shards build has finished",
        change="run the same build again: it goes on behind the last finished shard",
    )


def _faults(dataset: dict[str, Any]) -> list[str]:
    """What a reader relies on and does not find; a shard's name may not lead out of the folder."""
    counts, shards, tables = (dataset.get(name) for name in ("counts", "shards", "tables"))
    faults = []
    if not isinstance(dataset.get("options"), dict):
        faults.append("options")
    if not isinstance(dataset.get("fingerprint"), str):
        faults.append("fingerprint")
    if not isinstance(counts, dict) or not _are_counts(counts):
        faults.append("counts")
    if not isinstance(tables, dict) or not _are_tables(tables):
        faults.append("tables")
    if not isinstance(shards, list) or not all(_is_shard_line(line) for line in shards):
        faults.append("shards")
    return [f"'{name}' is missing or damaged" for name in faults]


def _are_counts(counts: dict[str, Any]) -> bool:
    by_reason = [*(counts.get(name) for name in REASON_COUNTS), counts.get("notes", {})]
    return all(_is_count(counts.get(name)) for name in COUNTS) and all(
        isinstance(reasons, dict) and all(_is_count(count) for count in reasons.values()) for reasons in by_reason
    )


def _are_tables(tables: dict[str, Any]) -> bool:
    names = TABLES.keys() - LATER_TABLES <= tables.keys() <= TABLES.keys()
    return names and all(
        isinstance(line, dict) and _is_count(line.get("bytes")) and isinstance(line.get("sha256"), str)
        for line in tables.values()
    )


def _is_shard_line(line: Any) -> bool:
    wanted = {field.name for field in fields(Shard)}
    return (
        isinstance(line, dict)
        and line.keys() == wanted
        and bool(SHARD_NAME.fullmatch(str(line["name"])))
        and all(_is_count(line[name]) for name in ("bytes", "products", "images"))
        and isinstance(line["sha256"], str)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def fingerprint(shards: Iterable[dict[str, Any]]) -> str:
    """sha256 over one line "name bytes sha256" a shard, each ended by a newline."""
    lines = "".join(f"{shard['name']} {shard['bytes']} {shard['sha256']}\n" for shard in shards)
    return hashlib.sha256(lines.encode()).hexdigest()


def describe(path: Place) -> dict[str, Any]:
    size = size_of(path)
    if size is None:
        raise BadData(f"'{path}' does not exist", allowed=f"every table of the format: {', '.join(TABLES)}")
    return {"bytes": size, "sha256": sha256_of(path)}


def sha256_of(path: Place) -> str:
    digest = hashlib.sha256()
    with reaching(path), path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
