"""What a catalogue has that a data set lacks."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from shards.errors import BadData
from shards.keys import key_of
from shards.places import Place, size_of
from shards.rejects import IMAGE_REASONS, OF_PIXELS, PASSING, Reject
from shards.sources.drawing import Drawing
from shards.sources.product import Catalogue, Photograph, Product, name_of
from shards.sources.spool import full_disk_named
from shards.tables import batches

_CACHE_KIB = 64 << 10
_WHAT = "the ids of what the data set has"


class _InTemporaryFolder(sqlite3.Connection):
    """Raises StorageFailure where the temporary folder is full, which any look-up may find out by writing old pages."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        with full_disk_named(_WHAT, tempfile.gettempdir()):
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        with full_disk_named(_WHAT, tempfile.gettempdir()):
            return super().executemany(*arguments)


class _Known:
    """A set of texts on disk; memory does not grow with their number."""

    def __init__(self) -> None:
        descriptor, path = tempfile.mkstemp(prefix="known-", suffix=".sqlite")
        os.close(descriptor)
        self._base = sqlite3.connect(path, isolation_level=None, factory=_InTemporaryFolder)
        # Nothing of it outlives a crash, so nothing is done for it to survive one.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KIB}"):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute("CREATE TABLE known (key TEXT PRIMARY KEY, photographs INTEGER) WITHOUT ROWID")
        self._base.execute(
            "CREATE TABLE lost (key TEXT, path TEXT, reason TEXT, PRIMARY KEY (key, path)) WITHOUT ROWID"
        )
        self._base.execute("BEGIN")
        os.unlink(path)

    def _add(self, keys: Iterable[str], photographs: Iterable[int] = repeat(0)) -> None:
        self._base.executemany("INSERT OR IGNORE INTO known VALUES (?, ?)", zip(keys, photographs, strict=False))

    def _has(self, key: str) -> bool:
        return self._base.execute("SELECT 1 FROM known WHERE key = ?", (key,)).fetchone() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._base.close()


class KnownProducts(_Known):
    """The products of a data set, each with the number of its photographs that were written or rejected."""

    def __init__(self, folder: Place) -> None:
        super().__init__()
        for batch in batches(folder, "products.parquet", ["key", "images"]):
            self._add(batch["key"].to_pylist(), batch["images"].to_pylist())
        more = "UPDATE known SET photographs = photographs + 1 WHERE key = ?"
        for batch in batches(folder, "rejected.parquet", ["product_id", "image_path", "reason"]):
            for row in batch.to_pylist():
                if row["product_id"] and row["reason"] in OF_PIXELS:
                    key = key_of(row["product_id"])
                    self._base.execute(more, (key,))
                    if row["reason"] == "missing_file" or row["reason"] in PASSING:
                        lost = (key, row["image_path"], row["reason"])
                        self._base.execute("INSERT OR IGNORE INTO lost VALUES (?, ?, ?)", lost)

    def __contains__(self, product_id: str) -> bool:
        return bool(product_id) and self._has(key_of(product_id))

    def gained(self, product: Product) -> int:
        """How many photographs more the source has for a known product: beyond their number, or missing until now."""
        key = key_of(product.product_id)
        found = self._base.execute("SELECT photographs FROM known WHERE key = ?", (key,))
        more = max(0, len(product.photographs) - int(found.fetchone()[0]))
        return more + self._there_now(key, product, ("missing_file",))

    def to_try_again(self, product: Product) -> int:
        """How many photographs of a known product are there, and were rejected for what may have passed since."""
        return self._there_now(key_of(product.product_id), product, PASSING)

    def _there_now(self, key: str, product: Product, reasons: Sequence[str]) -> int:
        rows = self._base.execute("SELECT path, reason FROM lost WHERE key = ?", (key,))
        lost = {path for path, reason in rows if reason in reasons}
        return sum(name_of(p) in lost and _is_there(p) for p in product.photographs if lost)


def _is_there(photograph: Photograph) -> bool:
    return isinstance(photograph, Drawing) or size_of(photograph) is not None


class KnownRejects(_Known):
    """The rejects of a data set, by product, path and reason."""

    def __init__(self, folder: Place) -> None:
        super().__init__()
        for batch in batches(folder, "rejected.parquet"):
            self._add(map(_reject_key, batch.to_pylist()))

    def __contains__(self, reject: Reject) -> bool:
        return self._has(_reject_key(vars(reject)))

    def new_rows(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        """What of a batch of rejected.parquet is not known, and how many of each reason are."""
        known = [self._has(_reject_key(row)) for row in batch.to_pylist()]
        is_known = pa.array(known, pa.bool_())
        return batch.filter(pc.invert(is_known)), Counter(batch["reason"].filter(is_known).to_pylist())


def _reject_key(row: dict[str, str]) -> str:
    parts = [row["product_id"], row["image_path"], row["reason"]]
    # Rows that name neither differ in what is said of them alone.
    text = json.dumps(parts if any(parts[:2]) else [*parts, row["detail"]])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class NothingNew(Exception):
    """The data set has every product of the catalogue."""


class Lacking:
    """Leaves a catalogue without the products of a data set, and without the rejects of these that it lists."""

    def __init__(self, known: KnownProducts, listed: KnownRejects, on_duplicate: str, folder: Place) -> None:
        self._known, self._listed, self._on_duplicate, self._folder = known, listed, on_duplicate, folder
        self.already_there = 0
        """Products of the catalogue that the data set has."""
        self.photographs_not_added = 0
        """Of these, beyond the number that was seen before."""
        self.photographs_to_try_again = 0
        """Of these, rejected for what may have lain in the machine that built them."""
        self.not_listed = 0
        """Rejects of the catalogue itself that the data set does not list."""
        self.first_not_listed: Reject | None = None

    def __call__(self, catalogue: Catalogue) -> Catalogue:
        """Goes through the catalogue once, to count what is to be seen.

        Raises NothingNew where no product is, and BadData at the first known one where that is an error.
        """
        products = images = self.already_there = self.photographs_not_added = self.not_listed = 0
        self.photographs_to_try_again = 0
        for entry in catalogue.entries:
            known = entry.product_id in self._known
            if isinstance(entry, Reject):
                listed = entry in self._listed
                images += not (known and listed) and entry.reason in IMAGE_REASONS
                self.not_listed += not listed
                self.first_not_listed = self.first_not_listed or (None if listed else entry)
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
                self.photographs_not_added += self._known.gained(entry)
                self.photographs_to_try_again += self._known.to_try_again(entry)
        if not products:
            raise NothingNew
        return replace(catalogue, entries=_New(catalogue, self._known, self._listed), images=images)


class _New:
    """The entries that are left, and a reject for each product that has gained photographs.

    Can be gone through again.
    """

    def __init__(self, catalogue: Catalogue, known: KnownProducts, listed: KnownRejects) -> None:
        self._catalogue, self._known, self._listed = catalogue, known, listed

    def __iter__(self) -> Iterator[Product | Reject]:
        for entry in self._catalogue.entries:
            if entry.product_id not in self._known or (isinstance(entry, Reject) and entry not in self._listed):
                yield entry
            elif isinstance(entry, Product) and (gained := self._known.gained(entry)):
                why = f"was there before; {gained} of its {len(entry.photographs)} photographs are new and not added"
                yield Reject(entry.product_id, "", "duplicate_product", why)
