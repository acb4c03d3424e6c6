"""Lines of a text file, local or remote, plain or gzipped, in memory that does not grow with the file or its lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shards.errors import BadData
from shards.places import Place
from shards.sources.rows import BadRow

MAX_LINE_BYTES = 16 << 20
_BLOCK = 1 << 20
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class Lines:
    """Iterates over lines of UTF-8 with their ends; a byte-order mark is dropped.

    A line that can not be used raises BadRow, and the next call goes on behind it: one that is longer than
    MAX_LINE_BYTES, or one that is not UTF-8 in a file that otherwise is. A file whose first line beyond ASCII is not
    UTF-8 is taken to be in another encoding as a whole and raises BadData.
    """

    def __init__(self, file: io.BufferedIOBase, path: Place) -> None:
        self._file, self._path = file, path
        self.number = 0
        """Of the line given last; the first is 1."""
        self._seen_utf8 = False

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE_BYTES + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            raw = self._without_mark(raw)
        if len(raw) > MAX_LINE_BYTES:
            raise BadRow(f"a line of {self._skip(raw)} bytes, allowed: {MAX_LINE_BYTES}")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._not_utf8(raw, error) from error
        self._seen_utf8 = self._seen_utf8 or len(text) != len(raw)
        return text

    def _skip(self, raw: bytes) -> int:
        size = len(raw)
        while not raw.endswith(b"\n") and (raw := self._file.readline(_BLOCK)):
            size += len(raw)
        return size

    def _without_mark(self, raw: bytes) -> bytes:
        if encoding := _MARKS.get(raw[:2]):
            raise self._other_encoding(f"it begins with the mark of {encoding}")
        self._seen_utf8 = raw.startswith(b"\xef\xbb\xbf")
        return raw.removeprefix(b"\xef\xbb\xbf")

    def _not_utf8(self, raw: bytes, error: UnicodeDecodeError) -> Exception:
        fault = f"byte {error.start + 1} of line {self.number} is 0x{raw[error.start]:02x}"
        if self._seen_utf8:
            return BadRow(f"not UTF-8: {fault}")
        return self._other_encoding(fault)

    def _other_encoding(self, fault: str) -> BadData:
        return BadData(
            f"'{self._path}' is not UTF-8: {fault}",
            allowed="UTF-8, with or without a byte-order mark",
            change="convert it, for example: iconv -f latin1 -t utf-8",
        )


@contextmanager
def open_lines(path: Place) -> Iterator[Lines]:
    """The lines of ``path``; a name that ends in .gz is decompressed."""
    opened: Any
    with path.open("rb") as opened:
        if path.name.endswith(".gz"):
            # A buffer around it would lose up to its own size of good lines before a damaged place.
            yield Lines(gzip.GzipFile(fileobj=opened), path)
        else:
            # Files of object storage have a readline without a limit; a buffer around them has one.
            yield Lines(io.BufferedReader(opened, _BLOCK), path)


def numbered(lines: Lines) -> Iterator[tuple[int, str | BadRow]]:
    """Lines that are not blank, with their numbers; a damaged gzip file ends with a BadRow that says so."""
    while True:
        try:
            if line := next(lines).rstrip():
                yield lines.number, line
        except StopIteration:
            return
        except BadRow as error:
            yield lines.number, error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield lines.number + 1, BadRow(f"the gzip file is damaged from here on, its rest is lost: {error}")
            return
