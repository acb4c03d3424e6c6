"""The journal of a build, OUT/.build/: what is done, so that the same command goes on behind it after any interruption.

    build.json          source, options and versions: what decides the bytes of the whole data set
    part-000000.rows    the rows that came with shard 0: frames of "TABLE BYTES\\n" and an Arrow stream
    part-000000.json    written last: the shard's line, how many entries of the catalogue it covers, the digest
                        of all up to here, and the counts of the build so far

A part holds what came before its shard was closed: the products of the shard, and what was left out between them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.errors import BadData
from shards.index import sha256_of
from shards.new_file import NewFile
from shards.places import Place, reaching
from shards.table_files import TABLES, batch_of
from shards.writer import Shard

IDENTITY = "build.json"
ROWS_A_FRAME = 4096


def rows_name(number: int) -> str:
    return f"part-{number:06d}.rows"


def head_name(number: int) -> str:
    return f"part-{number:06d}.json"


def is_head(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".json")


@dataclass(frozen=True)
class Part:
    """What ``part-N.json`` says."""

    number: int
    shard: Shard
    index_bytes: int
    entries: int
    """Of the catalogue, behind those of the part before."""
    digest: str
    """``Covered.hexdigest`` at the end of this part: of all entries up to here."""
    rows_bytes: int
    rows_sha256: str
    last: bool
    """Whether the catalogue ended here; else the next product had no room in the shard."""
    done: dict[str, Any]
    """``Progress.saved`` at the end of this part."""

    def dumped(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8")


def loaded(text: bytes) -> Part:
    """The part that ``dumped`` wrote; raises ValueError for anything else."""
    try:
        fields = json.loads(text)
        return Part(**{**fields, "shard": Shard(**fields["shard"])})
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"no part of a build: {error}") from error


class Covered:
    """The entries of a catalogue that were dealt with: their digest, over their identities from the first one on."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, identity: bytes) -> None:
        # With its length in front, so that no two lists of identities have the same bytes.
        self._digest.update(b"%d\n%s" % (len(identity), identity))

    def copy(self) -> Covered:
        other = Covered()
        other._digest = self._digest.copy()
        return other

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class PartWriter:
    """Takes the rows of one part as they come; they go to disk from time to time, so memory does not grow.

    covered: the entries before this part; it goes on with those of the part.
    """

    def __init__(self, journal: Path, number: int, covered: Covered) -> None:
        self.number, self.path = number, journal / rows_name(number)
        self.entries = 0
        """Of the catalogue, that were covered."""
        self._file = NewFile(self.path)
        self._rows: dict[str, list[Sequence[Any]]] = {name: [] for name in TABLES}
        self._covered = covered

    def cover(self, identity: bytes) -> None:
        """Count one entry of the catalogue as dealt with."""
        self.entries += 1
        self._covered.add(identity)

    def add(self, table: str, row: Sequence[Any]) -> None:
        rows = self._rows[table]
        rows.append(row)
        if len(rows) == ROWS_A_FRAME:
            self._flush(table)

    def finish(self) -> None:
        """Bring the rows to disk."""
        for table in TABLES:
            self._flush(table)
        self._file.commit()

    def close(self, shard: Shard, index_bytes: int, *, last: bool, done: dict[str, Any]) -> Part:
        """Finish; the part counts once what is returned stands in its file."""
        self.finish()
        return Part(
            number=self.number,
            shard=shard,
            index_bytes=index_bytes,
            entries=self.entries,
            digest=self._covered.hexdigest(),
            rows_bytes=self._file.bytes,
            rows_sha256=self._file.sha256,
            last=last,
            done=done,
        )

    def abandon(self) -> None:
        self._file.abandon()

    def _flush(self, table: str) -> None:
        rows, self._rows[table] = self._rows[table], []
        if not rows:
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, TABLES[table]) as stream:
            stream.write_batch(batch_of(rows, TABLES[table]))
        content = sink.getvalue()
        self._file.write(b"%s %d\n" % (table.encode(), content.size))
        self._file.write(memoryview(content))


def frames(rows: Place) -> Iterator[tuple[str, pa.RecordBatch]]:
    """(table, rows) in the order in which they were written; raises BadData where it is not what PartWriter writes."""
    with reaching(rows), rows.open("rb") as file:
        while line := file.readline():
            try:
                table, size = line.decode("ascii").split()
                content = file.read(int(size))
                for batch in pa.ipc.open_stream(content):
                    yield table, batch
            except (ValueError, pa.ArrowException) as error:
                raise BadData(f"'{rows}' is damaged: {error}", change="remove its folder and build again") from error


def rows_fault(part: Part, rows: Place) -> str:
    """What shows that the rows are not the ones of the part; "" where nothing does."""
    found = sha256_of(rows)
    return "" if found == part.rows_sha256 else f"the rows of {part.shard.name} have sha256 {found}"
