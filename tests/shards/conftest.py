"""Small photographs, catalogues and data sets made in place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.build import build

# Their asserts say what they found, as those of the tests do.
pytest.register_assert_rewrite("tests.shards.data_sets", "tests.shards.golden_pixels", "tests.shards.sources.trees")


def photograph(path: Path, width: int = 61, height: int = 47, seed: int = 0) -> Path:
    """A smooth coloured photograph without any white, so that trimming leaves it whole."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = [120 + 80 * np.sin(x * a + y * b) for a, b in rng.uniform(0.02, 0.2, (3, 2))]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """Six products of two types with 1 to 3 photographs; strange names among the products."""
    root = tmp_path / "catalogue"
    names = ["shirt/s 1", "shirt/s.2", "shirt/Größe", "dress/d-10", "dress/d-9", "dress/" + "long" * 30]
    for number, name in enumerate(names):
        for view in range(1 + number % 3):
            photograph(root / name / f"{view}.png", 40 + 7 * number, 52 - 3 * view, seed=10 * number + view)
    return root


@pytest.fixture
def dataset(catalogue: Path, tmp_path: Path) -> Path:
    """The catalogue as shards of one or two products each."""
    out = tmp_path / "dataset"
    build(catalogue, out, shard_mib=0.01, workers=0)
    return out


@pytest.fixture
def singles(tmp_path: Path) -> Path:
    """Nine products of one photograph each; at ONE_EACH every one fills a shard."""
    for number in range(9):
        photograph(tmp_path / "c" / f"p{number}" / "0.png", 60, 60, seed=number)
    return tmp_path / "c"
