"""Products -> tar shards: ustar, fixed metadata, known offsets; a product is never split over two shards.

A shard is written under a temporary name and renamed when it is complete and on disk.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shards.new_file import PARTIAL_SUFFIX, NewFile
from shards.normalize import Jpeg
from shards.places import Place

__all__ = ["PARTIAL_SUFFIX", "Member", "Shard", "ShardWriter", "dali_index", "header", "member_names", "padded"]
BLOCK = tarfile.BLOCKSIZE
NAME_BYTES = 100


class Member(NamedTuple):
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


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def index_name(shard: str) -> str:
    """The name of a shard's index for DALI."""
    return shard.removesuffix(".tar") + ".idx"


def member_names(key: str, images: int) -> list[str]:
    """KEY.json, KEY.00.jpg, KEY.01.jpg ...; three digits from the hundredth on."""
    return [f"{key}.json", *(f"{key}.{view:02d}.jpg" for view in range(images))]


def _template() -> bytes:
    member = tarfile.TarInfo("")
    member.mode, member.mtime, member.uid, member.gid = 0o644, 0, 0, 0
    member.uname = member.gname = ""
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


_TEMPLATE = _template()
_IDS, _MTIME, _REST = _TEMPLATE[NAME_BYTES:124], _TEMPLATE[135:148], _TEMPLATE[156:]
_FIXED_SUM = sum(_IDS + _MTIME + b" " * 8 + _REST)


def header(name: str, size: int) -> bytes:
    """The 512 bytes of a ustar header with everything fixed but name and size.

    name[100] mode uid gid | size[12] | mtime | checksum[8]: the sum of all bytes, its own as spaces | the rest
    """
    raw, digits = name.encode("ascii"), b"%011o" % size
    if len(raw) > NAME_BYTES or len(digits) > 11:
        raise ValueError(f"ustar has no room for the name {name!r} with {size} bytes")
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(raw) + sum(digits))
    return b"".join((raw.ljust(NAME_BYTES, b"\0"), _IDS, digits, _MTIME, checksum, _REST))


def padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def dali_index(samples: Sequence[Sequence[Member]]) -> bytes:
    """DALI's index v1.2 of one tar: a count, then a line a product with extension, offset, size and name a member."""
    return _index([_index_line(members) for members in samples])


def _index(lines: Sequence[str]) -> bytes:
    return "\n".join([f"v1.2 {len(lines)}", *lines, ""]).encode("ascii")


def _index_line(members: Sequence[Member]) -> str:
    return " ".join([f"{name.partition('.')[2]} {offset} {size} {name}" for name, offset, size, _ in members])


class ShardWriter:
    """Writes shards in order into ``folder``; ``max_bytes`` is kept unless one product alone is larger.

    first: number of the first shard. on_finished: is called with each shard when its tar and index are on disk, before
    anything goes to the next one.
    """

    def __init__(
        self, folder: Place, max_bytes: int, *, first: int = 0, on_finished: Callable[[Shard], None] | None = None
    ) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.finished: list[Shard] = []
        self.bytes = 0
        """Of all that was written, the open shard included."""
        self._file: NewFile | None = None
        self._number = first - 1
        self.on_finished = on_finished

    @property
    def shard(self) -> int:
        """Number of the shard that the last product went to."""
        return self._number

    @property
    def open_shard(self) -> int | None:
        """Number of the shard that is being written; None before the first product, as behind finished ones."""
        return None if self._file is None else self._number

    def add(self, key: str, meta: bytes, images: Sequence[Jpeg]) -> list[Member]:
        """Append one product and return its members, the JSON first."""
        contents = [meta, *[image.data for image in images]]
        size = sum([BLOCK + padded(len(content)) for content in contents])
        if self._file is None or (self._products and self._file.bytes + size + 2 * BLOCK > self.max_bytes):
            self._roll()
        assert self._file is not None
        members: list[Member] = []
        pieces: list[bytes] = []
        offset = self._file.bytes
        for name, data in zip(member_names(key, len(images)), contents, strict=True):
            length = len(data)
            members.append(Member(name, offset + BLOCK, length, zlib.crc32(data)))
            pieces += (header(name, length), data, b"\0" * (-length % BLOCK))
            offset += BLOCK + length + -length % BLOCK
        self._file.write(b"".join(pieces))
        self.bytes += size
        self._index_lines.append(_index_line(members))
        self._products += 1
        self._images += len(images)
        return members

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes of the open shard."""
        assert self._file is not None
        return self._file.read_at(offset, size)

    def close(self) -> None:
        """Finish the last shard."""
        if self._file is None:
            return
        file = self._file
        # Two zero blocks end an archive; tar pads it to a whole record.
        end = file.bytes + 2 * BLOCK
        file.write(b"\0" * (-(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - file.bytes))
        index = NewFile(self.folder / index_name(file.path.name))
        try:
            index.write(_index(self._index_lines))
            index.commit()
            file.commit()
        except BaseException:
            index.abandon()
            raise
        self._file = None
        shard = Shard(file.path.name, file.bytes, file.sha256, self._products, self._images)
        self.finished.append(shard)
        if self.on_finished is not None:
            self.on_finished(shard)

    def abandon(self) -> None:
        """Drop the unfinished shard, after an error."""
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _roll(self) -> None:
        self.close()
        self._number += 1
        self._file = NewFile(self.folder / shard_name(self._number))
        self._products = self._images = 0
        self._index_lines: list[str] = []
