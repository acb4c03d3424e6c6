"""A shard as a stream: its bytes with their sha256, and the products that lie in it."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from shards.errors import BadData
from shards.keys import key_of
from shards.writer import BLOCK, Member, header, padded

LABELS = ("product_id", "product_type", "color", "pattern", "variant_group", "split")
"""Of KEY.json and products.parquet; ``attributes`` comes behind them."""
_READ_BYTES = 1 << 20
_NAME, _SIZE = slice(0, 100), slice(124, 135)


class TarStream:
    """Reads on and on, and keeps the sha256 of all that was read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size, self.place = size, 0
        self._file, self._sha256 = file, hashlib.sha256()

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end of the file."""
        data = self._file.read(max(0, min(size, self.size - self.place)))
        self._sha256.update(data)
        self.place += len(data)
        return data

    def finish(self) -> str:
        """Read the rest; the sha256 of the whole file."""
        while self.take(_READ_BYTES):
            pass
        return self._sha256.hexdigest()


class StoredProduct(NamedTuple):
    """A product as it lies in a tar."""

    key: str
    meta: bytes
    """KEY.json."""
    images: list[bytes]
    members: list[Member]
    """Of KEY.json, then of each image."""

    def record(self) -> dict[str, Any]:
        """KEY.json as a dict; raises ValueError where it is not what the format says."""
        try:
            record = json.loads(self.meta)
        except RecursionError as error:
            raise ValueError("JSON nested too deeply") from error
        if not isinstance(record, dict) or record.keys() != {*LABELS, "attributes"}:
            raise ValueError("not the fields of a product")
        if key_of(record["product_id"]) != self.key or json_of(record) != self.meta:
            raise ValueError("not as it was written")
        return record


def json_of(record: dict[str, Any]) -> bytes:
    """KEY.json of a product's labels and attributes."""
    named = {name: record[name] for name in (*LABELS, "attributes")}
    return json.dumps(named, ensure_ascii=False, allow_nan=False).encode("utf-8")


def stored_products(tar: TarStream, name: str) -> Iterator[StoredProduct]:
    """The products of a tar in order, one in memory at a time; raises BadData where the format is not kept."""
    following = _next(tar, name)
    while following is not None:
        key, _, extension = following[0].name.partition(".")
        if extension != "json":
            raise _damaged(name, following[0].offset - BLOCK, f"'{following[0].name}', expected a product's JSON")
        member, meta = following
        members: list[Member] = [member]
        images: list[bytes] = []
        while (following := _next(tar, name)) is not None and following[0].name == f"{key}.{len(images):02d}.jpg":
            members.append(following[0])
            images.append(following[1])
        yield StoredProduct(key, meta, images, members)


def _next(tar: TarStream, name: str) -> tuple[Member, bytes] | None:
    """The next member and its content; None at the end of the archive, which is read."""
    at, block = tar.place, tar.take(BLOCK)
    if not block.strip(b"\0"):
        end = -(-(at + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        if tar.size != end or tar.take(end - tar.place).strip(b"\0"):
            raise _damaged(name, at, f"the end of an archive of {end} bytes in a file of {tar.size}")
        return None
    try:
        member, size = block[_NAME].rstrip(b"\0").decode("ascii"), int(block[_SIZE], 8)
        fault = block != header(member, size)
    except ValueError:
        fault = True
    if fault:
        raise _damaged(name, at, "no header as the format has it")
    offset, content = tar.place, tar.take(size)
    if len(content) != size or tar.take(padded(size) - size).strip(b"\0"):
        raise _damaged(name, offset, f"'{member}' is cut, or followed by other bytes than zeros")
    return Member(member, offset, size, zlib.crc32(content)), content


def _damaged(name: str, at: int, what: str) -> BadData:
    return BadData(
        f"'{name}' is damaged at byte {at}: {what}", change="copy the shard again, or build the data set again"
    )
