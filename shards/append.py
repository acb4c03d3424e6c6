"""New products of a catalogue into a finished data set: built as it was built, moved in as new shards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from shards.append_build import begin, build_new, noting, say_what_is_not_listed
from shards.append_write import BUILD, prepare
from shards.arrival import ARRIVAL, arrive, held, prepared
from shards.build import NothingWritten
from shards.counting import Progress
from shards.errors import BadData, BadUsage
from shards.index import APPEND_FOLDER, DATASET, read_dataset
from shards.lacking import KnownProducts, KnownRejects, Lacking, NothingNew
from shards.own_files import refuse_foreign, refuse_overlap
from shards.places import Place, place, source_name
from shards.sources.catalogue import choose_format
from shards.verify import verify

ON_DUPLICATE = ("error", "first")


def append(
    source: str | Place,
    out: str | Place,
    *,
    format: str | None = None,
    on_duplicate: str = "first",
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    **demo_options: int,
) -> dict[str, Any]:
    """Add the products of ``source`` that ``out`` lacks, in new shards, and return the new dataset.json.

    on_duplicate: what becomes of a product that the data set has: "first", it stays as it is, and is counted under
    "appended" in dataset.json's options; or "error". The others are those of ``build``; everything that decides bytes
    is as the data set was built.

    The new products are a build of their own in OUT/.append: the same call goes on after any interruption, and where
    that build was finished it adds behind it what the source has gained since. Until they arrive (``arrival.py``) the
    data set is the old one. Where the source has nothing new, or nothing new can be used, nothing changes. What the
    data set lists as rejected is not listed or counted again, other rejects are. Photographs are not compared with
    those of older products. Raises what ``build`` raises but for that; BadData for a damaged data set; BadUsage for a
    place in object storage, a data set that was capped, and "merge", which would change finished shards.
    """
    how: dict[str, Any] = {"workers": workers, "engine": engine, "ray_address": ray_address, "progress": progress}
    how |= demo_options
    return append_told(source, out, format=format, on_duplicate=on_duplicate, **how).dataset


class Appended(NamedTuple):
    """What an append has done."""

    dataset: dict[str, Any]
    products: int
    """That were added, without the following."""
    already_there: int
    """Products of the source that the data set had before these."""
    prepared_before: int
    """Products that an interrupted append had prepared, and that have arrived."""


def append_told(
    source: str | Place,
    out: str | Place,
    *,
    format: str | None = None,
    on_duplicate: str = "first",
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    **demo_options: int,
) -> Appended:
    """``append``, and how many products came; same arguments, same errors."""
    folder = place(out)
    _check(folder, on_duplicate)
    assert isinstance(folder, Path)
    refuse_foreign(folder)
    taken = format or choose_format(source)
    if taken != "demo":
        refuse_overlap(folder, source)
    prepared_before = 0
    if (folder / APPEND_FOLDER / ARRIVAL).is_file():
        with held(folder):
            arrive(folder)
        prepared_before += _last_appended(read_dataset(folder))["products"]
        # Whether products were known was asked before these were.
        on_duplicate = "first"
    read_dataset(folder)
    how = {"workers": workers, "engine": engine, "ray_address": ray_address, "progress": progress}
    while True:
        with held(folder) as staging:
            dataset = _whole(folder)
            begin(
                staging,
                {"source": source_name(source), "format": taken, "demo": demo_options, "to": dataset["fingerprint"]},
            )
            was_built = (staging / BUILD / DATASET).is_file()
            try:
                with KnownProducts(folder) as known, KnownRejects(folder) as listed:
                    narrow = Lacking(known, listed, on_duplicate, folder)
                    noted = noting(narrow, folder, staging)
                    built = build_new(staging / BUILD, source, dataset, noted, format=taken, **how, **demo_options)
            except (NothingNew, NothingWritten):
                say_what_is_not_listed(narrow)
                shutil.rmtree(staging)
                return Appended(dataset, 0, narrow.already_there, prepared_before)
            except BadData:
                if not any((staging / BUILD).glob("*.tar")):
                    shutil.rmtree(staging)
                raise
            prepared(folder, prepare(folder, staging, dataset, built))
            arrive(folder)
        dataset = read_dataset(folder)
        came = _last_appended(dataset)
        if not was_built:
            return Appended(dataset, came["products"], came["already_there"], prepared_before)
        # The source may have more by now than when this was built.
        prepared_before, on_duplicate = prepared_before + came["products"], "first"


def _last_appended(dataset: dict[str, Any]) -> dict[str, Any]:
    return dict(dataset["options"]["appended"][-1])


def _check(folder: Place, on_duplicate: str) -> None:
    if on_duplicate not in ON_DUPLICATE:
        raise BadUsage(
            f"on_duplicate is {on_duplicate!r}",
            allowed=", ".join(ON_DUPLICATE),
            change="to add photographs to products that are there, build them apart, then merge --on-duplicate merge"
            if on_duplicate == "merge"
            else "",
        )
    if not isinstance(folder, Path):
        raise BadUsage(
            f"'{folder}' is in object storage",
            allowed="a local folder",
            change="build the new products apart and merge",
        )


def _whole(folder: Path) -> dict[str, Any]:
    dataset = read_dataset(folder)
    if findings := verify(folder).findings:
        raise BadData(f"'{folder}' is damaged: {findings[0]}", change="skill-shards repair, then the same command")
    if cap := dataset["options"].get("cap_per_type"):
        raise BadUsage(
            f"'{folder}' was built with at most {cap} products of each type",
            allowed="data sets without a cap: nobody can say which of the new products are within it",
            change="build it again from the whole catalogue",
        )
    return dataset
