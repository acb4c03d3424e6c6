"""Rows of a table in a file, numbered: CSV or JSON Lines, in memory that does not grow with the file.

A reader yields (row number, row as a dict or BadRow), and hands the columns to ``check`` before the first row.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from shards.errors import BadData
from shards.places import Place
from shards.sources.lines import Lines, open_lines
from shards.sources.rows import MAX_FIELD_CHARACTERS, BadRow, parse_json

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | BadRow]]
Check = Callable[[list[str]], None]
REQUIRED = ("product_id", "image_path")
GOES_ON = "a quoted cell that goes on in the next line (is a quote left open?)"


class _PhysicalLines:
    """Hands lines to a csv.reader; a row may take ``limit``, and those that it should not have taken come once more."""

    def __init__(self, lines: Lines, limit: int) -> None:
        self.row: list[str] = []
        """Lines of the row that is being read; whoever reads the next one clears it."""
        self._lines, self._limit = lines, limit
        self._again: deque[str | BadRow] = deque()

    def __iter__(self) -> _PhysicalLines:
        return self

    def __next__(self) -> str:
        if len(self.row) == self._limit:
            raise BadRow(GOES_ON)
        try:
            line = self._again.popleft() if self._again else next(self._lines)
            if isinstance(line, BadRow):
                raise line
        except BadRow as error:
            if not self.row:
                raise
            # A line within an open quote that can not be used has its own place among the bad rows.
            self._again.appendleft(error)
            raise BadRow(GOES_ON) from error
        self.row.append(line)
        return line

    def give_back(self) -> None:
        """All lines of the row but its first are read once more, each as the beginning of a row."""
        self._again.extendleft(reversed(self.row[1:]))


def read_csv(path: Place, check: Check, row_lines: int = 1) -> Rows:
    """Rows of a CSV; the header is row 1. Comma, semicolon or tab, whichever the header has most of.

    row_lines: how many lines a row may take, by line breaks in quoted cells. A row that takes more, or has not the
    header's cells by then, or swallows a line that is a whole row, is bad for its first line alone.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with open_lines(path) as lines:
        header, delimiter = _header(path, lines)
        check(header)
        source = _PhysicalLines(lines, row_lines)
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        number, is_open = 1, False
        while True:
            number += 1
            source.row.clear()
            try:
                cells = _cells(reader, source, len(header), delimiter)
                if is_open and _has_odd_quotes(source.row):
                    raise BadRow("the end of a quoted cell that began in an earlier line, or a quote too many")
            except StopIteration:
                return
            except BadRow as error:
                is_open = str(error) == GOES_ON or (is_open and not _has_odd_quotes(source.row))
                yield number, error
                continue
            if cells:
                yield number, dict(zip(header, cells, strict=True))
            else:
                number -= 1


def _header(path: Place, lines: Lines) -> tuple[list[str], str]:
    """Names of the columns, and the delimiter."""
    try:
        first = next(lines, "")
        if "\r" in first.removesuffix("\n").removesuffix("\r"):
            raise BadData(
                f"the lines of '{path}' end in a carriage return alone",
                allowed="line feeds, or carriage return and line feed",
                change="convert it, for example: tr '\\r' '\\n'",
            )
        delimiter = max(",;\t", key=first.count)
        return [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])], delimiter
    except (BadRow, csv.Error) as error:
        raise BadData(f"the header of '{path}' can not be read: {error}", change="write it again as CSV") from error


def _cells(reader: Iterator[list[str]], source: _PhysicalLines, width: int, delimiter: str) -> list[str]:
    """Cells of the next row, [] of an empty line; raises BadRow, and the lines behind its first come again."""
    fault = ""
    try:
        cells = next(reader)
        if cells and len(cells) != width:
            fault = f"{len(cells)} cells, the header has {width}"
        elif any(_width(line, delimiter) == width for line in source.row[1:]):
            fault = GOES_ON
    except csv.Error as error:
        fault = _told(str(error))
    except BadRow as error:
        fault = str(error)
    if not fault:
        return cells
    source.give_back()
    raise BadRow(GOES_ON if len(source.row) > 1 else fault)


def _has_odd_quotes(lines: list[str]) -> bool:
    return sum(line.count('"') for line in lines) % 2 == 1


def _width(line: str, delimiter: str) -> int:
    """Cells of a line on its own."""
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _told(fault: str) -> str:
    """Python's words for a fault, or ours where they speak to programmers."""
    if fault.startswith("new-line character"):
        return "a carriage return within the line, outside of quotes"
    return GOES_ON if fault == "unexpected end of data" else fault


def read_json_lines(path: Place, check: Check) -> Rows:
    """Rows of JSON Lines; the first line is row 1, empty lines count. The columns are those of the first object."""
    checked = False
    with open_lines(path) as lines:
        while True:
            try:
                line = next(lines)
                if not line.strip():
                    continue
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise BadRow(f"a JSON {type(row).__name__}, allowed: an object")
            except StopIteration:
                return
            except BadRow as error:
                yield lines.number, error
                continue
            if not checked:
                check(list(row))
                checked = True
            yield lines.number, row
