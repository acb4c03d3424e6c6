"""What goes wrong with shards that are read for training: rows B1 to B8 of docs/faults.md, each with its figure.

``SKILL_FAST_LONG=1`` runs more trials of the same. B4 and B7, storage that fails under way, are in
test_storage_faults.py; what a whole data set's check finds is in tests/shards.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.build import build
from shards.repair import repair
from shards.verify import verify
from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.reader import Reader
from skill_fast.data.views import ViewGroup
from skill_fast.errors import BadData, Failure
from tests.data.conftest import Product, drawn, fractional_sampling, jpeg, some_products

LONG = os.environ.get("SKILL_FAST_LONG") == "1"
VIEWS = (ViewGroup("global", (0, 1), 16, (0.4, 1.0)),)
CONFIG = LoaderConfig(threads=1, window_shards=2, max_skipped_share=1.0)


def test_b1_every_cut_stops_before_the_first_step(catalogue):
    """200 cuts (long 1,000) of a shard at any byte, and what is no shard at all; by size, so never by a signal."""
    folder = catalogue(some_products(12), 3)
    rng, shards = random.Random(0), sorted(folder.glob("*.tar"))
    for trial in range(1000 if LONG else 200):
        shard = shards[trial % 3]
        whole = shard.read_bytes()
        shard.write_bytes(
            whole[: rng.randrange(len(whole))] if trial % 20 else (b"", b"no tar", whole + b"\0")[trial % 3]
        )
        with pytest.raises(BadData, match=shard.name):
            open_index(folder)
        shard.write_bytes(whole)
    assert open_index(folder).products == 12


def test_b2_every_flipped_bit_of_a_photograph_is_a_skip(catalogue):
    """200 flips (long 1,000): the photograph is skipped by its crc32, and no other one is."""
    index = open_index(catalogue(some_products(12), 3))
    rng = random.Random(0)
    for _ in range(1000 if LONG else 200):
        image = rng.randrange(index.images)
        place = int(index.offset[image]) + rng.randrange(int(index.size[image]))
        path = index.shard_path(image)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        reader = Reader(index)
        assert reader.read(image) is None and reader.bad == {image: "crc32"}
        assert reader.read((image + 1) % index.images) is not None
        reader.close()
        path.write_bytes(whole)


DAMAGES = {
    "missing": lambda path, other: path.unlink(),
    "short": lambda path, other: path.write_bytes(path.read_bytes()[:-7]),
    "stale": lambda path, other: flip_in_the_middle(path),
    "foreign": lambda path, other: shutil.copy(other / path.name, path),
}


def flip_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """Two data sets by the builder itself."""
    folders = tmp_path_factory.mktemp("pair")
    options = {"format": "demo", "photo_side": 40, "max_side": 40, "workers": 0}
    for name, seed in (("one", 1), ("other", 2)):
        build("demo", folders / name, designs=6, seed=seed, **options)
    return folders / "one", folders / "other"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["images.parquet", "products.parquet", "shard-000000.idx"])
def test_b3_derived_files_are_an_error_or_not_used_and_come_back(pair, tmp_path, name, damage):
    """12 variants: a wrong table is named before the first step; training never reads an .idx; ``repair`` mends."""
    folder = Path(shutil.copytree(pair[0], tmp_path / "copy"))
    DAMAGES[damage](folder / name, pair[1])
    if name.endswith(".parquet"):
        with pytest.raises(BadData, match=name):
            open_index(folder)
    else:
        with Loader(open_index(folder), VIEWS, global_batch=4, config=CONFIG) as loader:
            assert len(next(loader).positions) == 4
    repair(folder)
    assert verify(folder, full=True).findings == []
    assert open_index(folder).images == open_index(pair[0]).images


def broken_products(count: int, share: float) -> tuple[list[Product], set[int]]:
    """Products of two photographs, ``share`` of all photographs broken in one of five ways, and which ones."""
    rng = np.random.default_rng(5)
    bad = set(rng.permutation(2 * count)[: round(2 * count * share)].tolist())
    ways = [
        lambda file: file[: len(file) // 2],
        lambda file: b"<html>404</html>",
        lambda file: bytes(len(file)),
        lambda file: file[:60] + file[200:],
        fractional_sampling,
    ]
    products, ordered = [], sorted(bad)
    for product in range(count):
        photographs: list[bytes | tuple[int, int]] = []
        for image in (2 * product, 2 * product + 1):
            whole = jpeg(drawn(64, 64, image))
            photographs.append(ways[ordered.index(image) % 5](whole) if image in bad else whole)
        products.append(Product(f"p{product}", photographs))
    return products, bad


def used(images: np.ndarray) -> int:
    """Photographs that batches [n, 2] show: a product of which one is left shows it twice and reads it once."""
    return int((1 + (images[:, 0] != images[:, 1])).sum())


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_b5_broken_photographs_cost_no_run_and_are_counted_exactly(catalogue, tmp_path, share):
    """1,000 steps (every change 150) with 1 % and 20 % of photographs broken, whose crc32 is right: no death, and

    seen = used + skipped, by reason, at every step;  the same counts and pixels as if all had been known before

    which the decoder's own finds must not change: it finds a fault when its batch and others were read long ago.
    """
    products, bad = broken_products(250, share)
    index = open_index(catalogue(products, 5))
    listed = tmp_path / "skipped.jsonl"
    with (
        Loader(
            index, VIEWS, global_batch=32, seed=3, config=replace(CONFIG, prefetch=2), skipped_path=listed
        ) as loader,
        Loader(index, VIEWS, global_batch=32, seed=3, config=CONFIG) as knowing,
    ):
        for image in bad:
            knowing.reader.mark_bad(image, "undecodable", "known before")
        shown, seen = 0, set()
        for _ in range(1000 if LONG else 150 if share < 0.1 else 25):
            batch, as_known = next(loader), next(knowing)
            shown += used(batch.images)
            seen |= set(batch.images.ravel().tolist())
            assert np.array_equal(batch.images, as_known.images)
            assert torch.equal(batch.crops["global"], as_known.crops["global"])
            assert loader.reader.photographs_read == shown + sum(loader.skipped.values())
            assert loader.skipped == knowing.skipped
        skipped = loader.skipped
    assert not bad & seen and set(skipped) == {"undecodable"}
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert {line["image"] for line in lines} == bad and len(lines) == len(bad)
    assert all(line["detail"] and line["product_id"] == f"p{line['image'] // 2}" for line in lines)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 16, 23])
def test_b6_every_photograph_once_an_epoch(catalogue, world_size, count):
    """Whatever does not divide: each photograph once as x', ranks take equally many steps, the padding is declared."""
    index = open_index(catalogue(some_products(count), min(count, 3)))
    ranks = [
        Loader(index, VIEWS, global_batch=24, seed=1, rank=rank, world_size=world_size, config=CONFIG)
        for rank in range(world_size)
    ]
    sampler = ranks[0].sampler
    positions = np.concatenate(
        [
            r.sampler.rank_positions(step, rank, world_size)
            for step in range(sampler.steps_per_epoch)
            for rank, r in enumerate(ranks)
        ]
    )
    assert len({r.steps_per_epoch for r in ranks}) == 1
    assert len(positions) == sampler.photographs + sampler.padding
    once = np.sort(positions)[: sampler.photographs]
    assert sorted(sampler.images_at(0, once).tolist()) == list(range(index.images))


def hostile_tar(path: Path, rng: random.Random, outside: Path) -> None:
    """A tar of photographs between members that point, lead or write elsewhere."""
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.REGTYPE]
    names = [f"../{outside.name}/evil", str(outside / "evil"), "a/../../evil", "p0.00.jpg", "..", "p0.json"]
    with tarfile.open(path, "w") as tar:
        for _ in range(rng.randrange(1, 8)):
            member = tarfile.TarInfo(rng.choice(names))
            member.type, member.linkname = rng.choice(kinds), rng.choice([str(outside / "kept"), "../../etc/passwd"])
            data = b"evil" if member.type == tarfile.REGTYPE else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_b8_members_that_are_links_devices_or_lead_out(pair, tmp_path):
    """50 archives in the place of a shard: all that reads the folder refuses them and touches no other file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    rng = random.Random(0)
    for trial in range(50):
        folder = Path(shutil.copytree(pair[0], tmp_path / f"copy-{trial}"))
        names = {path.name for path in folder.iterdir()}
        hostile_tar(folder / "shard-000000.tar", rng, outside)
        assert verify(folder, full=True).findings
        with pytest.raises(BadData):
            open_index(folder)
        with pytest.raises(Failure):
            repair(folder)
        assert {path.name for path in folder.iterdir()} == names
        assert [path.name for path in outside.iterdir()] == ["kept"] and (outside / "kept").read_bytes() == b"kept"
        shutil.rmtree(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
