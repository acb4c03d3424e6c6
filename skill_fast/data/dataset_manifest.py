"""dataset.json, and whether a folder holds the files that it names: what is looked at before a table is read.

``skill-shards build`` writes dataset.json last, with size and sha256 of every file, so a half-copied folder and tables
of another data set are named here, before training starts. docs/contracts.md has the format.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from shards.index import read_json, seal_fault
from shards.places import Place, entries, size_of
from skill_fast.errors import BadData

SHARD_NAME = re.compile(r"shard-\d{6,}\.tar")
FORMAT, VERSION = "skill-shards", 1


def read_manifest(folder: Place) -> dict[str, Any]:
    """dataset.json, with all that an index relies on; BadData where it is absent, damaged or of another format."""
    path = folder / "dataset.json"
    rebuild = "build the folder again with skill-shards build: it writes dataset.json last, when all else is on disk"
    if size_of(path) is None:
        raise BadData(
            f"'{folder}' holds no dataset.json", allowed="a folder that skill-shards build finished", change=rebuild
        )
    text, manifest = read_json(path)
    try:
        missing = {"format", "version", "shards", "tables", "fingerprint"} - set(manifest)
    except TypeError as error:
        raise BadData(f"'{path}' is not the JSON object it should be: {error}", change=rebuild) from error
    if missing:
        raise BadData(f"'{path}' lacks {', '.join(sorted(missing))}", change=rebuild)
    if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
        raise BadData(
            f"'{path}' says format '{manifest['format']}' version {manifest['version']}",
            allowed=f"format '{FORMAT}' version {VERSION}",
            change=rebuild,
        )
    lines = [*manifest["shards"], *manifest["tables"].values()]
    names = [line.get("name") for line in manifest["shards"]]
    if not all(isinstance(line.get("bytes"), int) and isinstance(line.get("sha256"), str) for line in lines) or not all(
        isinstance(name, str) and SHARD_NAME.fullmatch(name) for name in names
    ):
        raise BadData(f"'{path}' has a line of shards or tables that is none", change=rebuild)
    absent = {"images.parquet", "products.parquet"} - set(manifest["tables"])
    if absent:
        raise BadData(f"'{path}' lists no {', '.join(sorted(absent))}", change=rebuild)
    if fault := seal_fault(text):
        raise BadData(f"'{path}' was changed after it was written: {fault}", change="copy it again; " + rebuild)
    return manifest


def listed(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every file that dataset.json vouches for, by name."""
    return {shard["name"]: shard for shard in manifest["shards"]} | manifest["tables"]


def check_bytes(folder: Place, expected: dict[str, int]) -> None:
    """Every file is there and has its size, by one listing of the folder; BadData where one has not."""
    found = entries(folder)
    for name, size in expected.items():
        if found.get(name) != size or not size:
            state = "is missing" if found.get(name) is None else f"has {found[name]} bytes"
            raise BadData(
                f"'{folder / name}' {state}, dataset.json says {size} bytes",
                allowed="the files exactly as skill-shards build wrote them",
                change="copy the folder again, or build it again",
            )


def check_tables(folder: Place, tables: dict[str, dict[str, Any]]) -> None:
    """Of a local folder; what comes through the cache is verified there. Every row of a wrong table would mislead."""
    for name in ("images.parquet", "products.parquet"):
        if not isinstance(folder, Path):
            return
        with open(folder / name, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != tables[name]["sha256"]:
            raise BadData(
                f"'{folder / name}' is not the table that dataset.json names: its sha256 is {found[:12]}..., "
                f"not {tables[name]['sha256'][:12]}...",
                allowed="the files exactly as skill-shards build wrote them",
                change="run skill-shards repair on the folder: it makes the tables anew from the tars",
            )
