"""Small catalogues by the letter of docs/contracts.md, written without ``shards``: the contract from this side."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from skill_fast.data.index import CatalogueIndex, open_index


@dataclass
class Product:
    """What a test wants a product to be; photographs are (height, width) or JPEG bytes of its own."""

    key: str
    photographs: Sequence[tuple[int, int] | bytes]
    product_type: str = "shirt"
    color: str = "red"
    pattern: str = "dots"
    split: str = "train"
    attributes: dict[str, str] = field(default_factory=dict)


def drawn(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth colourful picture, [height, width, 3] uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling="4:2:0")
    return buffer.getvalue()


def fractional_sampling(file: bytes) -> bytes:
    """A JPEG whose markers are in order and that no decoder here takes: sampling factors of 3, 2 and 1."""
    frame = file.index(b"\xff\xc0\x00\x11")
    sampled = bytearray(file)
    for component, factors in enumerate((0x31, 0x21, 0x11)):
        sampled[frame + 11 + 3 * component] = factors
    return bytes(sampled)


def write_catalogue(folder: Path, products: Sequence[Product], shards: int = 1) -> Path:
    """Tars, tables and dataset.json; products are dealt to the shards in runs of equal length."""
    folder.mkdir(parents=True, exist_ok=True)
    image_rows: list[dict[str, object]] = []
    product_rows: list[dict[str, object]] = []
    shard_lines = []
    for shard, part in enumerate(np.array_split(np.arange(len(products)), shards)):
        name = f"shard-{shard:06d}.tar"
        first = len(image_rows)
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in part:
                _write_product(tar, shard, int(number), products[number], image_rows, product_rows)
        shard_lines.append(
            {"name": name, **_sizes(folder / name), "products": len(part), "images": len(image_rows) - first}
        )
    _write_tables(folder, image_rows, product_rows)
    manifest = {
        "format": "skill-shards",
        "version": 1,
        "options": {
            "source_format": "test",
            "preprocess": "none",
            "max_side": 512,
            "jpeg_quality": 90,
            "shard_mib": 256,
        },
        "counts": {
            "products": len(products),
            "images_seen": len(image_rows),
            "images_written": len(image_rows),
            "images_rejected": {},
        },
        "shards": shard_lines,
        "tables": {name: _sizes(folder / name) for name in ("images.parquet", "products.parquet")},
        "fingerprint": hashlib.sha256(json.dumps(shard_lines).encode()).hexdigest(),
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def _sizes(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Write one member; the offset of its first byte."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime, member.uid, member.gid = len(data), 0o644, 0, 0, 0
    offset = tar.offset + 512
    tar.addfile(member, io.BytesIO(data))
    return offset


def _write_product(
    tar: tarfile.TarFile,
    shard: int,
    number: int,
    product: Product,
    image_rows: list[dict[str, object]],
    product_rows: list[dict[str, object]],
) -> None:
    known = {
        "product_id": product.key,
        "product_type": product.product_type,
        "color": product.color,
        "pattern": product.pattern,
        "variant_group": "",
        "split": product.split,
    }
    _member(tar, f"{product.key}.json", json.dumps({**known, "attributes": product.attributes}).encode())
    row = {"key": product.key, **known, "attributes": json.dumps(product.attributes)}
    product_rows.append({**row, "first_image": len(image_rows), "images": len(product.photographs)})
    for view, photograph in enumerate(product.photographs):
        if isinstance(photograph, bytes):
            data, (height, width) = photograph, (64, 64)
        else:
            height, width = photograph
            data = jpeg(drawn(height, width, 1000 * number + view))
        offset = _member(tar, f"{product.key}.{view:02d}.jpg", data)
        image_rows.append(
            {
                "key": product.key,
                "view": view,
                "shard": shard,
                "offset": offset,
                "size": len(data),
                "crc32": zlib.crc32(data),
                "height": height,
                "width": width,
            }
        )


def _write_tables(folder: Path, image_rows: list[dict[str, object]], product_rows: list[dict[str, object]]) -> None:
    text = pa.string()
    numbers = {"view": "int32", "shard": "int32", "offset": "int64", "size": "int64", "crc32": "uint32"}
    numbers |= {"height": "int32", "width": "int32"}
    images = pa.schema([("key", text), *((name, getattr(pa, kind)()) for name, kind in numbers.items())])
    names = ("key", "product_id", "product_type", "color", "pattern", "variant_group", "split", "attributes")
    products = pa.schema([(n, text) for n in names] + [("first_image", pa.int64()), ("images", pa.int32())])
    pq.write_table(pa.Table.from_pylist(image_rows, schema=images), folder / "images.parquet")
    pq.write_table(pa.Table.from_pylist(product_rows, schema=products), folder / "products.parquet")


TYPES = ("shirt", "dress", "trousers", "chair", "rug", "shoes", "gadget")


def some_products(count: int, split: str = "train") -> list[Product]:
    """Products of all recipes with 1 to 5 photographs of odd sizes."""
    rng = np.random.default_rng(0)
    return [
        Product(
            key=f"{split}-p{i}",
            photographs=[(int(h), int(w)) for h, w in rng.integers(40, 90, (1 + i % 5, 2))],
            product_type=TYPES[i % len(TYPES)],
            color=("red", "blue", "green")[i % 3],
            split=split,
            attributes={"sleeve": "long"} if i % 2 else {},
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 products for training and 4 for testing in 5 shards; 70 + 10 photographs. Not to be changed by a test."""
    return write_catalogue(tmp_path_factory.mktemp("shards"), some_products(24) + some_products(4, "test"), shards=5)


@pytest.fixture(scope="session")
def index(folder: Path) -> CatalogueIndex:
    return open_index(folder)


@pytest.fixture
def catalogue(tmp_path: Path) -> Callable[..., Path]:
    """Writes a catalogue that the test may damage."""
    return lambda products, shards=1: write_catalogue(tmp_path / "shards", products, shards)


def flip_a_byte(index: CatalogueIndex, image: int) -> None:
    """Damage a photograph on disk; the index keeps the crc32 of what it was."""
    with open(index.shard_path(image), "r+b") as file:
        file.seek(int(index.offset[image] + index.size[image] // 2))
        old = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([old[0] ^ 0x55]))
