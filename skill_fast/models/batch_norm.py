"""Batch norm in mixed precision, and over the batches of all ranks on a CPU, where torch has none."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch import distributed as dist

from skill_fast.errors import BadUsage


class _SummedOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(context: object, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


class _CastGain(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose gain and bias take part in its statistics' dtype, and are kept in their own.

    DeepSpeed casts parameters to bf16 or fp16 and leaves buffers in fp32 (0.19.8); torch's batch norm takes 16-bit
    inputs with everything else in fp32, and refuses 16-bit gains beside fp32 statistics.
    """

    @property
    def weight(self) -> Tensor | None:  # type: ignore[override]
        return self._as_statistics("weight")

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        return self._as_statistics("bias")

    def _as_statistics(self, name: str) -> Tensor | None:
        held, statistics = self._parameters[name], self._buffers.get("running_mean")
        return held if held is None or statistics is None else held.to(statistics.dtype)


class RankBatchNorm(_CastGain):
    """Batch norm with the mean and variance of all ranks' rows; evaluates like torch's.

    ::

        n, s = rows and their sum over ranks;  mean = s / n;  var = sum over ranks of (x - mean)^2 / n
        y = (x - mean) / sqrt(var + eps) * weight + bias

    Computed in float32 (float64 stays). The definition of torch.nn.SyncBatchNorm, which takes GPU tensors only.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm of {input.dim()} dimensions, 2 or more are allowed")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        x = input if input.dtype == torch.float64 else input.float()
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        own = x.new_full((1,), x.numel() // x.shape[1])
        total = _SummedOverRanks.apply(torch.cat([x.sum(dims), own]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = x - mean.view(shape)
        variance = _SummedOverRanks.apply(centered.square().sum(dims)) / count
        self._keep(mean.detach(), variance.detach(), count)
        y = centered * torch.rsqrt(variance + self.eps).view(shape)
        gain, bias = self.weight, self.bias
        if gain is not None and bias is not None:
            y = y * gain.to(y.dtype).view(shape) + bias.to(y.dtype).view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if (
            not self.track_running_stats
            or self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked += 1
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * count / (count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


@cache
def _casting(kind: type) -> type:
    return type(kind.__name__, (_CastGain, kind), {})


def in_mixed_precision(module: nn.Module) -> nn.Module:
    """Let every batch norm below ``module`` work with 16-bit parameters beside fp32 statistics; returns the module.

    Names, state dicts and results in one precision stay as they are; fused norms (timm's) are covered.
    """
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and not isinstance(norm, _CastGain):
            norm.__class__ = _casting(type(norm))  # type: ignore[arg-type]
    return module


def over_ranks_on_cpu(module: nn.Module) -> nn.Module:
    """Turn every batch norm below ``module`` into a ``RankBatchNorm`` with the same parameters and statistics.

    Raises BadUsage for a subclass that does more than norm (timm's BatchNormAct2d, say).
    """
    for name, norm in list(module.named_modules()):
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or isinstance(norm, RankBatchNorm):
            continue
        if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d):
            raise BadUsage(
                f"'{name}' is a {type(norm).__name__}: its statistics can not be taken over ranks on a CPU",
                allowed="plain batch norms on several CPU ranks; every batch norm on GPUs",
                change="one rank, or --backbone.name resnet50",
            )
        norm.__class__ = RankBatchNorm
    return module
