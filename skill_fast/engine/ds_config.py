"""The ds_config JSON: what it may hold, who owns which key, and how the global batch is laid out over ranks.

Plain Python without DeepSpeed, so that a mistake in the file is told before anything heavy is imported.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skill_fast.errors import BadUsage

# Every top-level key that DeepSpeed 0.19 reads for training. DeepSpeed itself ignores a misspelt one without a word.
KNOWN_KEYS = frozenset(
    [
        *("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"),
        *("managed_gradient_accumulation", "gradient_clipping", "gradient_predivide_factor", "gradient_allreduce_op"),
        *("prescale_gradients", "communication_data_type", "disable_allgather"),
        *("zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"),
        *("bf16", "fp16", "data_types", "steps_per_print", "wall_clock_breakdown", "memory_breakdown", "dump_state"),
        *("log_level", "disable_python_gc", "tensorboard", "wandb", "comet", "csv_monitor", "comms_logger"),
        *("flops_profiler", "timers", "checkpoint", "aio"),
    ]
)

REFUSED_KEYS = {
    "optimizer": "the run's configuration owns the optimizer: remove the section, set --optimizer.* instead",
    "scheduler": "the run's configuration owns the schedules: remove the section, set --optimizer.* instead",
    "torch_autocast": "the model runs in the dtype of its weights: remove the section, enable bf16 or fp16",
    "keep_in_fp32_modules": "a flat buffer has one dtype: remove the key",
    "amp": "apex is not used: remove the section, enable bf16 or fp16",
}


def load_ds_config(path: str | Path) -> dict[str, Any]:
    """Read and check a ds_config file.

    Raises BadUsage, always with the key to change and who owns it: missing or unreadable file, bad JSON (with its
    line), a key given twice, unknown or refused keys, "auto", no ``train_batch_size``, ZeRO stage 3, two precisions,
    master weights that are not fp32.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        beside = ", ".join(sorted(p.name for p in path.parent.glob("*.json"))) if path.parent.is_dir() else ""
        raise BadUsage(
            f"ds_config '{path}' can not be read: {error}",
            allowed=f"a JSON file{f'; in that folder: {beside}' if beside else ''}",
            change="--ds_config, for example ds_configs/zero2.json",
        ) from error
    try:
        config = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1 : error.lineno]
        raise BadUsage(
            f"ds_config '{path}' is not JSON: line {error.lineno}, column {error.colno}: {error.msg}",
            allowed="plain JSON: no comments, no comma after the last entry",
            change=f"line {error.lineno}: {line[0].strip()[:80] if line else '(the file is empty or cut short)'}",
        ) from error
    except ValueError as error:
        raise BadUsage(
            f"ds_config '{path}': {error}", allowed="every key once", change="remove one of the two"
        ) from error
    if not isinstance(config, dict):
        raise BadUsage(f"ds_config '{path}' holds a {type(config).__name__}", allowed="a JSON object {...}")
    check_ds_config(config, str(path))
    return config


def check_ds_config(config: dict[str, Any], name: str = "ds_config") -> None:
    """Refuse what this engine can not carry out; see ``load_ds_config``."""

    def refuse(came: str, allowed: str, change: str) -> None:
        raise BadUsage(f"{name}: {came}", allowed=allowed, change=change)

    for key, why in REFUSED_KEYS.items():
        if key in config:
            refuse(f'has a section "{key}"', "precision, ZeRO, communication, batch and clipping keys", why)
    for key in config:
        if key not in KNOWN_KEYS:
            near = difflib.get_close_matches(key, KNOWN_KEYS, n=1)
            refuse(
                f'unknown key "{key}"',
                "the keys of DeepSpeed's configuration",
                f'write "{near[0]}"' if near else f'remove the line "{key}"',
            )
    for where, value in _leaves(config):
        if isinstance(value, str) and value.strip().lower() == "auto":
            refuse(
                f'"{where}" is "auto"',
                "a value: the ds_config owns this key and nothing fills it in",
                f'the line of "{where}"',
            )
    _positive_int(config, "train_batch_size", refuse, required=True)
    _positive_int(config, "train_micro_batch_size_per_gpu", refuse)
    _positive_int(config, "gradient_accumulation_steps", refuse)
    _check_precision(config, refuse)
    _check_zero(config, refuse)


def batch_layout(ds_config: dict[str, Any], world_size: int) -> tuple[int, int, int]:
    """(global_batch, micro_batch, micro_steps): global_batch = micro_batch * micro_steps * world_size.

    ``train_batch_size`` is the global batch; micro_steps is ``gradient_accumulation_steps`` (or follows from
    ``train_micro_batch_size_per_gpu`` where only that is given). Raises BadUsage when the numbers do not divide.
    """
    batch = ds_config["train_batch_size"]
    micro = ds_config.get("train_micro_batch_size_per_gpu")
    steps = ds_config.get("gradient_accumulation_steps")
    if steps is None:
        steps = 1 if micro is None else max(1, batch // (micro * world_size))
    ranks = f"{world_size} rank{'s' if world_size > 1 else ''} x gradient_accumulation_steps {steps}"
    if batch % (world_size * steps):
        below = batch - batch % (world_size * steps)
        near = [str(n) for n in (below, below + world_size * steps) if n]
        raise BadUsage(
            f'ds_config: "train_batch_size": {batch} does not divide over {ranks}',
            allowed=f"a multiple of {world_size * steps}",
            change=f'"train_batch_size": {" or ".join(near)} (the ds_config owns it), or the number of ranks',
        )
    share = batch // (world_size * steps)
    if micro is not None and micro != share:
        raise BadUsage(
            f'ds_config: "train_micro_batch_size_per_gpu": {micro}, but {batch} over {ranks} is {share}',
            allowed=f"{share}, or no such key: it follows from train_batch_size",
            change="remove train_micro_batch_size_per_gpu (the ds_config owns it)",
        )
    return batch, share, steps


def precision_of(ds_config: dict[str, Any]) -> str:
    """'bf16', 'fp16' or 'fp32': the dtype of the student's weights."""
    for name in ("bf16", "fp16"):
        if ds_config.get(name, {}).get("enabled", False):
            return name
    return "fp32"


def stage_of(ds_config: dict[str, Any]) -> int:
    """The ZeRO stage, 0 where the section is missing."""
    return int(ds_config.get("zero_optimization", {}).get("stage", 0))


def _check_precision(config: dict[str, Any], refuse: Any) -> None:
    for name in ("bf16", "fp16"):
        section = config.get(name, {})
        if not isinstance(section, dict) or not isinstance(section.get("enabled", False), bool):
            refuse(
                f'"{name}" is {section!r}', '{"enabled": true} or {"enabled": false}', f'"{name}": {{"enabled": true}}'
            )
        for key in (
            "bf16_master_weights_and_grads",
            "fp16_master_weights_and_grads",
            "bf16_optimizer_states",
            "auto_cast",
        ):
            if section.get(key):
                refuse(
                    f'"{name}.{key}" is on',
                    "fp32 master weights: the teacher's average reads them",
                    f'remove "{name}.{key}"',
                )
    if all(config.get(name, {}).get("enabled") for name in ("bf16", "fp16")):
        refuse("both bf16 and fp16 are enabled", "one precision", 'remove the section "fp16" or "bf16"')
    accumulation = config.get("data_types", {}).get("grad_accum_dtype")
    if accumulation in ("fp32", "float32", "float") and stage_of(config) < 2 and precision_of(config) != "fp32":
        refuse(
            f'"data_types.grad_accum_dtype": "{accumulation}" with ZeRO stage {stage_of(config)}',
            "fp32 accumulation of half-precision gradients with ZeRO stage 2",
            '"zero_optimization.stage": 2, or remove data_types',
        )


def _check_zero(config: dict[str, Any], refuse: Any) -> None:
    zero = config.get("zero_optimization", {})
    if not isinstance(zero, dict):
        refuse(f'"zero_optimization" is {zero!r}', '{"stage": 0, 1 or 2}', '"zero_optimization": {"stage": 2}')
    stage = zero.get("stage", 0)
    if stage not in (0, 1, 2) or isinstance(stage, bool):
        why = "the sharded teacher is not built for stage 3" if stage == 3 else "stages are numbers"
        refuse(f'"zero_optimization.stage" is {stage!r} ({why})', "0, 1 or 2", '"zero_optimization.stage": 2')
    if "offload_param" in zero:
        refuse('"zero_optimization.offload_param" needs stage 3', "offload_optimizer", "remove offload_param")
    if "zenflow" in zero:
        refuse('"zero_optimization.zenflow" updates weights between steps', "plain offload_optimizer", "remove zenflow")
    device = (zero.get("offload_optimizer") or {}).get("device", "none")
    if device not in ("none", "cpu"):
        refuse(
            f'"zero_optimization.offload_optimizer.device" is {device!r}',
            '"cpu" or "none"',
            '"offload_optimizer": {"device": "cpu"}',
        )
    if device == "cpu" and stage == 0:
        refuse(
            '"zero_optimization.offload_optimizer" with stage 0', "stage 1 or 2", 'raise "zero_optimization.stage" to 2'
        )


def _positive_int(config: dict[str, Any], key: str, refuse: Any, required: bool = False) -> None:
    if key not in config:
        if required:
            refuse(f'has no "{key}"', "the global batch over all ranks", f'add "{key}": 64 (the ds_config owns it)')
        return
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        refuse(f'"{key}" is {value!r}', "a whole number, 1 or more", f'"{key}": 64 (the ds_config owns it)')


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{where}[{place}]")
    else:
        yield where, value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    section = dict(pairs)
    if len(section) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'key "{next(key for key in keys if keys.count(key) > 1)}" stands twice in one section')
    return section
