"""A run that starts from given weights: student and teacher, through train.py."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file

from skill_fast.kernels import backend
from skill_fast.models.vit import BackboneConfig, build_backbone
from skill_fast.train import main
from tests.conftest import ROOT, TINY


def test_a_run_starts_from_the_weights_it_is_given(trainer, tmp_path):
    """One step of a rate near 0 leaves the given weights, in fp32; their names and shapes are those of ``TINY``."""
    sizes = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    given = build_backbone(BackboneConfig("vit_tiny_patch16_224", 32, drop_path=0.0, **sizes), seed=77).state_dict()
    save_file(given, tmp_path / "given.safetensors")
    options = ["--steps", "1", "--optimizer.lr", "1e-12", "--optimizer.final-lr", "0", "--watch-every", "0"]
    start = ["--init-from", str(tmp_path / "given.safetensors"), *options]
    trainer.run(tmp_path / "run", *start, ds_config="zero0_fp32")
    kept = load_file(tmp_path / "run" / "teacher.safetensors")
    assert kept.keys() == given.keys()
    for name, value in given.items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=1e-8)


def test_weights_that_are_not_there_end_the_run_with_3(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_chosen", None)  # a process runs with one; this one goes on to other tests
    ds_config = ["--ds_config", str(ROOT / "ds_configs" / "zero0_fp32.json")]
    given = ["--init-from", "nowhere.pth", "--data", str(drawn), "--out", str(tmp_path / "run"), *TINY]
    assert main([*ds_config, *given]) == 3
    told = capsys.readouterr().err
    assert "'nowhere.pth' does not exist" in told and "Traceback" not in told
