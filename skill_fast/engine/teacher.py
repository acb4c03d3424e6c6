"""The teacher: an fp32 average of the student, sharded over the ranks as the student's master weights are.

Per step and rank: one pass over 1/world of the elements (read the student's fp32 and the teacher's, write the teacher's
fp32 and its copy in the model's dtype), then one all-gather of that copy, waited for where the teacher is first called:
methods call the student first, so that the gathering goes on beside its forward.
A teacher kept in bf16 would not move at all at a momentum of 0.99 or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skill_fast.engine.flat_groups import layout_fingerprint
from skill_fast.engine.student import Engine
from skill_fast.errors import BadData, BadUsage
from skill_fast.kernels import ema_update


class ShardedTeacher:
    """The average of ``engine.module`` as ``teacher``'s weights.

    ``engine.step(); teacher.update(m, engine.finite)`` ... ``student(crops); teacher.module(crops)``.
    Calls of the module, or of its backbone, projector or head alone, wait for the gathering by a hook; who reads its
    weights otherwise calls ``wait``.
    Parameters become views of flat buffers in the model's dtype with the student's layout. Works alike for ZeRO 0, 1
    and 2, with the optimizer on the CPU or not, in bf16, fp16 and fp32, for any world size.
    """

    def __init__(self, engine: Engine, teacher: nn.Module) -> None:
        self.engine, self.module = engine, teacher
        self.layout = layout_fingerprint(engine.flat_groups, engine.names, engine.world_size)
        self._pending: list[dist.Work] = []
        student = dict(engine.module.named_parameters())
        mine = dict(teacher.named_parameters())
        if {k: p.shape for k, p in student.items()} != {k: p.shape for k, p in mine.items()}:
            differing = sorted(student.keys() ^ mine.keys()) or [k for k in mine if mine[k].shape != student[k].shape]
            raise BadUsage(
                f"student and teacher differ at {', '.join(differing[:5])}",
                allowed="the same module tree twice",
                change="build both with the same arguments",
            )
        teacher.requires_grad_(False).to(engine.device)
        for norm in teacher.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.track_running_stats = False  # it norms by its batch, and keeps the student's running statistics
        with torch.no_grad():
            self._take_flat_buffers(mine)
            self._copy_the_rest(student, mine)
        for part in (teacher, *teacher.children()):  # parts: methods project without a call of the whole
            part.register_forward_pre_hook(lambda *_: self.wait())

    def update(self, momentum: float, finite: Tensor) -> None:
        """``teacher <- m teacher + (1 - m) student`` on this rank's shard; starts the gathering of the result.

        finite: [] bool on the device; where it is False the step was not applied, and m is 1: nothing moves, and the
        host need not know. Buffers (batch norm's statistics, say) are copied, not averaged.
        """
        self.wait()
        with torch.no_grad():
            # In float64, so that 1 - m is as exact as the schedule's own number.
            m = torch.full((), momentum, dtype=torch.float64, device=finite.device).masked_fill_(~finite, 1.0)
        for group, flat, shard in zip(self.engine.flat_groups, self._flats, self.shards):
            with torch.no_grad():
                self._average(group.fp32_shard.detach(), shard, flat[group.shard], m)
            if self.engine.world_size > 1:
                work = dist.all_gather_into_tensor(flat, flat[group.shard], async_op=True)
                self._pending.append(cast(dist.Work, work))
        for mine, students in self._buffers:
            kept = torch.where(finite, students, mine)
            mine.copy_(kept)
            if students.is_floating_point():  # running statistics of a step that was not applied may be NaN
                students.copy_(kept)

    def wait(self) -> None:
        """Wait until every rank's part of the latest ``update`` has arrived."""
        for work in self._pending:
            work.wait()
        self._pending.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's fp32 shards, one flat tensor a group; valid for runs of the same ``layout``."""
        return {f"group.{g}": shard for g, shard in enumerate(self.shards)}

    def load_state_dict(self, state: Mapping[str, Tensor], layout: str) -> None:
        """Take back this rank's shards and rebuild the copy in the model's dtype on every rank."""
        if layout != self.layout:
            raise BadData(
                "the teacher's shards are of another layout",
                allowed="the same model, parameter groups and number of ranks",
                change="resume with the settings of the run that wrote them",
            )
        for name, shard in self.state_dict().items():
            shard.copy_(state[name])
        for mine, students in self._buffers:  # the student's were loaded before
            mine.copy_(students)
        self._spread()

    def full_state(self) -> dict[str, Tensor]:
        """On rank 0: every parameter by name, fp32 on the CPU, and the buffers in their own dtype; elsewhere {}.

        Every rank must call it.
        """
        self.wait()
        full: dict[str, Tensor] = {}
        for group, shard in zip(self.engine.flat_groups, self.shards):
            flat = self._gathered(shard)
            if flat is not None:
                for param, view in zip(group.params, group.views(flat)):
                    full[self.engine.names[param]] = view.clone()
        if self.engine.rank != 0:
            return {}
        for name, param in self.module.named_parameters():
            full.setdefault(name, param.detach().float().cpu())
        full.update((name, buffer.detach().cpu().clone()) for name, buffer in self.module.named_buffers())
        return full

    def load_full_state(self, full: Mapping[str, Tensor]) -> None:
        """Start the average from whole tensors (of a run with another number of ranks, say); every rank needs them."""
        for group, shard in zip(self.engine.flat_groups, self.shards):
            flat = torch.zeros(group.full_numel, dtype=torch.float32)
            for param, view in zip(group.params, group.views(flat)):
                view.copy_(full[self.engine.names[param]])
            shard.copy_(flat[group.shard])
        for name, buffer in self.module.named_buffers():
            buffer.copy_(full[name])
        self._spread()

    def _take_flat_buffers(self, mine: dict[str, nn.Parameter]) -> None:
        """Point the teacher's parameters into flat buffers and keep an fp32 shard of each; both equal the student."""
        self._flats: list[Tensor] = []
        self.shards: list[Tensor] = []
        for group in self.engine.flat_groups:
            flat = torch.zeros(group.full_numel, dtype=self.engine.dtype, device=self.engine.device)
            for param, view in zip(group.params, group.views(flat)):
                view.copy_(param)
                mine[self.engine.names[param]].data = view
            self._flats.append(flat)
            self.shards.append(group.fp32_shard.detach().clone())

    def _copy_the_rest(self, student: dict[str, nn.Parameter], mine: dict[str, nn.Parameter]) -> None:
        averaged = {param for group in self.engine.flat_groups for param in group.params}
        for name, param in student.items():
            if param not in averaged:  # held fixed in the student: a plain copy stays right
                mine[name].data = param.detach().clone()
        students = dict(self.engine.module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.data = students[name].detach().clone()
        self._buffers = [(buffer, students[name]) for name, buffer in self.module.named_buffers()]

    def _average(self, student: Tensor, shard: Tensor, out: Tensor, momentum: Tensor) -> None:
        if shard.device == out.device:
            ema_update(shard, student, momentum, out=out)
        else:  # optimizer on the CPU, model on the GPU
            ema_update(shard, student, momentum.to(shard.device))
            out.copy_(shard)

    def _spread(self) -> None:
        self.wait()
        for group, flat, shard in zip(self.engine.flat_groups, self._flats, self.shards):
            flat[group.shard].copy_(shard)
            if self.engine.world_size > 1:
                dist.all_gather_into_tensor(flat, flat[group.shard].clone())

    def _gathered(self, shard: Tensor) -> Tensor | None:
        """The whole flat buffer on rank 0's CPU, None elsewhere."""
        if self.engine.world_size == 1:
            return shard.cpu()
        part = shard.to(self.engine.device)
        parts = [torch.empty_like(part) for _ in range(self.engine.world_size)] if self.engine.rank == 0 else None
        dist.gather(part, parts, dst=0)
        return torch.cat(parts).cpu() if parts is not None else None
