"""Tars and tables as they are written: headers, ends of archives, row groups."""

import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.index import describe
from shards.normalize import Jpeg
from shards.table_files import TABLES, TableWriter, batch_of
from shards.writer import ShardWriter, header


@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100),
    size=st.integers(0, 8**11 - 1),
)
def test_a_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    assert header(name, size) == member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def test_a_header_has_no_room_for_more() -> None:
    for name, size in (("n" * 101, 0), ("n", 8**11)):
        with pytest.raises(ValueError, match="no room"):
            header(name, size)


@pytest.mark.parametrize(("max_bytes", "shards"), [(5120, 1), (5119, 2)])
def test_the_blocks_that_end_an_archive_count_for_its_size(tmp_path: Path, max_bytes: int, shards: int) -> None:
    """Two products of 2 x (512 + 512) bytes and two blocks of 512; the padding to a whole record counts for nothing."""
    writer = ShardWriter(tmp_path, max_bytes)
    for key in ("a", "b"):
        writer.add(key, b"{}", [Jpeg(b"x" * 512, 1, 1)])
    writer.close()
    assert [shard.products for shard in writer.finished] == ([2] if shards == 1 else [1, 1])


@given(pieces=st.lists(st.integers(1, 9), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_table_depends_on_its_rows_alone(pieces: list[int], tmp_path: Path) -> None:
    """However the rows come: one by one, in batches, or both, with row groups of seven."""
    rows = [(f"key-{number}", number, "near", "key", 0, number % 5) for number in range(sum(pieces))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shards.table_files.ROW_GROUP", 7)
        alone, mixed = (TableWriter(tmp_path / name, "duplicates.parquet") for name in _folders(tmp_path))
        for row in rows:
            alone.add(*row)
        done = 0
        for number, count in enumerate(pieces):
            part = rows[done : done + count]
            done += count
            if number % 3:
                mixed.add_batch(batch_of(part, TABLES["duplicates.parquet"]))
            else:
                for row in part:
                    mixed.add(*row)
        alone.close()
        mixed.close()
    assert alone.path.read_bytes() == mixed.path.read_bytes() and alone.line == mixed.line == describe(mixed.path)
    table = pq.ParquetFile(mixed.path)
    groups = [table.metadata.row_group(number).num_rows for number in range(table.num_row_groups)]
    assert sum(groups) == len(rows) and all(count == 7 for count in groups[:-1])
    assert [tuple(row.values()) for row in table.read().to_pylist()] == rows


def _folders(tmp_path: Path) -> tuple[str, str]:
    for name in ("alone", "mixed"):
        (tmp_path / name).mkdir(exist_ok=True)
    return "alone", "mixed"
