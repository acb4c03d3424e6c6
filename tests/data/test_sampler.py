"""Every photograph once an epoch, for every world size."""

from __future__ import annotations

import numpy as np
import pytest

from skill_fast.data.sampler import Sampler
from skill_fast.errors import BadUsage


def train_sampler(index, global_batch=16, seed=3, **kwargs):
    return Sampler(index, index.select("train"), global_batch, seed, **kwargs)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("micro_steps", [1, 2])
def test_every_photograph_once_whatever_the_world_size(index, world_size, micro_steps):
    sampler = train_sampler(index, global_batch=48)
    wanted = index.images_of(index.select("train"))
    assert sampler.photographs == len(wanted)
    shown, places = [], []
    for step in range(sampler.steps_per_epoch):
        of_step = []
        for rank in range(world_size):
            parts = [sampler.rank_positions(step, rank, world_size, m, micro_steps) for m in range(micro_steps)]
            assert {len(p) for p in parts} == {48 // world_size // micro_steps}
            of_step += parts
        of_step = np.concatenate(of_step)
        assert np.array_equal(of_step, np.arange(step * 48, (step + 1) * 48))
        places.append(of_step)
        shown.append(sampler.images_at(5, of_step))
    shown, places = np.concatenate(shown), np.concatenate(places)
    assert sorted(shown[places < sampler.photographs]) == sorted(wanted)
    padded = shown[places >= sampler.photographs]
    assert len(padded) == sampler.padding == sampler.steps_per_epoch * 48 - len(wanted)
    assert np.array_equal(padded, shown[: len(padded)])


def test_order_is_a_function_of_seed_and_epoch(index):
    positions = np.arange(train_sampler(index).photographs)
    first = train_sampler(index).images_at(2, positions)
    assert np.array_equal(train_sampler(index, global_batch=7).images_at(2, positions), first)
    one_by_one = train_sampler(index)
    backwards = [one_by_one.images_at(2, np.array([p]))[0] for p in positions[::-1]]
    assert np.array_equal(backwards[::-1], first)
    for seed, epoch in ((3, 1), (4, 2)):
        assert not np.array_equal(train_sampler(index, seed=seed).images_at(epoch, positions), first)


def test_a_window_shows_only_its_shards(index):
    sampler = train_sampler(index, window_shards=2)
    shards = index.shard[sampler.images_at(0, np.arange(sampler.photographs))]
    seen = [set()]
    for shard in shards:
        if shard not in seen[-1] and len(seen[-1]) == 2:
            seen.append(set())
        seen[-1].add(int(shard))
    assert all(len(s) <= 2 for s in seen)
    flat = [s for window in seen for s in sorted(window)]
    assert len(flat) == len(set(flat))  # no shard is met again after its window


def test_a_batch_larger_than_the_epoch_goes_round_several_times(index):
    products = index.select("train")[:2]
    sampler = Sampler(index, products, 10, 0)
    images = sampler.images_at(0, sampler.rank_positions(0))
    assert sampler.steps_per_epoch == 1 and sampler.padding == 10 - sampler.photographs
    assert np.array_equal(images, np.resize(images[: sampler.photographs], 10))


def test_what_can_not_be_shared_is_refused(index):
    sampler = train_sampler(index, global_batch=10)
    with pytest.raises(BadUsage, match="global batch of 10 for 4 ranks x 1 micro steps"):
        sampler.rank_positions(0, 0, 4)
    with pytest.raises(BadUsage, match="rank 2"):
        sampler.rank_positions(0, 2, 2)
    with pytest.raises(BadUsage, match="global_batch 0"):
        train_sampler(index, global_batch=0)


@pytest.mark.parametrize("window_shards", [1, 2, 5])
def test_upcoming_shards_are_those_of_this_window_and_the_next(index, window_shards):
    sampler = train_sampler(index, global_batch=16, window_shards=window_shards)

    def windows(epoch):
        """The epoch's shards in the order of first use, cut into windows."""
        shards = index.shard[sampler.images_at(epoch, np.arange(sampler.photographs))]
        order = list(dict.fromkeys(shards.tolist()))
        cut = [set(order[i : i + window_shards]) for i in range(0, len(order), window_shards)]
        return cut, [next(i for i, window in enumerate(cut) if shard in window) for shard in shards.tolist()]

    for epoch in (0, 1):
        cut, window_at = windows(epoch)
        following, _ = windows(epoch + 1)
        for step in range(sampler.steps_per_epoch):
            positions = sampler.rank_positions(step)
            now, soon = sampler.upcoming(epoch, positions)
            met = {window_at[p % sampler.photographs] for p in positions}
            assert set(now) == set().union(*(cut[window] for window in met)) and len(now) == len(set(now))
            over = positions[-1] >= sampler.photographs
            last = len(cut) - 1 if over else window_at[positions[-1]]
            assert set(soon) == ([*cut, following[0]][last + 1])


def test_the_largest_window_is_that_of_the_largest_shards(index):
    for window_shards in (1, 3, 100):
        sampler = train_sampler(index, window_shards=window_shards)
        shards = set(index.shard[index.images_of(index.select("train"))].tolist())
        sizes = sorted((int(index.shard_bytes[shard]) for shard in shards), reverse=True)
        assert sampler.largest_window_bytes() == sum(sizes[:window_shards])
