"""Levers that must not change what is computed: forward, gradient, names of parameters."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from torch import Tensor

from skill_fast.errors import BadUsage
from skill_fast.models.heads import DistillationHead, HeadConfig, MultiCrop
from skill_fast.models.speed import SpeedConfig, attention_backend, packed_features, prepare
from skill_fast.models.vit import BackboneConfig, attend_plainly, build_backbone

TINY = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=48, depth=3, num_heads=3, drop_path=0.0)
CPU = torch.device("cpu")


def model(drop_path: float = 0.0) -> MultiCrop:
    torch.manual_seed(0)
    head = DistillationHead(48, HeadConfig(prototypes=33, hidden=24, bottleneck=8, init="fan_in"))
    built = MultiCrop(build_backbone(TINY, drop_path=drop_path, seed=1), head)
    for parameter in built.parameters():  # biases and norms away from where they begin
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return built


def crops(batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, batch, 3, 32, 32, generator=generator), torch.randn(3, batch, 3, 16, 16, generator=generator)


def both(changed: MultiCrop, plain: MultiCrop) -> list[tuple[Tensor, Tensor]]:
    """Outputs and every gradient, of the one and the other."""
    outputs = []
    for each in (changed, plain):
        out = each(*crops())
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        outputs.append(out)
    named = dict(plain.named_parameters())
    assert set(named) == set(dict(changed.named_parameters()))
    return [tuple(outputs), *((p.grad, named[name].grad) for name, p in changed.named_parameters())]  # type: ignore


@pytest.mark.parametrize("fused", [True, False], ids=["sdpa", "plain"])
@pytest.mark.parametrize("config", [SpeedConfig(packed=True), SpeedConfig(gradient_checkpointing=True)])
def test_packed_and_checkpointed_are_the_plain_forward(config, fused):
    plain = model()
    if not fused:
        attend_plainly(plain)
    changed = copy.deepcopy(plain)
    prepare(changed, copy.deepcopy(plain), config, CPU)
    for got, expected in both(changed, plain):
        # Sums over other shapes: float32 of values near 1.
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_packed_takes_tokens_of_any_number_of_resolutions():
    backbone = build_backbone(TINY, seed=1).eval()
    images = [torch.randn(n, 3, s, s) for n, s in ((1, 32), (2, 24), (5, 8))]
    with torch.no_grad():
        expected = torch.cat([backbone(group) for group in images])
        torch.testing.assert_close(packed_features(backbone, images), expected, rtol=1e-4, atol=1e-5)


def test_stochastic_depth_of_a_packed_forward_drops_whole_samples():
    """With a rate of one half a block's branch is 0 or doubled for all tokens of a sample alike."""
    from skill_fast.models.speed import _dropped

    drop = build_backbone(TINY, drop_path=0.5, seed=1).blocks[2].drop_path1.train()
    torch.manual_seed(3)
    out = _dropped(drop, torch.ones(4 * 5 + 6 * 2, 48), [(4, 5), (6, 2)])
    samples = [*out[:20].unflatten(0, (4, 5)), *out[20:].unflatten(0, (6, 2))]
    assert all(sample.unique().tolist() in ([0.0], [2.0]) for sample in samples)
    assert {sample.unique().item() for sample in samples} == {0.0, 2.0}


def test_drop_path_by_subset_is_its_formula():
    plain = model(drop_path=0.6)
    changed = copy.deepcopy(plain)
    prepare(changed, copy.deepcopy(plain), SpeedConfig(drop_path_by_subset=True), CPU)
    assert list(changed.state_dict()) == list(plain.state_dict())
    images = torch.randn(7, 3, 32, 32)
    changed.eval(), plain.eval()
    torch.testing.assert_close(changed.backbone(images), plain.backbone(images))
    changed.train()
    block, x = changed.backbone.blocks[2], torch.randn(7, 17, 48)
    torch.manual_seed(5)
    got = block(x)
    torch.manual_seed(5)
    expected = x.clone()
    for branch in (lambda t: block.attn(block.norm1(t)), lambda t: block.mlp(block.norm2(t))):
        chosen = torch.randperm(7)[:3]  # round(.4 x 7)
        added = branch(expected[chosen])
        expected = expected.clone()
        for place, sample in enumerate(chosen.tolist()):
            expected[sample] += 7 / 3 * added[place]
    torch.testing.assert_close(got, expected)
    assert changed.backbone.blocks[0](x).shape == x.shape  # the first block of a stochastic depth drops nothing


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo 2.15 looks at it
@pytest.mark.parametrize(("packed", "versions"), [(False, 2), (True, 1)], ids=["a pass a resolution", "packed"])
def test_compiled_blocks_are_the_plain_ones_and_keep_their_names(monkeypatch, packed, versions):
    """Through dynamo and autograd's tracing; the C++ that inductor writes takes a minute and more: long runs only.

    One version of all blocks a resolution, or one of the packed block: so packing does not leave the compiled code.
    """
    if os.environ.get("SKILL_FAST_LONG") != "1":
        real, of_module = torch.compile, torch.nn.Module.compile
        monkeypatch.setattr(torch, "compile", lambda call, **how: real(call, **how | {"backend": "aot_eager"}))
        monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: of_module(self, backend="aot_eager", **how))
    plain = model()
    changed, teacher = copy.deepcopy(plain), copy.deepcopy(plain)
    prepare(changed, teacher, SpeedConfig(compile="on", packed=packed), CPU)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    for got, expected in both(changed, plain):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == versions


def test_levers_that_exclude_each_other_or_do_not_fit_are_refused():
    with pytest.raises(BadUsage, match="packed together with"):
        prepare(model(), model(), SpeedConfig(packed=True, gradient_checkpointing=True), CPU)
    odd = model()
    odd.backbone.blocks[0] = torch.nn.Identity()
    for config in (SpeedConfig(packed=True), SpeedConfig(drop_path_by_subset=True)):
        with pytest.raises(BadUsage, match="with blocks of Identity"):
            prepare(odd, odd, config, CPU)


def test_the_attention_is_named():
    backbone = build_backbone(TINY, seed=0)
    assert attention_backend(backbone, CPU, torch.float32, 32).startswith("SDPA ")
    attend_plainly(backbone)
    assert attention_backend(backbone, CPU, torch.float32, 32) == "plain"
    assert attention_backend(torch.nn.Linear(2, 2), CPU, torch.float32, 32) == "none"
