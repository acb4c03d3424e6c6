"""Bytes of photographs out of the shards, each one checked; what can not be used is counted and listed."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shards.places import Place
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.jpeg_look import fault
from skill_fast.data.open_shards import open_shards
from skill_fast.errors import BadData, StorageFailure, TooMuchSkipped

ATTEMPTS = 3
FIRST_WAIT_S = 0.1


@dataclass(frozen=True)
class SkipLimits:
    """How many photographs may be unusable before a run stops."""

    max_in_a_row: int = 100
    max_share: float = 0.001
    """Share of all photographs read, judged once ``judged_after`` were read."""
    judged_after: int = 1000


@dataclass
class Tally:
    """What was read for one sample: seen = used + skipped."""

    seen: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class Reader:
    """Reads photographs by (shard, offset, size) with pread, holds them against their crc32 and looks at their markers.

    ``counts`` has the times that a photograph was wanted and could not be used, by reason (``crc32``,
    ``undecodable``); ``photographs_read`` counts all that were wanted. Both are of what was settled: a sample that is
    read again, because only the decoder found a fault, counts as if the fault had been known. Each unusable photograph
    is listed once in ``skipped_path`` (JSON lines). Raises TooMuchSkipped over the limits, BadData where a shard
    vanished or shrank, StorageFailure where reading failed three times.
    """

    def __init__(
        self, index: CatalogueIndex, *, limits: SkipLimits | None = None, skipped_path: str | Path | None = None
    ) -> None:
        self.index = index
        self.limits = limits or SkipLimits()
        self.skipped_path = Path(skipped_path) if skipped_path is not None else None
        self._total = Tally()
        self.bad: dict[int, str] = {}
        self._details: dict[int, str] = {}
        self._listed: set[int] = set()
        self._examples: list[str] = []
        self._in_a_row = 0
        self.shards = open_shards(index.files, index.shard_names)

    @property
    def counts(self) -> Counter[str]:
        return self._total.skipped

    @property
    def photographs_read(self) -> int:
        return self._total.seen

    def read(self, image: int, *, epoch: int = 0, position: int = 0, tally: Tally | None = None) -> np.ndarray | None:
        """The JPEG's bytes, [size] uint8; None where they are not what the index says, or known to be undecodable.

        tally: where it is counted, for ``settle``; None counts at once.
        """
        mine = Tally() if tally is None else tally
        mine.seen += 1
        data = self._checked(image)
        if data is None:
            mine.skipped[self.bad[image]] += 1
            self._skip(image, epoch, position)
        else:
            self._in_a_row = 0
        if tally is None:
            self.settle([mine])
        return data

    def settle(self, tallies: Iterable[Tally]) -> None:
        """Count what samples that are used took; raises TooMuchSkipped where the share of skipped ones is too large."""
        for tally in tallies:
            self._total.seen += tally.seen
            self._total.skipped += tally.skipped
        skipped, seen = self._total.skipped.total(), self._total.seen
        if seen >= self.limits.judged_after and skipped > self.limits.max_share * seen:
            raise self._too_much(f"{skipped} of {seen} photographs")

    def _checked(self, image: int) -> np.ndarray | None:
        if image in self.bad:
            return None
        data, index = self._pread(image), self.index
        if zlib.crc32(data) != index.crc32[image]:
            self.mark_bad(image, "crc32", "the bytes are not those that were written")
        elif why := fault(data, int(index.height[image]), int(index.width[image])):
            self.mark_bad(image, "undecodable", why)
        else:
            return np.frombuffer(data, dtype=np.uint8)
        return None

    def mark_bad(self, image: int, reason: str, detail: str) -> None:
        """Have every ``read`` of this photograph skip it from now on."""
        self.bad[image], self._details[image] = reason, detail

    def close(self) -> None:
        self.shards.close()

    def _pread(self, image: int) -> bytes:
        index = self.index
        shard, offset, size = index.shard[image], index.offset[image], index.size[image]
        for attempt in range(ATTEMPTS):
            try:
                data = os.pread(self.shards.descriptor(shard), size, offset)
                break
            except OSError as error:
                self.shards.forget(shard)
                if attempt + 1 == ATTEMPTS:
                    raise self._lost(index.shard_path(image), error) from error
                time.sleep(FIRST_WAIT_S * 2**attempt)
        if len(data) < size:
            raise BadData(
                f"'{index.shard_path(image)}' shrank while it was read: "
                f"{os.fstat(self.shards.descriptor(shard)).st_size} bytes, a photograph needs bytes {offset} to "
                f"{offset + size}",
                allowed=f"{self.index.shard_bytes[shard]} bytes, as dataset.json says",
                change="bring the shard back, then resume from the last checkpoint",
            )
        return data

    def _lost(self, path: Place, error: OSError) -> BadData | StorageFailure:
        if isinstance(error, FileNotFoundError):
            return BadData(
                f"'{path}' vanished while it was in use",
                allowed="shards that stay where they are for the whole run",
                change="bring the shard back, then resume from the last checkpoint",
            )
        return StorageFailure(
            f"'{path}' could not be read, {ATTEMPTS} times: {error.strerror} (errno {error.errno})",
            change="look at the storage, then resume from the last checkpoint",
        )

    def _skip(self, image: int, epoch: int, position: int) -> None:
        self._in_a_row += 1
        if image not in self._listed:
            self._listed.add(image)
            self._examples.append(f"{self.bad[image]}: {self.index.describe(image)}: {self._details[image]}")
            self._list(image, epoch, position)
        if self._in_a_row > self.limits.max_in_a_row:
            raise self._too_much(f"{self._in_a_row} photographs in a row")

    def _too_much(self, how_many: str) -> TooMuchSkipped:
        reasons = ", ".join(f"{name} {count}" for name, count in Counter(self.bad.values()).most_common(5))
        return TooMuchSkipped(
            f"{how_many} could not be used; found bad so far: {reasons}\n  " + "\n  ".join(self._examples[:10]),
            allowed=f"at most {self.limits.max_in_a_row} in a row and {self.limits.max_share:.3%} of all",
            change="run skill-shards verify on the folder and build it again; or raise --loader.max-skipped-share, "
            "--loader.max-skipped-in-a-row",
        )

    def _list(self, image: int, epoch: int, position: int) -> None:
        if self.skipped_path is None:
            return
        line = {
            "reason": self.bad[image],
            "detail": self._details[image],
            "image": image,
            "product": self.index.product[image],
            "product_id": self.index.product_id(int(self.index.product[image])),
            "view": self.index.view[image],
            "shard": self.index.shard_path(image).name,
            "offset": self.index.offset[image],
            "size": self.index.size[image],
            "epoch": epoch,
            "position": position,
        }
        # One write of one line in append mode: ranks that share the file do not cut each other's lines.
        with open(self.skipped_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
