"""Two ranks are as good as one: loss, gradient, batch norm's statistics, queue and center of the same global batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from skill_fast.methods import METHODS
from skill_fast.models.batch_norm import RankBatchNorm, over_ranks_on_cpu
from tests.engine.launch import launch

CASES = [(name, "vit_tiny_patch16_224") for name in METHODS] + [("simclr", "test_resnet"), ("byol", "test_resnet")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    for world in (1, 2):
        for done in launch("method_worker.py", world, str(folder)):
            assert done.returncode == 0, done.stdout
    return folder


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_two_ranks_compute_what_one_does(outcomes, name, backbone):
    """float64; the distillation kernel of skill and dino, the queue and the center are float32."""
    one, two = (load_file(outcomes / f"{name}-{backbone}-{world}.safetensors") for world in (1, 2))
    assert one.keys() == two.keys() and len(one) > 10
    exact = name not in ("skill", "dino")
    for key, value in one.items():
        close = {"rtol": 1e-6, "atol": 1e-8} if exact and value.dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(two[key], value, **close, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("shape", [(5, 7), (3, 7, 4, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_on_one_rank_it_is_torchs_batch_norm(shape, affine, monkeypatch):
    """Forward, gradient, running statistics, and evaluation; the sum over ranks is left out, there is one."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values)
    plain = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(7, affine=affine).double()
    ours = over_ranks_on_cpu(type(plain)(7, affine=affine).double())
    assert isinstance(ours, RankBatchNorm)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for norm, given in ((plain, a), (ours, b)):
        norm(given).pow(3).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))
