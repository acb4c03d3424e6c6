"""Cosine similarities in blocks of queries, so that a gallery of any size fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TIE_DECIMALS = 6
"""Similarities closer than float32 can tell apart are ties; each score says how it treats ties."""

BLOCK_VALUES = 1 << 24
"""Similarities held at a time (64 MiB of float32)."""


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm; a zero row stays zero. [n, D] any float -> [n, D] float32."""
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def similarity_blocks(queries: np.ndarray, gallery: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cosine similarity of every query to every gallery row, a block of queries at a time.

    queries [q, D], gallery [g, D] -> (places of the block's queries [b] int64, similarities [b, g] float32).
    """
    queries, gallery = unit_rows(queries), unit_rows(gallery)
    rows = max(1, BLOCK_VALUES // max(1, len(gallery)))
    for start in range(0, len(queries), rows):
        places = np.arange(start, min(start + rows, len(queries)))
        block = queries[places] @ gallery.T
        yield places, np.round(block, TIE_DECIMALS, out=block)
