"""What skill-shards writes is what the loader reads: the contract, both sides real."""

from __future__ import annotations

import numpy as np
import pytest

from shards.build import build
from skill_fast.data.index import open_index
from skill_fast.data.loader import EvaluationLoader, Loader, LoaderConfig
from skill_fast.data.views import ViewGroup
from skill_fast.errors import BadData


def test_the_loader_reads_what_was_built(tmp_path):
    build("demo", tmp_path / "demo", format="demo", designs=6, photo_side=40, seed=1, workers=0)
    index = open_index(tmp_path / "demo")
    views = (ViewGroup("global", (0, 1), 24, (0.4, 1.0)),)
    with Loader(index, views, global_batch=16, split=None, config=LoaderConfig(threads=1)) as loader:
        images = np.concatenate([next(loader).images[:, 0] for _ in range(loader.steps_per_epoch)])
        assert not loader.skipped
    assert sorted(images[: index.images]) == list(range(index.images))
    sizes = [photographs.shape[0] for _, photographs in EvaluationLoader(index, images[:10], resize=24, crop=24)]
    assert sum(sizes) == 10


def test_a_changed_dataset_json_is_found(tmp_path):
    build("demo", tmp_path / "demo", format="demo", designs=2, photo_side=40, seed=1, workers=0)
    path = tmp_path / "demo" / "dataset.json"
    text = path.read_text()
    open_index(path.parent)
    path.write_text(text.replace('"max_side": 512', '"max_side": 513'))
    with pytest.raises(BadData, match=r"dataset\.json' was changed after it was written"):
        open_index(path.parent)
