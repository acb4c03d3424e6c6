"""What replaces bad photographs, by the rule written out once more, and how many of them stop a run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader
from skill_fast.data.pairs import PairSource
from skill_fast.data.plan import Planner
from skill_fast.data.sampler import Sampler
from skill_fast.errors import TooMuchSkipped
from tests.data.batches import CONFIG, GENEROUS, VIEWS, take
from tests.data.conftest import Product, flip_a_byte, fractional_sampling, jpeg, some_products


def stand_ins(index, bad, positions, seed=5):
    """The rule, written out: the pairs that are shown and the times that a bad photograph was wanted."""
    sampler = Sampler(index, index.select("train"), 16, seed, window_shards=2)
    planner = Planner(index, VIEWS, seed)
    pairs, wanted = [], 0
    for position in positions:
        for later in range(sampler.photographs):
            place = np.array([position if later == 0 else position + later])
            first = sampler.images_at(0, place)
            second = int(planner.second_photographs(0, place, first)[0])
            product = index.product[first[0]]
            start, count = index.first_image[product], index.images_per_product[product]

            def ring(image, start=start, count=count):
                return [int(start + (image - start + i) % count) for i in range(count)]

            tried = set()
            one = None
            for image in ring(int(first[0])):
                if image in bad:
                    wanted, tried = wanted + 1, tried | {image}
                else:
                    one = image
                    break
            if one is None:
                continue
            two = one
            for image in ring(second):
                if image == one or image in tried:
                    continue
                if image in bad:
                    wanted, tried = wanted + 1, tried | {image}
                    continue
                two = image
                break
            pairs.append((one, two))
            break
    return np.array(pairs), wanted


def test_damaged_photographs_are_replaced_by_the_rule(catalogue, tmp_path):
    index = open_index(catalogue(some_products(20), 4))
    # A single photograph of several, a product of which one photograph is left, a product without any.
    several, most, all_of_it = (
        int(index.first_image[4]) + 1,
        index.images_of(np.array([3]))[1:],
        index.images_of(np.array([1])),
    )
    bad = {several, *most.tolist(), *all_of_it.tolist()}
    for image in bad:
        flip_a_byte(index, image)
    expected, _ = stand_ins(index, bad, range(48))
    with Loader(
        index, VIEWS, global_batch=16, seed=5, config=replace(GENEROUS, prefetch=1), skipped_path=tmp_path / "s.jsonl"
    ) as loader:
        batches = [next(loader) for _ in range(3)]
    assert np.array_equal(np.concatenate([b.images for b in batches]), expected)
    assert not bad & set(expected.ravel().tolist())
    listed = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert len(listed) == len({line["image"] for line in listed}) and {line["reason"] for line in listed} == {"crc32"}
    # Each rank alone comes to the same stand-ins.
    for rank in range(2):
        parts = take(3, index, config=GENEROUS, rank=rank, world_size=2)
        for part, whole in zip(parts, batches):
            assert np.array_equal(part.images, whole.images[rank * 8 : rank * 8 + 8])
            assert torch.equal(part.crops["global"], whole.crops["global"][:, rank * 8 : rank * 8 + 8])


def test_the_count_of_skipped_photographs_is_exact(catalogue):
    index = open_index(catalogue(some_products(20), 4))
    bad = {int(index.first_image[4]) + 1, int(index.first_image[9])}
    for image in bad:
        flip_a_byte(index, image)
    pairs, wanted = stand_ins(index, bad, range(60))
    loader = Loader(index, VIEWS, global_batch=16, seed=5, config=GENEROUS)
    source = PairSource(loader.sampler, loader.planner, loader.reader, second=True)
    images, _, tallies = source.read(0, np.arange(60))  # an epoch, and nothing ahead of it
    loader.reader.settle(tallies)
    assert np.array_equal(images, pairs)
    assert loader.skipped == {"crc32": wanted} and wanted >= 2
    once = pairs[:, 0] == pairs[:, 1]  # the only photograph of its product is read once
    assert loader.reader.photographs_read == 2 * 60 - once.sum() + wanted


@pytest.mark.parametrize("found_by", ["the look", "the decoder"])
@pytest.mark.parametrize("prefetch", [1, 2, 3])
def test_undecodable_photographs_are_replaced_like_damaged_ones(catalogue, tmp_path, prefetch, found_by):
    """Their crc32 is right; the outcome is as if they had been known to be bad."""
    noise = jpeg(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    bad_file = noise[:300] if found_by == "the look" else fractional_sampling(noise)
    products = some_products(12)
    products[3] = Product("bad-one", [(50, 50), bad_file, (60, 44), (44, 60)])
    products[7] = Product("bad-whole", [bad_file, bad_file], product_type="dress")
    index = open_index(catalogue(products, 2))
    bad = {int(index.first_image[3]) + 1, *index.images_of(np.array([7])).tolist()}
    path = tmp_path / "skipped.jsonl"
    batches = take(5, index, config=replace(GENEROUS, prefetch=prefetch), global_batch=8, skipped_path=path)
    sampler = Sampler(index, index.select("train"), 8, 5, window_shards=2)
    shown = np.concatenate([b.images for b in batches])
    assert not bad & set(shown.ravel().tolist())
    expected, _ = stand_ins(index, bad, range(min(40, sampler.photographs)))
    assert np.array_equal(shown[: len(expected)], expected)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["image"] for line in lines} == bad and {line["reason"] for line in lines} == {"undecodable"}
    for part in (take(5, index, config=GENEROUS, global_batch=8, rank=r, world_size=2) for r in range(2)):
        for mine, whole in zip(part, batches):
            rows = np.isin(whole.positions, mine.positions)
            assert torch.equal(mine.crops["local"], whole.crops["local"][:, rows])


def test_the_loader_s_own_limit_of_bad_ones_in_a_row_stops_it(catalogue):
    """Three products in a row have no usable photograph: two are allowed at first, then 100."""
    index = open_index(catalogue(some_products(20), 4))
    first = Sampler(index, index.select("train"), 16, 0, window_shards=CONFIG.window_shards).images_at(0, np.arange(3))
    for product in index.product[first]:
        for image in np.flatnonzero(index.product == product):
            flip_a_byte(index, int(image))
    strict = replace(GENEROUS, max_skipped_in_a_row=2)
    with (
        pytest.raises(TooMuchSkipped, match="in a row"),
        Loader(index, VIEWS, global_batch=16, config=strict) as loader,
    ):
        next(loader)
    with Loader(index, VIEWS, global_batch=16, config=GENEROUS) as loader:
        next(loader)


def test_too_much_damage_stops_the_run_from_next(catalogue):
    index = open_index(catalogue(some_products(20), 4))
    for image in range(10):
        flip_a_byte(index, image)
    with Loader(index, VIEWS, global_batch=16, config=replace(CONFIG, skipped_judged_after=20)) as loader:
        with pytest.raises(TooMuchSkipped, match="photographs could not be used"):
            for _ in range(10):
                next(loader)
        with pytest.raises(TooMuchSkipped):
            next(loader)
