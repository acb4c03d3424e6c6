"""Products -> tar shards: ustar, fixed metadata, known offsets; a product is never split over two shards.

A shard is written under a temporary name and renamed when it is complete and on disk.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shards.normalize import Jpeg

BLOCK = tarfile.BLOCKSIZE
PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True)
class Member:
    """Where a member's bytes lie within its shard."""

    name: str
    offset: int
    """Of the first byte of the content, not of the header."""
    size: int
    crc32: int


@dataclass(frozen=True)
class Shard:
    """A line of dataset.json."""

    name: str
    bytes: int
    sha256: str
    products: int
    images: int


def member_names(key: str, images: int) -> list[str]:
    """KEY.json, KEY.00.jpg, KEY.01.jpg ...; three digits from the hundredth on."""
    return [f"{key}.json", *(f"{key}.{view:02d}.jpg" for view in range(images))]


def header(name: str, size: int) -> bytes:
    """The 512 bytes of a ustar header with everything fixed but name and size."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime, member.uid, member.gid = size, 0o644, 0, 0, 0
    member.uname = member.gname = ""
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def dali_index(samples: Sequence[Sequence[Member]]) -> bytes:
    """DALI's index v1.2 of one tar: a count, then a line a product with extension, offset, size and name a member."""
    lines = [f"v1.2 {len(samples)}"]
    for members in samples:
        lines.append(" ".join(f"{m.name.partition('.')[2]} {m.offset} {m.size} {m.name}" for m in members))
    return ("\n".join(lines) + "\n").encode("ascii")


class ShardWriter:
    """Writes shards in order into ``folder``; ``max_bytes`` is kept unless one product alone is larger."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.finished: list[Shard] = []
        self._file: BinaryIO | None = None
        self._number = -1

    @property
    def shard(self) -> int:
        """Number of the shard that the last product went to."""
        return self._number

    def add(self, key: str, meta: bytes, images: Sequence[Jpeg]) -> list[Member]:
        """Append one product and return its members, the JSON first."""
        contents = [meta, *(image.data for image in images)]
        size = sum(BLOCK + padded(len(content)) for content in contents)
        if self._file is None or (self._products and self._offset + size + 2 * BLOCK > self.max_bytes):
            self._roll()
        members = [
            self._append(name, data) for name, data in zip(member_names(key, len(images)), contents, strict=True)
        ]
        self._samples.append(members)
        self._products += 1
        self._images += len(images)
        return members

    def close(self) -> None:
        """Finish the last shard."""
        if self._file is None:
            return
        # Two zero blocks end an archive; tar pads it to a whole record.
        end = self._offset + 2 * BLOCK
        self._write(b"\0" * (-(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - self._offset))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        name = f"shard-{self._number:06d}.tar"
        os.replace(self.folder / (name + PARTIAL_SUFFIX), self.folder / name)
        (self.folder / name).with_suffix(".idx").write_bytes(dali_index(self._samples))
        self.finished.append(Shard(name, self._offset, self._sha256.hexdigest(), self._products, self._images))

    def abandon(self) -> None:
        """Drop the unfinished shard, after an error."""
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None

    def _roll(self) -> None:
        self.close()
        self._number += 1
        self._file = (self.folder / f"shard-{self._number:06d}.tar{PARTIAL_SUFFIX}").open("wb", buffering=1 << 20)
        self._sha256 = hashlib.sha256()
        self._offset = self._products = self._images = 0
        self._samples: list[list[Member]] = []

    def _append(self, name: str, data: bytes) -> Member:
        self._write(header(name, len(data)))
        member = Member(name, self._offset, len(data), zlib.crc32(data))
        self._write(data)
        self._write(b"\0" * (padded(len(data)) - len(data)))
        return member

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._sha256.update(data)
        self._offset += len(data)
