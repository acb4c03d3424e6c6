"""P x K batches: what an epoch holds, what stands together, and that it depends on seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.data.group_sampler import GroupSampler
from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.views import GroupBatches, ViewGroup
from skill_fast.errors import BadUsage


@pytest.fixture(scope="module")
def index(drawn):
    return open_index(drawn)


def make(index, batch: int = 8, k: int = 2, seed: int = 0) -> GroupSampler:
    return GroupSampler(index, index.select("train"), batch, seed, products_per_group=k)


def epoch_of(sampler: GroupSampler, epoch: int) -> np.ndarray:
    return sampler.images_at(epoch, np.arange(sampler.photographs))


@pytest.mark.parametrize(("batch", "k"), [(8, 2), (6, 3), (12, 4)])
def test_an_epoch_by_the_catalogues_own_texts(index, batch, k):
    sampler = make(index, batch, k)
    groups, colors, types = (index.column(name) for name in ("variant_group", "color", "product_type"))
    train = index.select("train")
    usable = [p for p in train if len({colors[q] for q in train if groups[q] == groups[p]}) > 1]
    assert usable
    for epoch in range(3):
        products = index.product[epoch_of(sampler, epoch)]
        assert set(products) == set(usable), "every product of a group with two colours, and no other"
        for visit in products.reshape(-1, k):
            assert len({groups[p] for p in visit}) == 1
            size = sum(groups[q] == groups[visit[0]] for q in train)
            assert len(set(visit)) == min(k, size)
        for whole in products.reshape(-1, batch):
            assert len({types[p] for p in whole}) == 1, "negatives are of the same type"
    assert sampler.photographs == sampler.steps_per_epoch * batch and sampler.padding == 0


def test_epochs_and_seeds_differ_and_repeat(index):
    sampler = make(index)
    assert np.array_equal(epoch_of(sampler, 1), epoch_of(make(index), 1))
    assert not np.array_equal(epoch_of(sampler, 0), epoch_of(sampler, 1))
    assert not np.array_equal(epoch_of(sampler, 0), epoch_of(make(index, seed=1), 0))


def test_photographs_of_a_product_are_shown_alike(index):
    """Over 60 epochs each of a product's photographs as often as the others: within five standard deviations."""
    sampler = make(index)
    seen = Counter(image for epoch in range(60) for image in epoch_of(sampler, epoch).tolist())
    for product in np.unique(index.product[epoch_of(sampler, 0)]):
        images = index.images_of(np.array([product]))
        counts = np.array([seen[i] for i in images.tolist()])
        share = 1 / len(images)
        assert np.all(np.abs(counts - counts.sum() * share) <= 5 * np.sqrt(counts.sum() * share * (1 - share)) + 1)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_positions_give_what_the_whole_epoch_has(index, data):
    """A resume in the middle, ranks and micro steps: the same photographs; positions past the end wrap around."""
    sampler = make(index)
    whole = epoch_of(sampler, 2)
    positions = np.array(data.draw(st.lists(st.integers(0, 3 * len(whole)), min_size=1, max_size=12)))
    expected = [sampler.images_at(2, np.array([p]))[0] for p in positions]
    assert sampler.images_at(2, positions).tolist() == expected
    assert [whole[p % len(whole)] for p in positions] == expected
    world, micro = data.draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
    step = data.draw(st.integers(0, sampler.steps_per_epoch - 1))
    shares = [sampler.rank_positions(step, r, world, m, micro) for r in range(world) for m in range(micro)]
    assert np.concatenate(shares).tolist() == list(range(step * 8, step * 8 + 8))


def test_upcoming_names_the_shards_that_are_read(index):
    sampler = make(index)
    positions = np.arange(8)
    now, later = sampler.upcoming(0, positions)
    assert set(now) == set(index.shard[sampler.images_at(0, positions)].tolist())
    assert set(later) == set(index.shard[sampler.images_at(0, positions + 8)].tolist())
    assert 0 < sampler.largest_window_bytes() <= index.shard_bytes.sum()
    last = np.arange(sampler.photographs - 8, sampler.photographs)
    assert set(sampler.upcoming(0, last)[1]) == set(index.shard[sampler.images_at(1, positions)].tolist())


@pytest.mark.parametrize(("batch", "k"), [(8, 1), (9, 2), (2, 2)])
def test_batches_that_can_not_be_are_refused(index, batch, k):
    with pytest.raises(BadUsage, match="in groups of"):
        make(index, batch, k)


def test_a_micro_batch_that_cuts_a_visit_is_refused(index):
    with pytest.raises(BadUsage, match="a micro-batch of 3"):
        make(index, 6, 2).rank_positions(0, 0, 2)


def test_the_loader_labels_what_it_shows(index):
    """Labels are those of the photograph shown, resumed in the middle as in one go; plain loaders have none."""
    view = [ViewGroup("global", (0,), 16, (0.5, 1.0))]
    config = LoaderConfig(recipes="none")
    groups, colors = index.column("variant_group"), index.column("color")
    with Loader(index, view, batches=GroupBatches(2), global_batch=8, config=config) as loader:
        batches = [next(loader) for _ in range(4)]
        state = loader.state_dict()
        after = next(loader)
        loader.load_state_dict(state)
        again = next(loader)
    assert np.array_equal(after.images, again.images)
    assert all(torch.equal(after.labels[name], again.labels[name]) for name in ("group", "color", "type"))
    for batch in batches:
        for i in range(8):
            for j in range(8):
                a, b = batch.products[i], batch.products[j]
                assert (batch.labels["group"][i] == batch.labels["group"][j]) == (groups[a] == groups[b])
                assert (batch.labels["color"][i] == batch.labels["color"][j]) == (colors[a] == colors[b])
    with Loader(index, view, global_batch=8, config=config) as plain:
        assert next(plain).labels == {}
    with pytest.raises(BadUsage, match="weights of product types with batches"):
        Loader(index, view, batches=GroupBatches(2), global_batch=8, config=LoaderConfig(type_weights={"shirt": 2.0}))
