"""Texts that occur more than once in columns too long to be held as texts: 8 bytes of each are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_DIGEST_BYTES = 8


def repeated(columns: Callable[[], Iterable[pa.Array]]) -> list[tuple[int, int]]:
    """(row, first row with the same text) of each text that was there before, in the order of rows.

    columns: gives the parts of the column, from its start each time; it is called twice where something may repeat.
    Rows are counted through all parts.
    """
    hashes = np.concatenate([np.empty(0, np.uint64), *map(_hashes, columns())])
    candidates = _more_than_once(hashes)
    if not len(candidates):
        return []
    # Equal hashes are not yet equal texts.
    rows = np.flatnonzero(np.isin(hashes, candidates))
    first: dict[str, int] = {}
    found = []
    for row, text in _texts(columns(), rows):
        if text in first:
            found.append((row, first[text]))
        else:
            first[text] = row
    return found


def repeated_texts(column: Iterable[pa.Array]) -> int:
    """How many texts other than "" occur more than once."""
    parts = (part.filter(pc.not_equal(part, "")) for part in column)
    return len(_more_than_once(np.concatenate([np.empty(0, np.uint64), *map(_hashes, parts)])))


def with_several(columns: Iterable[tuple[pa.Array, pa.Array]]) -> int:
    """How many texts of the first column have different ones beside them in the second; "" counts in neither.

    Of each row 12 bytes are kept.
    """
    texts, beside = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
    codes: dict[str, int] = {}
    for first, second in columns:
        both = pc.and_(pc.not_equal(first, ""), pc.not_equal(second, ""))
        texts.append(_hashes(first.filter(both)))
        own = [codes.setdefault(text, len(codes)) for text in second.filter(both).to_pylist()]
        beside.append(np.array(own, np.int32))
    hashes, others = np.concatenate(texts), np.concatenate(beside)
    order = np.lexsort((others, hashes))
    hashes, others = hashes[order], others[order]
    several = (hashes[1:] == hashes[:-1]) & (others[1:] != others[:-1])
    return len(np.unique(hashes[1:][several]))


def _more_than_once(hashes: np.ndarray) -> np.ndarray:
    ascending = np.sort(hashes)
    return np.unique(ascending[1:][ascending[1:] == ascending[:-1]])


def _hashes(column: pa.Array) -> np.ndarray:
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8"), digest_size=_DIGEST_BYTES).digest() for text in column.to_pylist()
    )
    return np.frombuffer(digests, np.uint64)


def _texts(columns: Iterable[pa.Array], rows: np.ndarray) -> Iterator[tuple[int, str]]:
    place = 0
    for column in columns:
        low, high = np.searchsorted(rows, [place, place + len(column)])
        own = rows[low:high]
        yield from zip(own.tolist(), column.take(pa.array(own - place)).to_pylist(), strict=True)
        place += len(column)
