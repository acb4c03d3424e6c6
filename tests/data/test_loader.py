"""The loader as a whole: one set of crops for every world size and resume point, and what replaces bad photographs."""

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
from skill_fast.data.pairs import PairSource
from skill_fast.data.plan import Planner
from skill_fast.data.sampler import Sampler
from skill_fast.data.views import GenericAugmentation, ViewGroup
from skill_fast.errors import BadData, BadUsage, TooMuchSkipped
from tests.data.conftest import Product, flip_a_byte, fractional_sampling, jpeg, some_products

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
