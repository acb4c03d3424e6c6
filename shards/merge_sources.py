"""What data sets must be to be merged: apart from the place that is written to, whole, and built in the same way.

All of it is asked before anything is written, for what lies at that place may be replaced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.errors import BadData, BadUsage
from shards.identity import same_option
from shards.index import read_dataset
from shards.places import Place, is_within
from shards.table_checks import check_readable
from shards.verify import verify

PIXEL_OPTIONS: dict[str, Any] = {"preprocess": None, "max_side": None, "jpeg_quality": None, "crop_to_item": []}
"""What decides how a photograph is stored, with its value in data sets from before the option."""
SAME_OPTIONS = PIXEL_OPTIONS | {"split": {}}
"""Other splits would put products of one variant group into several."""


def check_apart(out: Place, sources: Sequence[Place]) -> None:
    """Raises BadUsage where what is written would replace what is read, by whatever name it goes."""
    if not sources:
        raise BadUsage("a merge needs one source or more", change="name a data set")
    for source in sources:
        if any(is_within(out, home) or is_within(home, out) for home in _homes(source)):
            raise BadUsage(
                f"'{out}' and '{source}' are the same place, or one is within the other",
                allowed="sources apart from the place that is written to",
                change="name another place to write to",
            )


def _homes(source: Place) -> set[Place]:
    """Where the files of a data set are: its folder, and what links within it lead to."""
    if not isinstance(source, Path) or not source.is_dir():
        return {source}
    with os.scandir(source) as found:
        # One that leads to no file has no home, and is a finding of its own.
        linked = (entry.path for entry in found if entry.is_symlink() and os.path.isfile(entry.path))
        return {source, *(Path(os.path.realpath(path)).parent for path in linked)}


def opened(source: Place) -> dict[str, Any]:
    """dataset.json of a source whose files have the sizes that it names, and whose tables can be read."""
    if findings := verify(source).findings or check_readable(source, read_dataset(source)):
        raise BadData(
            f"'{source}' is damaged: {findings[0]}" + (f" and {len(findings) - 1} more" if findings[1:] else ""),
            allowed="data sets without findings",
            change="skill-shards verify names all of them; skill-shards repair mends what can be derived",
        )
    return read_dataset(source)


def merged_options(sources: Sequence[Place], datasets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all sources agree in; raises BadUsage where they differ in an option that decides pixels or splits."""
    all_options = [dataset["options"] for dataset in datasets]
    for name, before in SAME_OPTIONS.items():
        for source, options in zip(sources[1:], all_options[1:], strict=True):
            first, other = all_options[0].get(name, before), options.get(name, before)
            if not same_option(first, other):
                raise BadUsage(
                    f"'{sources[0]}' was built with {name} {first or 'none'}, '{source}' with {other or 'none'}",
                    allowed="data sets whose photographs were stored, and whose products were split, in the same way",
                    change="build one of them again",
                )
    same = {
        name: value
        for name, value in all_options[0].items()
        if name != "merged_from" and all(name in options and options[name] == value for options in all_options)
    }
    same.setdefault("source_format", "merged")
    same["shard_mib"] = max(options.get("shard_mib", 0) for options in all_options)
    return same | {"merged_from": [dataset["fingerprint"] for dataset in datasets]}
