"""Weights in and out: what timm and the official DINO model compute, ours must compute, and the other way round."""

from __future__ import annotations

import argparse
import os
import re

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from skill_fast.errors import BadData
from skill_fast.models.encoder import describe, load_encoder, save_encoder
from skill_fast.models.vit import BackboneConfig, build_backbone
from skill_fast.models.weights import load_backbone, main, read_weights
from tests.models.official_dino import OfficialVisionTransformer

SIZES = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
CONFIG = BackboneConfig("vit_tiny_patch16_224", 32, drop_path=0.0, **SIZES)
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def official() -> OfficialVisionTransformer:
    torch.manual_seed(4)
    return OfficialVisionTransformer(32, patch=8, dim=24, depth=2, heads=3).eval()


@pytest.fixture
def run(tmp_path):
    backbone = build_backbone(CONFIG, seed=7)
    about = describe(CONFIG, method="skill", step=1, seed=0, dataset="d")
    save_encoder(tmp_path, backbone.state_dict(), about)
    return tmp_path


def plain(model: OfficialVisionTransformer) -> dict:
    return model.state_dict()


def full_checkpoint(model: OfficialVisionTransformer) -> dict:
    """As main_dino.py saves it: the student under DistributedDataParallel, both with their heads."""
    head = {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(4, 1)}
    teacher = {f"backbone.{name}": value for name, value in model.state_dict().items()} | head
    student = {f"module.{name}": -value for name, value in teacher.items()}
    settings = argparse.Namespace(arch="vit_small", local_crops_scale=(0.05, 0.4), use_fp16=True, lr=5e-4, gpu=0)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()
    loss = {"center": torch.zeros(1, 4)}
    return {
        **{"student": student, "teacher": teacher, "optimizer": optimizer, "epoch": 3, "args": settings},
        **{"dino_loss": loss, "fp16_scaler": {"scale": 65536.0, "_growth_tracker": 0}},
    }


def student_alone(model: OfficialVisionTransformer) -> dict:
    return {"state_dict": {f"module.backbone.{name}": value for name, value in model.state_dict().items()}}


@pytest.mark.parametrize("layout", [plain, full_checkpoint, student_alone])
def test_official_dino_weights_give_the_official_outputs(official, tmp_path, layout):
    torch.save(layout(official), tmp_path / "dino.pth")
    backbone = build_backbone(CONFIG, seed=0).eval()
    with torch.no_grad():
        assert not torch.allclose(backbone(IMAGES), official(IMAGES), atol=1e-2)
        load_backbone(backbone, tmp_path / "dino.pth")
        torch.testing.assert_close(backbone(IMAGES), official(IMAGES), rtol=1e-4, atol=1e-5)


def test_our_encoder_runs_in_the_official_model(run, official):
    """Loaded as DINO's ``load_pretrained_weights`` does: key "teacher", prefixes removed; here strictly."""
    assert main([str(run), str(run / "out.pth"), "--format", "dino"]) == 0
    held = torch.load(run / "out.pth", weights_only=True)["teacher"]
    official.load_state_dict({name.replace("module.", "").replace("backbone.", ""): v for name, v in held.items()})
    with torch.no_grad():
        torch.testing.assert_close(official(IMAGES), load_encoder(run).backbone(IMAGES), rtol=1e-4, atol=1e-5)


def test_timm_loads_our_encoder_and_we_load_timms(run, tmp_path):
    assert main([str(run), str(run / "out.safetensors")]) == 0
    options = {"num_classes": 0, "img_size": 32, "global_pool": "token", **SIZES}
    theirs = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(run / "out.safetensors"), **options).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(IMAGES), load_encoder(run).backbone(IMAGES), rtol=1e-5, atol=1e-6)
    torch.manual_seed(8)
    classifier = timm.create_model("vit_tiny_patch16_224", **{**options, "num_classes": 5}).eval()
    save_file(classifier.state_dict(), tmp_path / "timm.safetensors")
    ours = build_backbone(CONFIG, seed=0).eval()
    load_backbone(ours, tmp_path / "timm.safetensors")
    with torch.no_grad():
        expected = classifier.forward_features(IMAGES)[:, 0]
        torch.testing.assert_close(ours(IMAGES), expected, rtol=1e-5, atol=1e-6)


def test_a_cnn_comes_from_timm_too(tmp_path):
    torch.manual_seed(8)
    theirs = timm.create_model("test_resnet", num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    ours = build_backbone(BackboneConfig("test_resnet", 32, drop_path=0.0), seed=0).eval()
    load_backbone(ours, tmp_path / "resnet.pth")
    with torch.no_grad():
        pooled = theirs.forward_features(IMAGES).mean((2, 3))
        torch.testing.assert_close(ours(IMAGES), pooled, rtol=1e-5, atol=1e-6)


def test_positions_of_another_size_are_interpolated_as_timm_does(official, tmp_path):
    """A class token's position stays; a constant grid stays constant; the outputs stay finite."""
    with torch.no_grad():
        official.pos_embed[:, 1:] = torch.arange(24.0)
    torch.save(official.state_dict(), tmp_path / "dino.pth")
    larger = build_backbone(BackboneConfig("vit_tiny_patch16_224", 48, drop_path=0.0, **SIZES), seed=0).eval()
    load_backbone(larger, tmp_path / "dino.pth")
    torch.testing.assert_close(larger.pos_embed[:, 0], official.pos_embed[:, 0])
    torch.testing.assert_close(larger.pos_embed[0, 1:], torch.arange(24.0).expand(36, 24), rtol=1e-4, atol=1e-4)


class Runs:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": Runs()}, "can not be read as weights: it holds a 'posix.system', which could run code"),
        (b"no weights", "can not be read as weights"),
        (b"hello", "can not be read as weights"),
        (b"", "can not be read as weights"),
        ({"epoch": 3}, "holds no tensors by name"),
        ({"norm.weight": torch.ones(24)}, "it lacks blocks"),
        ({"strange": torch.ones(1)}, "has also strange"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(BadData, match=message):
        load_backbone(build_backbone(CONFIG, seed=0), path)
    with pytest.raises(BadData, match="does not exist"):
        read_weights(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("out", "message"), [("none/out.pth", "the folder '.*none' does not exist"), ("", "is a folder")]
)
@pytest.mark.parametrize("layout", ["timm", "dino"])
def test_an_export_to_nowhere_is_refused(run, tmp_path, capsys, out, message, layout):
    before = sorted(tmp_path.iterdir())
    assert main([str(run), str(tmp_path / out), "--format", layout]) == 2
    assert re.search(message, capsys.readouterr().err) and sorted(tmp_path.iterdir()) == before


def test_another_width_is_named(run):
    wide = build_backbone(BackboneConfig("vit_tiny_patch16_224", 32, **{**SIZES, "embed_dim": 48}), seed=0)
    with pytest.raises(BadData, match="for \\[48"):
        load_backbone(wide, run / "teacher.safetensors")
    assert load_file(run / "teacher.safetensors").keys() == wide.state_dict().keys()


def test_weights_that_are_not_finite_are_refused(official, tmp_path):
    torch.save(official.state_dict() | {"norm.weight": torch.full((24,), torch.nan)}, tmp_path / "weights.pth")
    with pytest.raises(BadData, match=r"not finite in norm\.weight"):
        load_backbone(build_backbone(CONFIG, seed=0), tmp_path / "weights.pth")


def test_a_transformer_that_is_not_dinos_is_not_exported_as_one(run, tmp_path, capsys, monkeypatch):
    """DINO's tools load without strictness: they would leave these weights out and run another encoder."""
    encoder = load_encoder(run)
    encoder.backbone.reg_token = torch.nn.Parameter(torch.zeros(1, 4, 24))
    monkeypatch.setattr("skill_fast.models.weights.load_encoder", lambda path: encoder)
    assert main([str(run), str(tmp_path / "out.pth"), "--format", "dino"]) == 2
    assert "has no reg_token" in capsys.readouterr().err and not (tmp_path / "out.pth").exists()
    assert main([str(run), str(tmp_path / "out.safetensors")]) == 0
