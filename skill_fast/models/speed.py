"""Levers on the time and memory of a step that leave its result as it is, or its distribution (``--speed.*``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast, no_type_check

import torch
from torch import Tensor, nn

from skill_fast.errors import BadUsage

PackedBlock = Callable[[Any, Tensor, list[tuple[int, int]]], Tensor]


@dataclass(frozen=True)
class SpeedConfig:
    """How the step is carried out; the method does not depend on it."""

    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile, block by block with static shapes; auto: on a GPU."""
    kernels: Literal["auto", "fused", "reference"] = "auto"
    """Triton or plain torch for average, loss and center; auto: Triton on a GPU."""
    gradient_checkpointing: bool = False
    """Compute each block's activations again in the backward pass: less memory, about a third more work."""
    packed: bool = False
    """Token-wise layers over the crops of all resolutions at once, one attention call a resolution."""
    drop_path_by_subset: bool = False
    """Stochastic depth that computes a branch for the samples that keep it only, a fixed number of them."""


def prepare(student: nn.Module, teacher: nn.Module, config: SpeedConfig, device: torch.device) -> None:
    """Apply the levers in place, after the engine has taken the student and before the first step.

    student, teacher: ``MultiCrop``s or ``Siamese``s. Names of parameters stay what they are. Raises BadUsage for levers
    that exclude each other or do not fit the method, and for a backbone whose blocks are not timm's plain ones where a
    lever needs them.
    """
    if config.packed and (config.gradient_checkpointing or config.drop_path_by_subset):
        raise BadUsage(
            "--speed.packed together with gradient checkpointing or drop path by subset",
            allowed="one of them",
            change="--speed.no-packed, or without the other",
        )
    encoders = [cast(Any, model) for model in (student, teacher)]
    if config.packed:
        for model in encoders:
            if not hasattr(model, "packed"):
                raise BadUsage(
                    f"--speed.packed with a {type(model).__name__}",
                    allowed="methods with crops of several resolutions: skill, dino",
                    change="leave out --speed.packed",
                )
            check_plain(model.backbone, "--speed.packed")
            model.packed = packed_block
    if config.drop_path_by_subset:
        check_plain(encoders[0].backbone, "--speed.drop-path-by-subset")
        drop_by_subset(encoders[0].backbone)
    if config.gradient_checkpointing:
        encoders[0].backbone.set_grad_checkpointing(True)
    if config.compile == "on" or (config.compile == "auto" and device.type == "cuda"):
        compile_blocks(encoders)


def compile_blocks(models: list[Any]) -> None:
    """Compile every block; all share one code object, and each pair of drop path rate and crop size is a version."""
    blocks = [block for model in models for block in getattr(model.backbone, "blocks", ())]  # none in a CNN
    limit = torch._dynamo.config
    limit.recompile_limit = max(limit.recompile_limit, 8 * len(blocks))  # past it blocks would silently run eagerly
    compiled = torch.compile(packed_block, dynamic=False)
    for block in blocks:
        block.compile(dynamic=False)
    for model in models:
        if getattr(model, "packed", None):  # calls a block's layers, not the block
            model.packed = compiled


def check_plain(backbone: Any, option: str) -> None:
    """Raise BadUsage unless the blocks are pre-norm attention and MLP with nothing in between, as timm's ``Block``."""
    for block in getattr(backbone, "blocks", [backbone]):
        attention: Any = getattr(block, "attn", None)
        names = type(block).__name__, type(attention).__name__
        if names != ("Block", "Attention") or attention.gate is not None:
            raise BadUsage(
                f"{option} with blocks of {names[0]} and {names[1]}",
                allowed="vision transformers of timm's plain Block, such as vit_small_patch16_224",
                change=f"leave out {option}",
            )


def drop_by_subset(backbone: Any) -> None:
    """Replace stochastic depth: a branch is computed for n samples drawn without replacement, scaled by B / n.

    ::

        n = max(1, round((1 - p) B));  s = n of the B samples;  x[s] += B / n * branch(x[s])

    The expectation is that of the usual one. Source: DINOv2, section 5, efficient stochastic depth.
    """
    for block in backbone.blocks:
        rate = getattr(block.drop_path1, "drop_prob", 0.0) or 0.0
        if rate:
            block.forward = _SubsetForward(block, rate)


class _SubsetForward:
    """``forward`` of one block; not a module, so that the block's parameters keep their names."""

    def __init__(self, block: Any, rate: float) -> None:
        self._block, self._rate = block, rate

    def __call__(self, x: Tensor) -> Tensor:
        block = self._block
        for branch in (
            lambda t: block.ls1(block.attn(block.norm1(t))),
            lambda t: block.ls2(block.mlp(block.norm2(t))),
        ):
            x = self._add(x, branch) if block.training else x + branch(x)
        return x

    def _add(self, x: Tensor, branch: Any) -> Tensor:
        samples = x.shape[0]
        kept = max(1, round((1 - self._rate) * samples))
        chosen = torch.randperm(samples, device=x.device)[:kept]
        return torch.index_add(x, 0, chosen, branch(x[chosen]).to(x.dtype), alpha=samples / kept)


# The next four are traced by torch.compile, and run-time checks of types, as in the tests, would be with them.


@no_type_check
def packed_block(block: Any, x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """One block over the tokens of all resolutions, [sum of B_i N_i, dim]; shapes: (B_i, N_i) each."""
    x = x + _dropped(block.drop_path1, block.ls1(_attention(block.attn, block.norm1(x), shapes)), shapes)
    return x + _dropped(block.drop_path2, block.ls2(block.mlp(block.norm2(x))), shapes)


def packed_features(backbone: Any, groups: list[Tensor], block_forward: PackedBlock = packed_block) -> Tensor:
    """Features of crops of several resolutions, [sum of B_i, dim], with one pass of the token-wise layers over all.

    groups: [B_i, 3, H_i, W_i]. block_forward: ``packed_block`` or its compiled form. Equal to
    ``cat([backbone(group) for group in groups])``.

    ::

        tokens = [1, sum of B_i N_i, dim]
        for each block: qkv of all tokens; softmax attention a resolution; projection, MLP, norms of all tokens
    """
    embedded = [backbone.norm_pre(backbone.patch_drop(backbone._pos_embed(backbone.patch_embed(g)))) for g in groups]
    shapes = [(e.shape[0], e.shape[1]) for e in embedded]
    x = torch.cat([e.flatten(0, 1) for e in embedded])
    for block in backbone.blocks:
        x = block_forward(block, x, shapes)
    x = backbone.norm(x)
    tokens = [part.unflatten(0, shape) for part, shape in zip(_parts(x, shapes), shapes)]
    return torch.cat([backbone.forward_head(part) for part in tokens])


@no_type_check
def _parts(x: Tensor, shapes: list[tuple[int, int]]) -> Iterator[Tensor]:
    yield from x.split([samples * tokens for samples, tokens in shapes])


@no_type_check
def _attention(attention: Any, x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """x: [tokens of all samples, dim]; each sample attends to itself alone."""
    mixed = []
    for part, (samples, tokens) in zip(_parts(attention.qkv(x), shapes), shapes):
        qkv = part.reshape(samples, tokens, 3, attention.num_heads, attention.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = attention.q_norm(qkv[0]), attention.k_norm(qkv[1]), qkv[2]
        if attention.fused_attn:
            out = nn.functional.scaled_dot_product_attention(q, k, v, scale=attention.scale)
        else:
            out = ((q * attention.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        mixed.append(out.transpose(1, 2).reshape(samples * tokens, attention.attn_dim))
    return attention.proj(attention.norm(torch.cat(mixed)))


@no_type_check
def _dropped(drop_path: nn.Module, x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Stochastic depth a sample, as on each resolution alone."""
    if isinstance(drop_path, nn.Identity) or not drop_path.training:
        return x
    parts = [drop_path(part.unflatten(0, shape)) for part, shape in zip(_parts(x, shapes), shapes)]
    return torch.cat([part.flatten(0, 1) for part in parts])


def attention_backend(backbone: Any, device: torch.device, dtype: torch.dtype, size: int) -> str:
    """Which attention torch takes for a crop of ``size`` pixels, for the log: "plain", SDPA's choice, or "none"."""
    attention: Any = getattr(next(iter(getattr(backbone, "blocks", ())), None), "attn", None)
    if not hasattr(attention, "fused_attn"):
        return "none"
    if not attention.fused_attn:
        return "plain"
    tokens = (size // backbone.patch_embed.patch_size[0]) ** 2 + backbone.num_prefix_tokens
    q = torch.empty(1, attention.num_heads, tokens, attention.head_dim, dtype=dtype, device=device)
    return "SDPA " + torch.nn.attention.SDPBackend(torch._fused_sdp_choice(q, q, q)).name.lower()
