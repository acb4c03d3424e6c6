"""Runs the sharded teacher beside a plain float64 average for every stage and precision, and reports what it saw.

Started by test_teacher.py, one process a rank. The oracle takes the student's whole fp32 weights from DeepSpeed's own
``safe_get_full_fp32_param``, not from the layout under test.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import safe_get_full_fp32_param

from skill_fast.engine.deepspeed_engine import init_distributed
from skill_fast.engine.student import Engine
from skill_fast.engine.teacher import ShardedTeacher
from tests.engine.toy import build, ds_config, train_step

STEPS = 12
MOMENTUM = 0.999


def masters(engine: Engine) -> dict[str, torch.Tensor]:
    """The student's whole fp32 weights by name, in float64."""
    if engine.stage > 0:
        found = {name: safe_get_full_fp32_param(p) for p, name in engine.names.items() if p.requires_grad}
    elif engine.precision == "fp32":
        found = {name: p.detach() for p, name in engine.names.items() if p.requires_grad}
    else:
        pairs = zip(engine.ds.optimizer.fp16_groups, engine.ds.optimizer.fp32_groups)
        found = {engine.names[p]: m.detach() for params, kept in pairs for p, m in zip(params, kept)}
    return {name: tensor.detach().cpu().clone().double() for name, tensor in found.items()}


def worst(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def run(config: dict, folder: Path, name: str) -> dict[str, object]:
    engine, teacher = build(config)
    average = masters(engine)
    start = {k: v.clone() for k, v in average.items()}
    in_bf16 = {k: v.bfloat16() for k, v in average.items()}
    losses, applied = [], 0
    for step in range(STEPS):
        spoil = step == 7
        losses.append(train_step(engine, step, spoil=spoil))
        teacher.update(MOMENTUM, engine.finite)
        if engine.finite:
            applied += 1
            now = masters(engine)
            average = {k: MOMENTUM * average[k] + (1 - MOMENTUM) * now[k] for k in average}
            in_bf16 = {k: MOMENTUM * t + (1 - MOMENTUM) * now[k].bfloat16() for k, t in in_bf16.items()}
    teacher.wait()
    full = teacher.full_state()
    held = dict(teacher.module.named_parameters())
    low = {k: held[k].detach().cpu() for k in average}
    report: dict[str, object] = {
        "name": name,
        "applied": applied,
        "losses": losses,
        "moved": worst(average, start),
        "low_precision_is_the_rounded_average": None,
        "low_precision_error": worst(low, average),
        "bf16_control_error": worst({k: v.double() for k, v in in_bf16.items()}, average),
        "bf16_control_moved_share": share_moved(in_bf16, start),
        "fixed": [float(v) for v in held["fixed"]],
        "seen": [int(teacher.module.seen), int(engine.module.seen)],
        "grad_norm": float(engine.grad_norm),
        "padding": [g.full_numel - sum(p.numel() for p in g.params) for g in engine.flat_groups],
        "trained_teacher": any(p.requires_grad for p in teacher.module.parameters()),
    }
    if engine.rank == 0:
        report["error"] = worst(average, full)
        report["keys"] = sorted(full)
        report["low_precision_is_the_rounded_average"] = all(
            torch.equal(full[k].to(engine.dtype), low[k]) for k in average
        )
    report |= resharded(engine, teacher)
    return report


def share_moved(control: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> float:
    """Of the weights that are not tiny, the share that a bf16 average moved."""
    moved = total = 0
    for key, first in start.items():
        plain = first.abs() > 0.05
        moved += int((control[key].double() != first.bfloat16().double())[plain].sum())
        total += int(plain.sum())
    return moved / total


def resharded(engine: Engine, teacher: ShardedTeacher) -> dict[str, object]:
    """Shards saved and loaded again, then whole tensors loaded into a teacher: both must give the same weights."""
    kept = {k: v.clone() for k, v in teacher.state_dict().items()}
    before = {k: p.detach().clone() for k, p in teacher.module.named_parameters()}
    whole: list = [teacher.full_state()]
    dist.broadcast_object_list(whole, src=0)
    teacher.update(0.5, torch.tensor(True, device=engine.device))
    teacher.load_state_dict(kept, teacher.layout)
    by_shard = all(torch.equal(before[k], p) for k, p in teacher.module.named_parameters())
    teacher.update(0.5, torch.tensor(True, device=engine.device))
    teacher.wait()
    teacher.load_full_state(whole[0])
    by_name = all(torch.equal(before[k], p) for k, p in teacher.module.named_parameters())
    same_shards = all(torch.equal(kept[k], v) for k, v in teacher.state_dict().items())
    return {"by_shard": by_shard, "by_name": by_name, "same_shards": same_shards}


def main(folder: Path) -> None:
    rank, world, device = init_distributed()
    if device.type == "cpu":
        # DeepSpeed refuses fp16 on a CPU without fp16 instructions; torch computes it anyway, which is all a toy needs.
        get_accelerator().is_fp16_supported = lambda: True
    cases = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (0, "bf16"), (1, "bf16"), (2, "bf16")]
    reports = []
    for stage, precision in cases:
        began = time.perf_counter()
        reports.append(run(ds_config(stage, precision), folder, f"zero{stage}-{precision}"))
        reports[-1]["seconds"] = time.perf_counter() - began
    reports.append(run(ds_config(2, "bf16", offload=True), folder, "zero2_offload-bf16"))
    for stage in (0, 1, 2):
        fp16 = ds_config(stage, "fp16")
        fp16["fp16"] |= {"initial_scale_power": 8}
        reports.append(run(fp16, folder, f"zero{stage}-fp16"))
    reports.append(run(ds_config(2, "fp32", gradient_accumulation_steps=2), folder, "zero2-fp32-accumulated"))
    (folder / f"reports-{world}-{rank}.json").write_text(json.dumps(reports))
    dist.barrier()  # no rank takes its group down while another still talks through it
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
