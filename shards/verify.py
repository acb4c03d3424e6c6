"""Is a data set what its dataset.json says? Every finding names the file, the product, what was expected and found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from shards.arrival import ARRIVAL
from shards.index import APPEND_FOLDER, DATASET, fingerprint, is_sealed, read_dataset, seal_fault, sha256_of
from shards.own_files import BUILT, GONE, JOURNAL, OWN_NAMES
from shards.places import Place, entries, reaching, size_of
from shards.table_checks import check_content, check_readable
from shards.table_files import TABLES
from shards.walk import Finding, Walk, walked
from shards.walkers import walked_in_children
from shards.writer import index_name, shard_name

__all__ = ["Finding", "Report", "verify"]
ALONE_BYTES = 64 << 20
"""Up to here child processes take longer to start than they save."""
BLOCKS_A_WORKER = 4


@dataclass
class Report:
    findings: list[Finding] = field(default_factory=list)
    checked: str = ""


def verify(
    folder: Place,
    *,
    full: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compare a data set with its dataset.json: the sizes of all files; with ``full`` every byte.

    quick: each listed file is there with its size, nothing else of a build's names is; dataset.json's own sums hold
    full:  the sha256 of every file; then, unless a table is not what it was,
        rows of the tables add up to the counts: images seen = written + rejected
        for each product of products.parquet, in order
            its members follow each other in its shard, with the header that the format asks for
            KEY.json says what products.parquet says
            offset, size, crc32, height and width are those of images.parquet; the JPEG is baseline 4:2:0 and decodes

    Quick takes as long as listing the folder. Full reads the tars as streams, in ``workers`` processes (by default one
    a CPU; small data sets in this one). ``progress`` is told (bytes, bytes in all) after each shard. Raises BadData
    where there is no readable dataset.json, OSError where a file can not be read.
    """
    dataset = read_dataset(folder)
    shards = dataset["shards"]
    findings = [*_sizes(folder, dataset), *_sums(folder, dataset)]
    size = sum(shard["bytes"] for shard in shards)
    checked = f"{len(shards)} shard{'s' * (len(shards) != 1)}, {size:,} bytes, sizes as in {DATASET}"
    if full:
        findings += _table_sums(folder, dataset, findings)
        # Tables that are not the ones of the build say nothing about the tars.
        tables = not any(finding.file in TABLES for finding in findings)
        if tables:
            unreadable = check_readable(folder, dataset)
            findings += unreadable or check_content(folder, dataset)
            tables = not unreadable
        findings += _shards(folder, shards, tables, workers, progress)
        checked += f" and sha256; {dataset['counts']['images_written']:,} images decoded"
    return Report(findings, checked)


def _sizes(folder: Place, dataset: dict[str, Any]) -> Iterator[Finding]:
    described = {shard["name"]: shard for shard in dataset["shards"]} | dataset["tables"]
    found = entries(folder)
    for name, expected in described.items():
        if found.get(name) is None:
            yield Finding(name, "file", f"{expected['bytes']} bytes", _no_file(found, name))
        elif found[name] != expected["bytes"]:
            yield Finding(name, "bytes", expected["bytes"], found[name])
    indices = {index_name(shard["name"]) for shard in dataset["shards"]}
    for name in sorted(name for name in indices if found.get(name) is None):
        yield Finding(name, "file", "DALI's index", _no_file(found, name))
    own = {name for name in found if OWN_NAMES.fullmatch(name)}
    for name in sorted(own - described.keys() - indices - {DATASET, BUILT}):
        yield Finding(name, "file", f"nothing: {DATASET} does not list it", "a file")
    if BUILT in found and found[BUILT] is None:
        yield Finding(BUILT, "file", "the note of the build", _no_file(found, BUILT))
    elif BUILT in found:
        with reaching(folder):
            text = (folder / BUILT).read_bytes()
        if not is_sealed(text):
            yield Finding(BUILT, "content", "as it was written", "something else")
    for name in sorted({JOURNAL, GONE} & found.keys()):
        yield Finding(name, "folder", "nothing: the build has finished", "its journal")
    if APPEND_FOLDER in found and size_of(folder / APPEND_FOLDER / ARRIVAL) is not None:
        yield Finding(APPEND_FOLDER, "folder", "nothing", "an append that was interrupted on its arrival")


def _no_file(found: dict[str, int | None], name: str) -> str:
    return "no file: a folder, a link that leads nowhere or the like" if name in found else "nothing"


def _sums(folder: Place, dataset: dict[str, Any]) -> Iterator[Finding]:
    """What dataset.json says of itself."""
    with reaching(folder):
        text = (folder / DATASET).read_bytes()
    if fault := seal_fault(text):
        yield Finding(DATASET, "content", "as it was written", fault)
    shards, counts = dataset["shards"], dataset["counts"]
    if (found := fingerprint(shards)) != dataset["fingerprint"]:
        yield Finding(DATASET, "fingerprint of the shard lines", dataset["fingerprint"], found)
    names = list(map(shard_name, range(len(shards))))
    if (listed := [shard["name"] for shard in shards]) != names:
        first = next(number for number, name in enumerate(listed) if name != names[number])
        yield Finding(DATASET, f"name of shard {first}", names[first], listed[first])
    rejected = sum(counts["images_rejected"].values())
    for what, expected, value in (
        ("images seen (= written + rejected)", counts["images_seen"], counts["images_written"] + rejected),
        ("images of the shards", counts["images_written"], sum(shard["images"] for shard in shards)),
        ("products of the shards", counts["products"], sum(shard["products"] for shard in shards)),
    ):
        if expected != value:
            yield Finding(DATASET, what, expected, value)


def _table_sums(folder: Place, dataset: dict[str, Any], before: list[Finding]) -> Iterator[Finding]:
    known = {finding.file for finding in before}
    for name, line in dataset["tables"].items():
        if name not in known and (found := sha256_of(folder / name)) != line["sha256"]:
            yield Finding(name, "sha256", line["sha256"], found)


def _shards(
    folder: Place,
    shards: list[dict[str, Any]],
    tables: bool,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[Finding]:
    """Walk all shards, in runs of neighbours; the findings in the order of the shards."""
    size, done = sum(shard["bytes"] for shard in shards), 0
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if size > ALONE_BYTES else 1
    workers = max(1, min(workers, len(shards)))
    blocks = 1 if workers == 1 else min(len(shards), BLOCKS_A_WORKER * workers)
    edges = [len(shards) * block // blocks for block in range(blocks + 1)]
    walks = [Walk(folder, shards, first, last, tables) for first, last in pairwise(edges)]
    found: dict[int, list[Finding]] = {}
    for number, findings in walked(walks[0]) if workers == 1 else walked_in_children(walks, workers):
        found[number] = findings
        done += shards[number]["bytes"]
        if progress is not None:
            progress(done, size)
    return [finding for number in sorted(found) for finding in found[number]]
