"""The distillation head and the multi-crop forward against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from skill_fast.models.heads import DistillationHead, HeadConfig, MultiCrop
from skill_fast.models.vit import BackboneConfig, build_backbone


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def linear(layer, row):
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [sum(w * x for w, x in zip(weights, row)) + b for weights, b in zip(layer.weight.tolist(), bias)]


def unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm for x in row]


def test_logits_are_cosines_to_the_prototypes():
    torch.manual_seed(0)
    head = DistillationHead(5, HeadConfig(prototypes=7, hidden=9, bottleneck=3, init="fan_in")).double()
    with torch.no_grad():
        head.last_layer.weight.mul_(3)  # the length of a prototype must not matter
    features = torch.randn(2, 5, dtype=torch.float64)
    for row, logits in zip(features.tolist(), head(features).tolist()):
        hidden = [gelu(x) for x in linear(head.mlp[0], row)]
        hidden = [gelu(x) for x in linear(head.mlp[2], hidden)]
        projected = unit(linear(head.mlp[4], hidden))
        wanted = [sum(a * b for a, b in zip(unit(w), projected)) for w in head.last_layer.weight.tolist()]
        assert logits == pytest.approx(wanted, abs=1e-12)


def test_prototypes_get_no_gradient_along_themselves():
    """At norm 1 the gain is fixed: the gradient of every prototype is at right angles to it."""
    torch.manual_seed(0)
    head = DistillationHead(6, HeadConfig(prototypes=11, hidden=8, bottleneck=4))
    head(torch.randn(5, 6)).pow(2).sum().backward()
    weight = head.last_layer.weight
    assert weight.grad is not None
    torch.testing.assert_close((weight * weight.grad).sum(1), torch.zeros(11), atol=1e-6, rtol=0)


def test_multi_crop_is_a_pass_per_view_in_the_order_given():
    config = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=24, depth=1, num_heads=2, drop_path=0.0)
    model = MultiCrop(build_backbone(config, seed=0), DistillationHead(24, HeadConfig(13, 16, 8))).eval()
    large, small = torch.randn(2, 3, 3, 32, 32), torch.randn(3, 3, 3, 16, 16)
    logits = model(large, small)
    assert logits.shape == (5, 3, 13)
    one_by_one = [model.head(model.backbone(view)) for view in [*large, *small]]
    # Batched and single matrix products sum in another order.
    torch.testing.assert_close(logits, torch.stack(one_by_one), rtol=1e-4, atol=1e-6)
