"""The loader as a whole: one set of crops for every world size and resume point; how it starts, ends and refuses.

What replaces bad photographs is in test_stand_ins.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.sampler import Sampler
from skill_fast.data.views import GenericAugmentation, ViewGroup
from skill_fast.errors import BadData, BadUsage
from tests.data.batches import CONFIG, VIEWS, equal, take
from tests.data.conftest import some_products


def test_a_batch_is_what_the_contract_says(index):
    batches = take(6, index)
    assert [(b.epoch, b.step) for b in batches] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    for batch in batches:
        assert batch.crops["global"].shape == (2, 16, 3, 32, 32) and batch.crops["local"].shape == (2, 16, 3, 16, 16)
        assert all(c.dtype == torch.float32 and c.is_contiguous() and c.isfinite().all() for c in batch.crops.values())
        assert batch.images.shape == (16, 2) and batch.wait_ms >= 0
        assert np.array_equal(index.product[batch.images[:, 0]], batch.products)
        assert np.array_equal(index.product[batch.images[:, 1]], batch.products)
        assert np.array_equal(index.product_type[batch.products], batch.product_types)
    sampler = Sampler(index, index.select("train"), 16, 5, window_shards=2)
    assert np.array_equal(batches[3].images[:, 0], sampler.images_at(0, np.arange(48, 64)))
    shown = np.concatenate([b.images[:, 0] for b in batches[:5]])[: sampler.photographs]
    assert sorted(shown) == list(index.images_of(index.select("train")))


@pytest.mark.parametrize(("world_size", "micro_steps"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_ranks_and_micro_steps_together_are_the_one_rank_batch(index, world_size, micro_steps):
    whole = take(6, index)
    parts = [
        take(6 * micro_steps, index, rank=rank, world_size=world_size, micro_steps=micro_steps)
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        pieces = [p for rank in parts for p in rank[step * micro_steps : (step + 1) * micro_steps]]
        assert {(p.epoch, p.step) for p in pieces} == {(batch.epoch, batch.step)}
        for name, crops in batch.crops.items():
            assert torch.equal(torch.cat([p.crops[name] for p in pieces], dim=1), crops)
        assert np.array_equal(np.concatenate([p.images for p in pieces]), batch.images)


def test_threads_and_prefetch_change_nothing(index):
    for config in (replace(CONFIG, threads=2, prefetch=3), replace(CONFIG, prefetch=1)):
        assert all(equal(a, b) for a, b in zip(take(4, index), take(4, index, config=config)))


@pytest.mark.parametrize("global_batch", [1, 5, 24, 64])
def test_crops_do_not_depend_on_how_positions_are_cut_into_batches(index, global_batch):
    """A position's crops are the same in any global batch; those of an epoch, but for its padding."""
    whole = torch.cat([batch.crops["local"] for batch in take(4, index)], dim=1)
    count = -(-64 // global_batch)
    cut = torch.cat([b.crops["local"] for b in take(count, index, global_batch=global_batch)], dim=1)
    assert torch.equal(cut[:, :64], whole)


def test_the_training_thread_spends_under_a_millisecond_of_cpu_a_batch(index):
    """While batches are ready: what planning, reading and pixels take is the loader's thread's."""
    with Loader(index, VIEWS, global_batch=16, seed=5, config=replace(CONFIG, prefetch=3)) as loader:
        next(loader)
        spent = []
        for _ in range(20):
            time.sleep(0.05)
            start = time.thread_time()
            next(loader)
            spent.append(time.thread_time() - start)
    assert sorted(spent)[len(spent) // 2] < 1e-3


WRONG = [
    {"hw_decoder_load": 7.0},
    {"hw_decoder_load": float("nan")},
    {"stuck_after_s": 0.0},
    {"max_skipped_share": -1.0},
    {"max_skipped_in_a_row": -5},
    {"std": (0.2, 0.0, 0.2)},
    {"threads": 0},
    {"calibrate": "sometimes"},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_can_not_be_are_refused_by_name(wrong):
    [name] = wrong
    with pytest.raises(BadUsage, match=f"--loader.{name.replace('_', '-')}"):
        LoaderConfig(**wrong)


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 7])
def test_a_resumed_loader_goes_on_as_if_nothing_had_happened(index, cut):
    unbroken = take(9, index)
    with Loader(index, VIEWS, global_batch=16, seed=5, config=CONFIG) as loader:
        for _ in range(cut):
            next(loader)
        state = json.loads(json.dumps(loader.state_dict()))
        assert state == {"epoch": cut // 5, "step": cut % 5}
        resumed = take(9 - cut, index, state=state)
        assert all(equal(a, b) for a, b in zip(resumed, unbroken[cut:]))
        loader.load_state_dict({"epoch": 0, "step": 2})
        assert equal(next(loader), unbroken[2])
        with pytest.raises(BadUsage, match="steps 0 to 4"):
            loader.load_state_dict({"epoch": 0, "step": 5})


def test_crops_are_normalised_photographs(index):
    """A whole-photograph view without any augmentation has the photograph's mean colour, in ImageNet's units."""
    plain = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=0)
    views = (ViewGroup("whole", (0,), 32, (1.0, 1.0), (0.05, 20.0), generic=plain),)
    [batch] = take(1, index, views, replace(CONFIG, recipes="none"))
    raw = replace(CONFIG, recipes="none", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    [unit] = take(1, index, views, raw)
    mean, std = (torch.tensor(v)[:, None, None] for v in (CONFIG.mean, CONFIG.std))
    assert torch.allclose(batch.crops["whole"], (unit.crops["whole"] - mean) / std, atol=1e-5)
    assert unit.crops["whole"].min() >= 0 and unit.crops["whole"].max() <= 1
    assert np.array_equal(batch.images[:, 0], batch.images[:, 1])  # no view shows x''


@pytest.mark.parametrize(("name", "dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_half_precision_is_float32_rounded(index, name, dtype):
    [full], [half] = take(1, index), take(1, index, config=replace(CONFIG, dtype=name))
    for group in full.crops:
        assert half.crops[group].dtype == dtype
        assert torch.equal(half.crops[group], full.crops[group].to(dtype))


def test_wrong_settings_are_refused(index):
    with pytest.raises(BadUsage, match="loader dtype 'int8'"):
        LoaderConfig(dtype="int8")
    with pytest.raises(BadUsage, match="threads 0"):
        LoaderConfig(threads=0)
    with pytest.raises(BadUsage, match="global batch of 16 for 3 ranks"):
        Loader(index, VIEWS, global_batch=16, world_size=3)
    with pytest.raises(BadUsage, match="no recipe 'gown'"):
        Loader(index, VIEWS, global_batch=16, config=LoaderConfig(recipes="gown"))


def test_close_ends_the_thread(index):
    before = threading.active_count()
    loader = Loader(index, VIEWS, global_batch=16, config=CONFIG)
    first = next(loader)
    assert threading.active_count() > before
    loader.close()
    assert not [t for t in threading.enumerate() if t.name == "loader"]
    assert (first.epoch, first.step) == (0, 0) and next(loader).step == 1
    loader.close()


def test_a_shard_that_vanishes_stops_the_run_from_next(catalogue):
    index = open_index(catalogue(some_products(20), 4))
    index.shard_path(index.images - 1).unlink()
    with (
        pytest.raises(BadData, match=r"shard-000003\.tar' vanished"),
        Loader(index, VIEWS, global_batch=16, config=CONFIG) as loader,
    ):
        for _ in range(10):
            next(loader)


def test_a_loader_that_nobody_closed_leaves_the_exit_code_alone(folder):
    program = """
import sys
from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader
from skill_fast.data.views import ViewGroup
loader = Loader(open_index(sys.argv[1]), [ViewGroup("global", (0, 1), 16, (0.4, 1.0))], global_batch=8)
next(loader)
sys.exit(5)
"""
    ended = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (5, "")
