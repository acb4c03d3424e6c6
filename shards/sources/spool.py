"""Rows gathered by product on disk: millions of rows in any order, in memory that does not grow with them.

SQLite keeps the records in a private temporary file (in $TMPDIR, else /var/tmp or /tmp) that it has already unlinked,
so nothing is left behind however the process ends; its sorter merges runs from disk.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shards.errors import StorageFailure

CACHE_KIB = 32_768
"""Pages that SQLite may hold; also the size of a sorted run."""
BATCH = 4096
_FULL = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_GETTEMPPATH")
_TABLES = """
CREATE TABLE records (n INTEGER PRIMARY KEY, product BLOB NOT NULL, record TEXT NOT NULL);
CREATE TABLE later (n INTEGER PRIMARY KEY, first INTEGER NOT NULL);
"""
# "later" holds the records whose product was mentioned before, with the number of that first mention.
_ARRANGE = """
INSERT INTO later
SELECT n, first FROM (SELECT n, min(n) OVER (PARTITION BY product) AS first FROM records)
WHERE first < n ORDER BY n
"""
_SCATTERED = """
SELECT EXISTS (SELECT 1 FROM later AS a WHERE a.n - 1 > a.first
               AND NOT EXISTS (SELECT 1 FROM later AS b WHERE b.n = a.n - 1 AND b.first = a.first))
"""
_GROUPED = """
SELECT coalesce(later.first, records.n) AS first, record FROM records LEFT JOIN later ON later.n = records.n
ORDER BY {order}
"""


class Spool:
    """Takes records, each of a product or alone; gives them back by product, in the order of first mention.

    for first in order of first mention: yield all records of that product, in their own order

    Records are what JSON can hold. Raises StorageFailure where the temporary folder is full.
    """

    def __init__(self) -> None:
        self._database = _open(_TABLES)
        self._waiting: list[tuple[int, bytes, str]] = []
        self._arranged = False
        self.records = 0

    def add(self, product_id: str | None, record: str) -> None:
        """Take one record, a JSON text; product_id None is a record that belongs to no other."""
        number = self.records
        self.records += 1
        # Digests are 16 bytes long: the number in 8 can not be one.
        product = number.to_bytes(8, "big") if product_id is None else digest(product_id)
        self._waiting.append((number, product, record))
        if len(self._waiting) == BATCH:
            self._flush()

    def repeated(self) -> tuple[Any, Any] | None:
        """The first record whose product was mentioned before, behind that product's first record."""
        with full_disk_named("the catalogue's rows", _folder()):
            self._arrange()
            found = self._database.execute("SELECT first, n FROM later ORDER BY n LIMIT 1").fetchone()
            return found and tuple(self._record(number) for number in found)

    def groups(self) -> Iterator[list[Any]]:
        """The records of each product, in the order of first mention."""
        with full_disk_named("the catalogue's rows", _folder()):
            self._arrange()
            # Where products are not mixed the records lie in order, and sorting them again would cost a second copy.
            scattered = self._database.execute(_SCATTERED).fetchone()[0]
            rows = self._database.execute(_GROUPED.format(order="first, records.n" if scattered else "records.n"))
            for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                yield [json.loads(record) for _, record in group]

    def _record(self, number: int) -> Any:
        return json.loads(self._database.execute("SELECT record FROM records WHERE n = ?", (number,)).fetchone()[0])

    def _arrange(self) -> None:
        if not self._arranged:
            self._flush()
            self._database.execute(_ARRANGE)
            self._arranged = True

    def _flush(self) -> None:
        with full_disk_named("the catalogue's rows", _folder()):
            self._database.executemany("INSERT INTO records VALUES (?, ?, ?)", self._waiting)
        self._waiting = []

    def __del__(self) -> None:
        with suppress(AttributeError):
            self._database.close()


class Lookup:
    """A dictionary of texts on disk; the first value of a name stays."""

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._database = _open("CREATE TABLE items (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        with full_disk_named("the catalogue's rows", _folder()):
            self._database.executemany("INSERT OR IGNORE INTO items VALUES (?, ?)", items)

    def get(self, name: str) -> str | None:
        found = self._database.execute("SELECT value FROM items WHERE name = ?", (name,)).fetchone()
        return found and found[0]

    def __del__(self) -> None:
        with suppress(AttributeError):
            self._database.close()


def digest(product_id: str) -> bytes:
    """16 bytes that stand for an id of any length."""
    return hashlib.blake2b(product_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _open(tables: str) -> sqlite3.Connection:
    # An empty name is SQLite's word for a private file on disk. One thread uses it at a time, not always the same one.
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for pragma in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(tables)
    # One transaction for all there is: nothing is ever rolled back.
    database.execute("BEGIN")
    return database


def _folder() -> str:
    """Where SQLite has its private files: the first of its own list that it may write to."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
    return next((name for name in named if name and os.path.isdir(name) and os.access(name, os.W_OK | os.X_OK)), ".")


@contextmanager
def full_disk_named(what: str, folder: str) -> Iterator[None]:
    """Turns SQLite's error where a temporary folder has no room for ``what`` into StorageFailure."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in _FULL:
            raise
        raise StorageFailure(
            f"the temporary folder '{folder}' can not hold {what}: {error}",
            allowed=f"a folder with room for about 1.5 times the size of {what}",
            change="set TMPDIR to such a folder",
        ) from error
