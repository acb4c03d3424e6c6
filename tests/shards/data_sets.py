"""Data sets of given products, made in place, and what lies in the folder of one."""

import json
from pathlib import Path
from typing import Any

from shards.build import build
from shards.verify import verify
from tests.shards.conftest import photograph


def made(folder: Path, products: dict[str, int], *, labels: dict[str, Any] | None = None, **options: Any) -> Path:
    """A data set of products (name -> photographs) in shards of one or two of them, with one reject."""
    lines = []
    for name, images in products.items():
        for view in range(images):
            path = photograph(
                folder / "photographs" / f"{name}-{view}.png", 17 + len(name), 20, seed=hash_of(folder, name, view)
            )
            lines.append({"product_id": name, "image_path": str(path)} | ((labels or {}).get(name, {})))
    lines.append({"product_id": next(iter(products)), "image_path": "gone.png"})
    (folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    build(folder / "catalogue.jsonl", folder / "out", workers=0, **{"shard_mib": 0.008, **options})
    return folder / "out"


def hash_of(*parts: Any) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate("".join(map(str, parts))[-12:])) % 2**32


def assert_whole(folder: Path) -> None:
    assert [str(finding) for finding in verify(folder, full=True, workers=1).findings] == []


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a final name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
