"""Products that one data set left out and another has: behind a merge they are written, and no rejects any more."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards.places import Place
from shards.rejects import PRODUCT_REASONS
from shards.tables import batches

_REASONS = pa.array([reason for reason in PRODUCT_REASONS if reason != "duplicate_product"])
"""Whose lines say that a product is not there; a duplicate is one because it is."""
_DIGEST_BYTES = 16


class Outdone:
    """The rows of the sources' rejected.parquet for products that one of them writes.

    Of each product that a source left out 16 bytes are kept; the products are gone through once where there is one.
    """

    def __init__(self, sources: Sequence[Place]) -> None:
        left_out = [_digests(_of_products(batch)["product_id"]) for batch in _rejects(sources)]
        asked = np.unique(np.concatenate([_digests([]), *left_out]))
        found = np.zeros(len(asked), bool)
        if len(asked):
            for source in sources:
                for batch in batches(source, "products.parquet", ["product_id"]):
                    found |= np.isin(asked, _digests(batch["product_id"]))
        self._written = asked[found]
        self.counts: Counter[str] = Counter()
        """By reason."""
        if len(self._written):
            for batch in _rejects(sources):
                self.counts.update(batch.filter(self._is_outdone(batch))["reason"].to_pylist())

    def without(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of rejected.parquet without these rows."""
        return batch.filter(pc.invert(self._is_outdone(batch))) if len(self._written) else batch

    def _is_outdone(self, batch: pa.RecordBatch) -> pa.Array:
        of_product = pc.is_in(batch["reason"], _REASONS)
        return pc.and_(of_product, pa.array(np.isin(_digests(batch["product_id"]), self._written)))


def _rejects(sources: Sequence[Place]) -> Iterable[pa.RecordBatch]:
    return (batch for source in sources for batch in batches(source, "rejected.parquet", ["product_id", "reason"]))


def _of_products(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.filter(pc.is_in(batch["reason"], _REASONS))


def _digests(ids: Iterable[object]) -> np.ndarray:
    """As many bytes as two ids do not share by chance."""
    raw = b"".join(hashlib.blake2b(str(text).encode("utf-8"), digest_size=_DIGEST_BYTES).digest() for text in ids)
    return np.frombuffer(raw, f"S{_DIGEST_BYTES}")
