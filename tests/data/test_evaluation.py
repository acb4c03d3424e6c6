"""Photographs for evaluation are torchvision's resize and centre crop, each once, in the order asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from skill_fast.data.index import open_index
from skill_fast.data.loader import EvaluationLoader
from skill_fast.errors import BadData, BadUsage
from tests.data.conftest import Product, flip_a_byte, fractional_sampling, jpeg, some_products


@pytest.mark.parametrize(("resize", "crop"), [(48, 40), (33, 32), (64, 64), (130, 111)])
def test_photographs_are_torchvisions(index, resize, crop):
    wanted = np.random.default_rng(0).permutation(index.images)[:21]
    loader = EvaluationLoader(index, wanted, resize=resize, crop=crop, batch_size=8, threads=1)
    seen = []
    for rows, photographs in loader:
        assert photographs.shape == (len(rows), 3, crop, crop) and photographs.dtype == torch.float32
        for row, photograph in zip(rows, photographs):
            seen.append(int(row))
            with open(index.shard_path(row), "rb") as file:
                file.seek(index.offset[row])
                picture = np.array(Image.open(io.BytesIO(file.read(index.size[row]))))
            tensor = torch.tensor(picture, dtype=torch.float32).permute(2, 0, 1)
            tensor = torchvision.resize(tensor, [resize], InterpolationMode.BICUBIC, antialias=True)
            expected = torchvision.center_crop(tensor, [crop, crop]).clamp(0, 255) / 255
            # Two JPEG decoders differ by up to 3 levels or so on strong chroma; a wrong place of the crop by far more.
            assert (photograph - expected).abs().mean() < 1.5 / 255
            assert (photograph - expected).abs().max() < 12 / 255
    assert seen == wanted.tolist() and len(loader) == 3


def test_it_can_be_gone_through_again_and_hold_nothing(index):
    loader = EvaluationLoader(index, np.arange(5), resize=32, crop=32, batch_size=2, threads=1)
    first, second = (torch.cat([p for _, p in loader]) for _ in range(2))
    assert torch.equal(first, second)
    assert list(EvaluationLoader(index, np.array([], dtype=np.int64))) == []
    with pytest.raises(BadUsage, match="resize 32 with crop 64"):
        EvaluationLoader(index, np.arange(5), resize=32, crop=64)


def test_a_damaged_photograph_is_named(catalogue):
    index = open_index(catalogue(some_products(6)))
    flip_a_byte(index, 7)
    loader = EvaluationLoader(index, np.arange(10), resize=32, crop=32, batch_size=4, threads=1)
    with pytest.raises(BadData, match=r"shard-000000\.tar' at byte \d+ can not be used: its crc32"):
        list(loader)


@pytest.mark.parametrize("damaged", [lambda file: file[:200], fractional_sampling], ids=["the look", "the decoder"])
def test_an_undecodable_photograph_is_named(catalogue, damaged):
    bad = damaged(jpeg(np.zeros((64, 64, 3), dtype=np.uint8)))
    index = open_index(catalogue([Product("a", [(50, 50), (50, 50)]), Product("b", [(50, 50), bad])]))
    with pytest.raises(BadData, match=r"photograph 1 of product row 1 .* it can not be decoded"):
        list(EvaluationLoader(index, np.arange(4), resize=32, crop=32, batch_size=2, threads=1))
