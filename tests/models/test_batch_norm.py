"""Batch norm as DeepSpeed leaves it in mixed precision: 16-bit gain and bias, fp32 statistics."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from skill_fast.models.batch_norm import in_mixed_precision, over_ranks_on_cpu


def cast(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Parameters in ``dtype``, buffers as they are, gains and biases that are no identity."""
    torch.manual_seed(1)
    for parameter in norm.parameters():
        parameter.data = (torch.rand_like(parameter) + 0.5).to(dtype)
    return norm


def defined(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """(x - mean) / sqrt(var + eps) * gain + bias in float64, channel by channel."""
    out = torch.empty_like(x, dtype=torch.float64)
    for channel in range(x.shape[1]):
        values = x[:, channel].double()
        mean = values.sum() / values.numel()
        variance = (values - mean).square().sum() / values.numel()
        out[:, channel] = (values - mean) / (variance + eps).sqrt() * gain[channel].double() + bias[channel].double()
    return out


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (7, 5)), (nn.BatchNorm2d, (3, 5, 4, 3))])
def test_sixteen_bit_gains_beside_fp32_statistics(kind, shape, dtype):
    norm = cast(in_mixed_precision(kind(5)), dtype)
    x = (torch.randn(shape) * 2 + 1).to(dtype)
    y = norm(x)
    held = dict(norm.named_parameters())
    wanted = defined(x, held["weight"], held["bias"], norm.eps)
    assert y.dtype == dtype and torch.allclose(y.double(), wanted, rtol=2**-7, atol=2**-7)
    (y.float() * torch.arange(y.numel()).view_as(y)).sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.abs().sum() > 0 for p in held.values())
    assert norm.running_mean.dtype == torch.float32 and norm.num_batches_tracked == 1
    mean = x.float().transpose(0, 1).flatten(1).mean(1)
    assert torch.allclose(norm.running_mean, 0.1 * mean, rtol=1e-3, atol=1e-4)
    assert norm.eval()(x).dtype == dtype


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d])
def test_in_one_precision_nothing_changes(kind):
    plain, ours = kind(5), in_mixed_precision(kind(5))
    x = torch.randn(6, 5) if kind is nn.BatchNorm1d else torch.randn(6, 5, 2, 3)
    assert torch.equal(plain(x), ours(x)) and type(ours).__name__ == kind.__name__
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert [id(p) for p in ours.parameters()] == [id(ours.weight), id(ours.bias)]
    in_mixed_precision(ours)
    assert torch.equal(plain.eval()(x), ours.eval()(x))


def test_a_norm_that_is_fused_with_its_activation_and_one_without_gain():
    norm = cast(in_mixed_precision(BatchNormAct2d(5)), torch.bfloat16)
    y = norm(torch.randn(6, 5, 2, 3).bfloat16())
    assert y.dtype == torch.bfloat16 and y.min() == 0
    assert in_mixed_precision(nn.BatchNorm1d(5, affine=False))(torch.randn(4, 5).bfloat16()).dtype == torch.bfloat16


def test_the_norm_over_cpu_ranks_evaluates_in_mixed_precision_too():
    norm = cast(over_ranks_on_cpu(nn.Sequential(nn.BatchNorm1d(5)))[0], torch.bfloat16).eval()
    x = torch.randn(4, 5).bfloat16()
    held = dict(norm.named_parameters())
    wanted = x.double() / (1 + norm.eps) ** 0.5 * held["weight"].double() + held["bias"].double()
    assert torch.allclose(norm(x).double(), wanted, rtol=2**-7, atol=2**-7)
