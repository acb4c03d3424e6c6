"""Whether a place holds the very data set that a merge would write there, which a killed merge may have finished."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shards.index import DATASET, read_dataset
from shards.output import Output
from shards.own_files import GONE, JOURNAL
from shards.verify import verify


def merged_before(output: Output, options: dict[str, Any], counts: dict[str, Any], tables: Iterable[str]) -> bool:
    """Whether dataset.json is what the merge would write, and every file has the size that it names.

    ``options`` name the sources by their fingerprints; ``counts`` differ between ways with products of two sources.
    """
    if DATASET not in output.sizes():
        return False
    found = read_dataset(output.folder)
    if (found["options"], found["counts"], set(found["tables"])) != (options, counts, set(tables)):
        return False
    # A journal beside it is no fault: it is what the kill left.
    return all(finding.what == "folder" for finding in verify(output.folder).findings)


def tidy(output: Output) -> None:
    """Remove the journal that a killed merge has left, if any; raises BadUsage where one is still at work."""
    if {JOURNAL, GONE}.isdisjoint(output.sizes()):
        return
    output.take()
    try:
        output.remove_journal()
    finally:
        output.release()
