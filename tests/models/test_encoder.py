"""The encoder file: there and back, the untrained control, and files that are not what they claim."""

from __future__ import annotations

import json

import pytest
import torch

import skill_fast
from skill_fast.errors import BadData
from skill_fast.models.encoder import IMAGENET_MEAN, IMAGENET_STD, describe, load_encoder, save_encoder
from skill_fast.models.vit import BackboneConfig, build_backbone

CONFIG = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=24, depth=1, num_heads=2, drop_path=0.1)


@pytest.fixture
def run(tmp_path):
    backbone = build_backbone(CONFIG, seed=5)
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(0.1)
    save_encoder(tmp_path, backbone.state_dict(), describe(CONFIG, method="skill", step=7, seed=5, dataset="abc"))
    return tmp_path, backbone.eval()


def test_the_encoder_is_the_normalised_backbone(run):
    folder, backbone = run
    encoder = skill_fast.load_encoder(folder)
    images = torch.rand(3, 3, 32, 32)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    wanted = backbone((images - mean[:, None, None]) / std[:, None, None])
    assert encoder(images).shape == (3, 24)
    torch.testing.assert_close(encoder(images), wanted)
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert (encoder.image_size, encoder.resize, encoder.embed_dim) == (32, 37, 24)


def test_the_untrained_control_has_the_weights_of_step_0(run):
    folder, _ = run
    control, start = load_encoder(folder, untrained=True), build_backbone(CONFIG, seed=5)
    for name, weight in start.state_dict().items():
        assert torch.equal(control.backbone.state_dict()[name], weight)


def test_nothing_but_the_two_files_is_left(run):
    assert sorted(path.name for path in run[0].iterdir()) == ["model.json", "teacher.safetensors"]


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(BadData, match=r"no model\.json"):
        load_encoder(tmp_path / "nowhere")


def test_missing_weights_are_named(run):
    (run[0] / "teacher.safetensors").unlink()
    with pytest.raises(BadData, match="does not exist"):
        load_encoder(run[0])


@pytest.mark.parametrize("kept_bytes", [0, 7, 200])
def test_cut_weights_are_named(run, kept_bytes):
    path = run[0] / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(BadData, match=r"teacher\.safetensors"):
        load_encoder(run[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "skill-encoder", "version": 2}',
        '{"format": "skill-encoder", "version": 1, "backbone": 3}',
        "[" * 100_000,
    ],
)
def test_strange_descriptions_are_named(run, text):
    (run[0] / "model.json").write_text(text)
    with pytest.raises(BadData, match=r"model\.json"):
        load_encoder(run[0])


def test_weights_of_another_backbone_are_named(run):
    path = run[0] / "model.json"
    about = json.loads(path.read_text())
    about["backbone"]["depth"] = 2
    path.write_text(json.dumps(about))
    with pytest.raises(BadData, match=r"weights that model\.json describes"):
        load_encoder(run[0])
