"""What a catalogue has that a data set lacks."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

from shards.errors import BadData
from shards.keys import key_of
from shards.places import Place
from shards.rejects import IMAGE_REASONS, Reject
from shards.sources.product import Catalogue, Product
from shards.tables import batches

_CACHE_KIB = 64 << 10


class KnownProducts:
    """The products of a data set, on disk; memory does not grow with their number."""

    def __init__(self, folder: Place) -> None:
        descriptor, path = tempfile.mkstemp(prefix="known-", suffix=".sqlite")
        os.close(descriptor)
        self._base = sqlite3.connect(path, isolation_level=None)
        # Nothing of it outlives a crash, so nothing is done for it to survive one.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KIB}"):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute("CREATE TABLE known (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("BEGIN")
        os.unlink(path)
        for batch in batches(folder, "products.parquet", ["key"]):
            keys = ((key,) for key in batch["key"].to_pylist())
            self._base.executemany("INSERT OR IGNORE INTO known VALUES (?)", keys)

    def __contains__(self, product_id: str) -> bool:
        if not product_id:
            return False
        found = self._base.execute("SELECT 1 FROM known WHERE key = ?", (key_of(product_id),))
        return found.fetchone() is not None

    def __enter__(self) -> KnownProducts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._base.close()


class NothingNew(Exception):
    """The data set has every product of the catalogue."""


class Lacking:
    """Leaves a catalogue without the products of a data set, and without the rejects that name one of them."""

    def __init__(self, known: KnownProducts, on_duplicate: str, folder: Place) -> None:
        self._known, self._on_duplicate, self._folder = known, on_duplicate, folder
        self.already_there = 0
        """Products of the catalogue that the data set has."""

    def __call__(self, catalogue: Catalogue) -> Catalogue:
        """Goes through the catalogue once, to count what is to be seen.

        Raises NothingNew where no product is, and BadData at the first known one where that is an error.
        """
        products = images = self.already_there = 0
        for entry in catalogue.entries:
            known = entry.product_id in self._known
            if isinstance(entry, Reject):
                images += not known and entry.reason in IMAGE_REASONS
            elif not known:
                products, images = products + 1, images + len(entry.photographs)
            elif self._on_duplicate == "error":
                raise BadData(
                    f"product '{entry.product_id}' is in '{self._folder}' already",
                    allowed="new products",
                    change="--on-duplicate first leaves those that are there as they are",
                )
            else:
                self.already_there += 1
        if not products:
            raise NothingNew
        return replace(catalogue, entries=_New(catalogue, self._known), images=images)


class _New:
    """The entries that are left; can be gone through again."""

    def __init__(self, catalogue: Catalogue, known: KnownProducts) -> None:
        self._catalogue, self._known = catalogue, known

    def __iter__(self) -> Iterator[Product | Reject]:
        return (entry for entry in self._catalogue.entries if entry.product_id not in self._known)
