"""The new products of an append as a build of their own in OUT/.append, which goes on after an interruption.

It is built as the data set was, from what the catalogue has and the data set lacks; what is left out is told.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shards.append_write import ALREADY_THERE
from shards.build import build
from shards.index import DATASET, read_dataset
from shards.lacking import Lacking
from shards.lock import LOCK
from shards.new_file import write_new
from shards.places import Place
from shards.rejects import PASSING
from shards.selection import Selection
from shards.sources.product import Catalogue, Product
from shards.summary import printable
from shards.torn_groups import check_groups, grouped_products

REQUEST = "request.json"


def begin(staging: Path, request: dict[str, Any]) -> None:
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


def build_new(
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


def noting(narrow: Lacking, folder: Path, staging: Path) -> Callable[[Catalogue], Catalogue]:
    """Keeps how many products are there already, for a build that goes on in another process."""

    def noted(catalogue: Catalogue) -> Catalogue:
        try:
            left = narrow(catalogue)
        finally:
            _say_what_is_not_added(narrow.photographs_not_added)
            _say_what_may_be_tried_again(narrow.photographs_to_try_again)
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


def _say_what_may_be_tried_again(photographs: int) -> None:
    if photographs:
        print(
            f"products that are there already lack {photographs:,} rejected photographs that may be good by now "
            f"({', '.join(PASSING)}), which are not tried again: build these products apart and merge "
            "--on-duplicate merge",
            file=sys.stderr,
        )


def say_what_is_not_listed(narrow: Lacking) -> None:
    if (first := narrow.first_not_listed) is not None:
        several = narrow.not_listed > 1
        line = (
            f"{narrow.not_listed:,} {'rows or files' if several else 'row or file'} of the source can not be used and "
            f"{'are' if several else 'is'} not listed, for nothing is added (first: {first.reason}, {first.detail})"
        )
        print(printable(line), file=sys.stderr)
