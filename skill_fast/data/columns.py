"""Columns of the tables, kept in as few bytes as their values need; what follows from others is not kept at all."""

from __future__ import annotations

from typing import Any

import numpy as np

Rows = Any
"""A row, an array of rows, a slice, or a mask over all rows."""


class Column:
    """Whole numbers by row, as int (one row) or int64 array, whatever the type that they are kept in.

    Widening on the way out is what makes narrow types safe: arithmetic on values can not wrap around.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Rows) -> Any:
        found = self.values[rows]
        return found.astype(np.int64) if isinstance(found, np.ndarray) else int(found)

    def tolist(self) -> list[int]:
        return self[:].tolist()

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


class Owner:
    """Which of several adjoining runs of rows a row lies in: ``starts`` has the first row of each run, ascending.

    The runs may be empty; a row belongs to the last run that starts at or before it. The type of starts holds ``rows``.
    """

    nbytes = 0

    def __init__(self, starts: Column, rows: int) -> None:
        self._starts, self._rows = starts, rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: Rows) -> Any:
        rows = row_numbers(rows, self._rows)
        # Needles of the same type: else numpy widens the whole of starts for every search.
        found = np.searchsorted(self._starts.values, rows.astype(self._starts.values.dtype), side="right") - 1
        return found.astype(np.int64) if found.ndim else int(found)

    def tolist(self) -> list[int]:
        return self[:].tolist()


class Within:
    """Place of a row within its run: row - starts[owner[row]]."""

    nbytes = 0

    def __init__(self, owner: Owner, starts: Column) -> None:
        self._owner, self._starts = owner, starts

    def __len__(self) -> int:
        return len(self._owner)

    def __getitem__(self, rows: Rows) -> Any:
        rows = row_numbers(rows, len(self))
        found = rows - self._starts[self._owner[rows]]
        return found if rows.ndim else int(found)

    def tolist(self) -> list[int]:
        return self[:].tolist()


class GrowingColumn:
    """A column that is filled from the front; it is as narrow as the values so far allow, and widened when need be.

    rows: how many there will be.
    """

    def __init__(self, rows: int) -> None:
        self._values = np.empty(rows, dtype=np.uint8)
        self._filled = 0

    def extend(self, values: np.ndarray) -> None:
        """Append values, none of them negative."""
        self._widen(int(values.max(initial=0)))
        self._values[self._filled : self._filled + len(values)] = values
        self._filled += len(values)

    def column(self, largest: int = 0) -> Column:
        """What was filled, of a type that also holds ``largest``."""
        self._widen(largest)
        return Column(self._values[: self._filled])

    def _widen(self, largest: int) -> None:
        needed = np.min_scalar_type(largest)
        if needed.itemsize > self._values.itemsize:
            wider = np.empty(len(self._values), dtype=needed)
            wider[: self._filled] = self._values[: self._filled]
            self._values = wider


def row_numbers(rows: Rows, count: int) -> np.ndarray:
    """``rows`` as int64 row numbers of a table of ``count`` rows; IndexError beyond its ends."""
    if isinstance(rows, int | np.integer) and 0 <= rows < count:
        return np.asarray(rows, dtype=np.int64)
    if isinstance(rows, slice):
        return np.arange(*rows.indices(count), dtype=np.int64)
    numbers = np.asarray(rows)
    if numbers.dtype == bool:
        return np.flatnonzero(numbers)
    numbers = numbers.astype(np.int64)
    numbers = np.where(numbers < 0, numbers + count, numbers)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
        raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {count}")
    return numbers
