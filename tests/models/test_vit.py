"""Backbones: seeds, initialisation, resolutions, errors."""

from __future__ import annotations

import math

import pytest
import torch

from skill_fast.errors import BadUsage
from skill_fast.models.vit import BackboneConfig, build_backbone, check_resolution, patch_size_of

TINY = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=48, depth=2, num_heads=3, drop_path=0.0)


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, second, other = (build_backbone(TINY, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator must not move"
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        assert torch.equal(a, b)
    assert not torch.equal(first.patch_embed.proj.weight, other.patch_embed.proj.weight)


@pytest.mark.parametrize("size", [32, 24, 40])
def test_every_resolution_the_patch_divides_gives_a_class_token(size):
    backbone = build_backbone(TINY, seed=0).eval()
    images = torch.randn(3, 3, size, size)
    tokens = backbone.forward_features(images)
    assert tokens.shape == (3, (size // 8) ** 2 + 1, 48)
    torch.testing.assert_close(backbone(images), tokens[:, 0])


def test_fan_in_keeps_the_variance_where_timm_shrinks_it():
    """A linear layer of n inputs at std 1 / sqrt(n) maps unit variance to unit variance; 0.02 maps it to 0.0004 n."""
    config = {"fan_in": 1.0, "timm": math.sqrt(48) * 0.02}
    for init, wanted in config.items():
        backbone = build_backbone(BackboneConfig(**{**TINY.__dict__, "init": init}), seed=0)
        weight = backbone.blocks[0].mlp.fc1.weight
        assert weight.std().item() * math.sqrt(48) == pytest.approx(wanted, rel=0.05)
        assert not backbone.blocks[0].mlp.fc1.bias.any()


def test_drop_path_is_the_students_alone():
    config = BackboneConfig(**{**TINY.__dict__, "drop_path": 0.5})
    images = torch.randn(8, 3, 32, 32)
    student, teacher = build_backbone(config, seed=0).train(), build_backbone(config, drop_path=0.0, seed=0).train()
    torch.manual_seed(0)
    assert not torch.equal(student(images), student(images))
    assert torch.equal(teacher(images), teacher(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "resnet50"}, "which is no vision transformer"),
        ({"name": "vit_enormous"}, "not a model that timm knows"),
        ({"num_heads": 5}, "can not be built"),
    ],
)
def test_what_can_not_be_built_is_named(change, message):
    with pytest.raises(BadUsage, match=message) as caught:
        build_backbone(BackboneConfig(**{**TINY.__dict__, **change}))
    assert "--backbone." in caught.value.change


def test_a_resolution_that_the_patch_size_does_not_divide():
    backbone = build_backbone(TINY)
    assert patch_size_of(backbone) == 8
    check_resolution(backbone, 24, "local", "--views.local-size")
    with pytest.raises(BadUsage, match="local crops of 30 pixels") as caught:
        check_resolution(backbone, 30, "local", "--views.local-size")
    assert "24 or 32" in caught.value.allowed
    assert caught.value.change == "--views.local-size 32"
