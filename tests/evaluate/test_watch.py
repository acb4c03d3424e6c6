"""Figures of held-out products: against encoders whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skill_fast.data.index import open_index
from skill_fast.evaluate.watch import HeldOutWatch

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def watch(drawn) -> HeldOutWatch:
    return HeldOutWatch(
        open_index(drawn), products=20, resize=36, crop=32, mean=MEAN, std=STD, device=torch.device("cpu")
    )


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        return torch.ones(len(images), 5)


class Remembers(nn.Module):
    """Gives the two photographs of each product, which come in turns, one direction of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.pixels: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        places = (self.seen + torch.arange(len(images))) // 2
        self.seen += len(images)
        self.pixels.append(images)
        return nn.functional.one_hot(places, 64).float()


def test_a_collapsed_encoder_is_seen(watch):
    encoder = Constant().train()
    found = watch.figures(encoder, torch.float32)
    assert encoder.training
    assert found["watch/rank"] == pytest.approx(1, rel=1e-3)
    assert found["watch/std"] == pytest.approx(0, abs=1e-6)
    assert found["watch/center_norm"] == pytest.approx(1, rel=1e-5)
    assert found["watch/recall@1"] == 0


def test_a_perfect_one_finds_every_product_in_every_type(watch):
    encoder = Remembers()
    found = watch.figures(encoder, torch.float32)
    assert encoder.seen == 40, "20 products, two photographs each"
    assert found["watch/rank"] == pytest.approx(20, rel=1e-3)
    recalls = {name: value for name, value in found.items() if "recall@1" in name}
    assert recalls.pop("watch/recall@1") == 1
    assert len(recalls) > 1 and all(value == 1 for value in recalls.values())


def test_pixels_are_normalised_as_in_training(watch):
    encoder = Remembers()
    watch.figures(encoder, torch.float32)
    restored = encoder.pixels[0] * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert restored.min() >= -1e-6 and restored.max() <= 1 + 1e-6
    levels = restored * 255
    assert (levels - levels.round()).abs().max() < 1e-2, "whole 8-bit levels once mean and std are undone"
    assert levels.max() > 240 and levels.min() < 100
