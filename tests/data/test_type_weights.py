"""Sampling weights: how often each type is shown, exactly, and that a weight of 1 is no weight."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.sampler import Sampler
from skill_fast.data.views import ViewGroup
from skill_fast.errors import BadUsage
from tests.data.conftest import TYPES


def shown(index, weights, epoch=0, seed=3, window_shards=2, global_batch=16):
    sampler = Sampler(
        index, index.select("train"), global_batch, seed, window_shards=window_shards, type_weights=weights
    )
    return sampler, sampler.images_at(epoch, np.arange(sampler.photographs))


def type_of(index, image):
    return index.product_types[int(index.product_type[index.product[image]])]


weights = st.dictionaries(st.sampled_from(TYPES), st.floats(0, 5).filter(lambda w: w == 0 or w > 0.01))


@settings(max_examples=60, deadline=None)
@given(weights=weights, epoch=st.integers(0, 3), window_shards=st.integers(1, 6))
def test_each_type_is_shown_as_often_as_its_weight_says(index, weights, epoch, window_shards):
    every = index.images_of(index.select("train"))
    of_type = Counter(type_of(index, image) for image in every)
    expected = {t: math.floor(weights.get(t, 1.0) * n + 0.5) for t, n in of_type.items()}
    if sum(expected.values()) == 0:
        with pytest.raises(BadUsage, match="weights of all product types"):
            shown(index, weights, epoch, window_shards=window_shards)
        return
    sampler, images = shown(index, weights, epoch, window_shards=window_shards)
    assert sampler.photographs == len(images) == sum(expected.values())
    assert Counter(type_of(index, image) for image in images) == {t: n for t, n in expected.items() if n}
    # Within a shard the photographs of a type differ by one showing at most.
    times = Counter(images.tolist())
    groups: dict[tuple[int, str], list[int]] = {}
    for image in every:
        groups.setdefault((int(index.shard[image]), type_of(index, image)), []).append(times[int(image)])
    assert all(max(n) - min(n) <= 1 for n in groups.values())


def test_a_weight_of_one_is_no_weight(index):
    plain, order = shown(index, {})
    same, weighted = shown(index, dict.fromkeys(TYPES, 1.0))
    assert np.array_equal(order, weighted) and plain.steps_per_epoch == same.steps_per_epoch


def test_the_order_of_the_names_and_other_weights_change_nothing(index):
    """{dress: .5, shoes: 1.5} is {shoes: 1.5, dress: .5}; and which dresses are drawn is the dress's weight's alone."""

    def dresses(weights):
        return Counter(i for i in shown(index, weights)[1].tolist() if type_of(index, i) == "dress")

    one, other = {"dress": 0.5, "shirt": 1.5}, {"shirt": 1.5, "dress": 0.5}
    assert np.array_equal(shown(index, one)[1], shown(index, other)[1])
    alone = dresses({"dress": 0.5})
    assert alone and alone == dresses(one) == dresses({"gadget": 1.0, "dress": 0.5}) == dresses({"gadget": 0.3, **one})
    assert dresses({"dress": 1.5}) != dresses({"dress": 0.5})


def test_epochs_draw_other_photographs_to_repeat(index):
    picked = [frozenset(i for i in shown(index, {"dress": 0.5}, e)[1] if type_of(index, i) == "dress") for e in (0, 1)]
    again = frozenset(i for i in shown(index, {"dress": 0.5})[1] if type_of(index, i) == "dress")
    assert picked[0] == again != picked[1]


def test_ranks_share_what_one_rank_sees(index):
    sampler, images = shown(index, {"dress": 2.5, "rug": 0.0})
    for world_size in (2, 4):
        for step in range(sampler.steps_per_epoch - 1):
            parts = [sampler.images_at(0, sampler.rank_positions(step, r, world_size)) for r in range(world_size)]
            assert np.array_equal(np.concatenate(parts), images[step * 16 : (step + 1) * 16])


def test_the_loader_takes_weights_and_mixes_types_in_a_batch(index):
    config = LoaderConfig(threads=1, type_weights={"dress": 4.0, "gadget": 0.0})
    views = [ViewGroup("global", (0, 1), 16, (0.4, 1.0))]
    with Loader(index, views, global_batch=16, config=config) as loader:
        types = [index.product_types[t] for _ in range(loader.steps_per_epoch) for t in next(loader).product_types]
    assert "gadget" not in types and len(set(types)) > 3
    assert Counter(types)["dress"] > 2 * Counter(types)["shirt"]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"gown": 1.0}, "dress"),
        *(({"dress": wrong}, r"0 \(left out\) to 1000") for wrong in (-1.0, 1e17, math.inf, math.nan)),
    ],
)
def test_wrong_weights_are_refused(index, weights, said):
    with pytest.raises(BadUsage, match=said):
        shown(index, weights)
