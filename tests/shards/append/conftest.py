"""A catalogue that grows, and a data set of what it was before."""

import json
from pathlib import Path

import pytest

from shards.build import build
from tests.shards.conftest import photograph


def catalogue(folder: Path, products: dict[str, int], name: str = "catalogue") -> Path:
    """A manifest of products (name -> photographs), each in a colour; "bad" has an empty file too."""
    lines = []
    for product, images in products.items():
        for view in range(images):
            path = folder / "photographs" / f"{product}-{view}.png"
            if not path.exists():
                photograph(path, 16 + len(product), 18, seed=sum(map(ord, product)) * 10 + view)
            lines.append({"product_id": product, "image_path": str(path), "color": f"color of {product}"})
        if product.startswith("bad"):
            (folder / "photographs" / "empty.png").touch()
            lines.append({"product_id": product, "image_path": str(folder / "photographs" / "empty.png")})
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / f"{name}.jsonl"


OLD = {"a": 1, "bad": 2, "c": 3}
NEW = {"d": 2, "bad2": 1, "e": 1, "f": 3}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    build(catalogue(tmp_path, OLD), tmp_path / "out", shard_mib=0.01, max_side=32, workers=0)
    return tmp_path / "out"


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """The catalogue with what was new in it behind what was there."""
    return catalogue(tmp_path, OLD | NEW, "grown")
