"""What tests of the loader share: two groups of small views, and batches taken from a loader of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.views import ViewGroup

VIEWS = (ViewGroup("global", (0, 1), 32, (0.4, 1.0)), ViewGroup("local", (0, 0), 16, (0.05, 0.4)))
CONFIG = LoaderConfig(threads=1, window_shards=2)
GENEROUS = replace(CONFIG, max_skipped_share=1.0)


def take(count, index, views=VIEWS, config=CONFIG, state=None, **kwargs):
    options = {"global_batch": 16, "seed": 5} | kwargs
    with Loader(index, views, config=config, **options) as loader:
        if state:
            loader.load_state_dict(state)
        return [next(loader) for _ in range(count)]


def equal(a, b) -> bool:
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("positions", "images", "products"))
    return (
        arrays and (a.epoch, a.step) == (b.epoch, b.step) and all(torch.equal(a.crops[k], b.crops[k]) for k in a.crops)
    )
