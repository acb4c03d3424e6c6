"""Rows by product on disk: the order of first mention for any mixture, bounded memory, a full disk."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import StorageFailure
from shards.sources import spool
from shards.sources.spool import Lookup, Spool

MEASURE = """
import sys
from pathlib import Path
from shards.sources import spool
from shards.sources.manifest import catalogue

def peak_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

spool.CACHE_KIB = 1024
for path in sys.argv[1:]:
    found = catalogue(Path(path))
    print(sum(1 for _ in found.entries), found.images, peak_mib())
"""


def gathered(records: list[tuple[str | None, int]]) -> list[list[int]]:
    """The definition: a dictionary remembers the order in which its names came first."""
    groups: dict[object, list[int]] = {}
    for number, (product, value) in enumerate(records):
        groups.setdefault((number, "alone") if product is None else product, []).append(value)
    return list(groups.values())


@given(st.lists(st.none() | st.sampled_from(["a", "b", "A", "", "é", "\udcff", "x" * 99]), max_size=30), st.booleans())
def test_groups_come_in_the_order_of_first_mention(products: list[str | None], adjacent: bool) -> None:
    if adjacent:
        products.sort(key=str)
    records = [(product, value) for value, product in enumerate(products)]
    filled = Spool()
    for product, value in records:
        filled.add(product, json.dumps(value))
    expected = gathered(records)
    assert list(filled.groups()) == expected and list(filled.groups()) == expected
    assert filled.records == len(records)
    again = min((group[1], group[0]) for group in expected if len(group) > 1) if len(expected) < len(records) else None
    assert filled.repeated() == (again and again[::-1])


def test_more_than_a_batch_scattered_and_adjacent() -> None:
    for scatter in (1, 7919):
        rows = [f"p{i * scatter % 10_007 // 3}" for i in range(10_007)]
        filled = Spool()
        for i, product in enumerate(rows):
            filled.add(product, str(i))
        assert list(filled.groups()) == gathered([(product, i) for i, product in enumerate(rows)])


def test_a_lookup_keeps_the_first() -> None:
    found = Lookup([("0101", "a"), ("101", "b"), ("0101", "c")])
    assert (found.get("0101"), found.get("101"), found.get("1")) == ("a", "b", None)


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_TABLES", "PRAGMA max_page_count = 30;" + spool._TABLES)
    filled = Spool()
    with pytest.raises(StorageFailure, match="database or disk is full") as caught:
        for i in range(10_000):
            filled.add(f"p{i}", "0" * 100)
    assert "TMPDIR" in caught.value.change


def test_an_error_of_ours_is_not_taken_for_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_GROUPED", "SELECT 1 FROM nowhere ORDER BY {order}")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        list(Spool().groups())


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A7: ids in any order. With a cache of 1 MiB, 20,000 rows of 1,040 bytes may take no more than 2,000 do."""
    paths = [tmp_path / f"{count}.csv" for count in (2_000, 20_000)]
    for path, count in zip(paths, (2_000, 20_000), strict=True):
        rows = (f"id-{i * 7919 % (count // 2):07d},{i:07d}.jpg,{'x' * 1000}\n" for i in range(count))
        path.write_text("product_id,image_path,note\n" + "".join(rows))
    output = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True).stdout
    small, large = ([float(value) for value in line.split()] for line in output.splitlines())
    assert (small[:2], large[:2]) == ([1_000, 2_000], [10_000, 20_000])
    # 21 MB of rows went through; SQLite's sorter and Python's own allocator get a few MiB.
    assert large[2] - small[2] < 8, output
