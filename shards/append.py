"""New products of a catalogue into a finished data set: built as it was built, moved in as new shards."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shards.append_write import ALREADY_THERE, BUILD, prepare
from shards.arrival import ARRIVAL, arrive, held, prepared
from shards.build import NothingWritten, build
from shards.counting import Progress
from shards.errors import BadData, BadUsage
from shards.index import APPEND_FOLDER, DATASET, read_dataset
from shards.lacking import KnownProducts, KnownRejects, Lacking, NothingNew
from shards.lock import LOCK
from shards.new_file import write_new
from shards.own_files import refuse_foreign, refuse_overlap
from shards.places import Place, place
from shards.selection import Selection
from shards.sources.catalogue import choose_format
from shards.sources.product import Catalogue, Product
from shards.summary import printable
from shards.torn_groups import check_groups, grouped_products
from shards.verify import verify

ON_DUPLICATE = ("error", "first")
REQUEST = "request.json"


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
            _begin(
                staging, {"source": str(source), "format": taken, "demo": demo_options, "to": dataset["fingerprint"]}
            )
            was_built = (staging / BUILD / DATASET).is_file()
            try:
                with KnownProducts(folder) as known, KnownRejects(folder) as listed:
                    narrow = Lacking(known, listed, on_duplicate, folder)
                    noted = _noted(narrow, folder, staging)
                    built = _build(staging / BUILD, source, dataset, noted, format=taken, **how, **demo_options)
            except (NothingNew, NothingWritten):
                _say_what_is_not_listed(narrow)
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


def _noted(narrow: Lacking, folder: Path, staging: Path) -> Callable[[Catalogue], Catalogue]:
    """Keeps how many products are there already, for a build that goes on in another process."""

    def noted(catalogue: Catalogue) -> Catalogue:
        try:
            left = narrow(catalogue)
        finally:
            _say_what_is_not_added(narrow.photographs_not_added)
        found = {"already_there": narrow.already_there, "photographs_not_added": narrow.photographs_not_added}
        write_new(staging / ALREADY_THERE, json.dumps(found).encode())
        _check_groups(folder, left)
        return left

    return noted


def _check_groups(folder: Path, left: Catalogue) -> None:
    """Raise BadData where a new product is in another split than its variant group, old products and new ones."""

    def products() -> Iterator[Product]:
        yield from grouped_products(folder)
        yield from (entry for entry in left.entries if isinstance(entry, Product))

    check_groups(
        products,
        f"'{folder}' with what is to be appended",
        "give the new products the splits of their groups, or build all anew with --split",
    )


def _say_what_is_not_added(photographs: int) -> None:
    if photographs:
        print(
            f"products that are there already have {photographs:,} more photographs in the source, which are not "
            "added: build these products apart and merge --on-duplicate merge",
            file=sys.stderr,
        )


def _say_what_is_not_listed(narrow: Lacking) -> None:
    if (first := narrow.first_not_listed) is not None:
        several = narrow.not_listed > 1
        line = (
            f"{narrow.not_listed:,} {'rows or files' if several else 'row or file'} of the source can not be used and "
            f"{'are' if several else 'is'} not listed, for nothing is added (first: {first.reason}, {first.detail})"
        )
        print(printable(line), file=sys.stderr)


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


def _begin(staging: Path, request: dict[str, Any]) -> None:
    """What another append, or one to another state of the data set, has prepared goes."""
    text = json.dumps(request, indent=1, sort_keys=True).encode()
    path = staging / REQUEST
    if path.is_file() and path.read_bytes() == text:
        return
    for old in staging.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name != LOCK:
            old.unlink()
    write_new(path, text)


def _build(
    out: Path, source: str | Place, dataset: dict[str, Any], narrow: Callable[[Catalogue], Catalogue], **how: Any
) -> dict[str, Any]:
    """The new products as a data set of their own; one that was finished before is taken as it is."""
    options = dataset["options"]
    same = {name: options[name] for name in ("preprocess", "max_side", "jpeg_quality", "shard_mib")}
    if (out / DATASET).is_file():
        return read_dataset(out)
    selection = Selection(types=tuple(options.get("types", ())), split=tuple(options.get("split", {}).items()))
    return build(
        source,
        out,
        **same,
        crop_to_item=options.get("crop_to_item", ()),
        drop_duplicates=options.get("drop_duplicates", ()),
        on_duplicate=options.get("on_duplicate", "error"),
        selection=selection,
        narrow=narrow,
        **how,
    )
