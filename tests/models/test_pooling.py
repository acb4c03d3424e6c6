"""Poolings: against timm's own intermediate layers, and against DINO's arithmetic written out."""

from __future__ import annotations

import pytest
import torch

import skill_fast
from skill_fast.errors import BadUsage
from skill_fast.models.encoder import describe, save_encoder
from skill_fast.models.pooling import pooling_of
from skill_fast.models.vit import BackboneConfig, build_backbone
from tests.models.official_dino import OfficialVisionTransformer

VIT = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=24, depth=5, num_heads=3, init="fan_in")
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit():
    return build_backbone(VIT, drop_path=0.0, seed=5).eval()


@torch.no_grad()
def test_class_token_is_what_the_backbone_returns(vit):
    pool, width = pooling_of("class", vit)
    assert width == 24
    assert torch.equal(pool(vit, IMAGES), vit(IMAGES))


@torch.no_grad()
def test_last4_is_timms_intermediate_layers(vit):
    pool, width = pooling_of("last4", vit)
    layers = vit.get_intermediate_layers(IMAGES, n=[1, 2, 3, 4], return_prefix_tokens=True, norm=True)
    wanted = torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1)
    assert wanted.shape == (3, width) == (3, 96)
    torch.testing.assert_close(pool(vit, IMAGES), wanted)
    torch.testing.assert_close(pool(vit, IMAGES)[:, -24:], vit(IMAGES))


@torch.no_grad()
def test_patch_mean_is_the_mean_of_timms_last_features_without_the_class_token(vit):
    pool, width = pooling_of("patch_mean", vit)
    tokens = vit.forward_features(IMAGES)
    assert tokens.shape == (3, 1 + 16, 24)
    wanted = sum(tokens[:, place] for place in range(1, 17)) / 16
    assert width == 24
    torch.testing.assert_close(pool(vit, IMAGES), wanted)


@torch.no_grad()
def test_last4_is_the_official_one_block_by_block(vit):
    official = OfficialVisionTransformer(32, 8, 24, 5, 3).eval()
    official.load_state_dict(vit.state_dict())
    x = official.patch_embed(IMAGES)
    x = torch.cat([official.cls_token.expand(3, -1, -1), x], dim=1) + official.pos_embed
    outputs = []
    for block in official.blocks:
        x = block(x)
        outputs.append(official.norm(x)[:, 0])
    torch.testing.assert_close(pooling_of("last4", vit)[0](vit, IMAGES), torch.cat(outputs[1:], -1))
    torch.testing.assert_close(pooling_of("patch_mean", vit)[0](vit, IMAGES), official.norm(x)[:, 1:].mean(1))


@torch.no_grad()
def test_register_tokens_are_no_patches():
    config = BackboneConfig("vit_small_patch14_reg4_dinov2", 28, embed_dim=24, depth=4, num_heads=3)
    vit = build_backbone(config, drop_path=0.0, seed=1).eval()
    images = IMAGES[:, :, :28, :28]
    tokens = vit.forward_features(images)
    assert tokens.shape[1] == 1 + 4 + 4
    torch.testing.assert_close(pooling_of("patch_mean", vit)[0](vit, images), tokens[:, 5:].mean(1))
    last = pooling_of("last4", vit)[0](vit, images)
    torch.testing.assert_close(last[:, -24:], tokens[:, 0])


def test_a_run_is_loaded_with_its_pooling(tmp_path):
    backbone = build_backbone(VIT, drop_path=0.0, seed=6).eval()
    save_encoder(tmp_path, backbone.state_dict(), describe(VIT, method="skill", step=7, seed=5, dataset="abc"))
    encoder = skill_fast.load_encoder(tmp_path, pooling="last4")
    assert (encoder.pooling, encoder.embed_dim) == ("last4", 96)
    assert encoder(IMAGES).shape == (3, 96)
    assert skill_fast.load_encoder(tmp_path).pooling == "class"


@pytest.mark.parametrize("name", ["last4", "patch_mean"])
def test_a_cnn_has_its_pooled_output_alone(name):
    cnn = build_backbone(BackboneConfig("resnet18", 32), seed=0)
    with pytest.raises(BadUsage, match="ResNet") as error:
        pooling_of(name, cnn)
    assert "--pooling class" in str(error.value)
    assert pooling_of("class", cnn)[1] == 512


def test_other_poolings_and_too_few_blocks_are_refused(vit):
    with pytest.raises(BadUsage, match="class, last4, patch_mean"):
        pooling_of("mean", vit)
    shallow = build_backbone(BackboneConfig("vit_tiny_patch16_224", 32, embed_dim=24, depth=3, num_heads=3), seed=0)
    with pytest.raises(BadUsage, match="3 blocks"):
        pooling_of("last4", shallow)
