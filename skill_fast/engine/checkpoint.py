"""Checkpoints that are whole or absent: written aside, hashed, renamed; the newest whole one is taken on resume.

DeepSpeed names a checkpoint the latest before the other ranks have finished, checks no payload, and starts from scratch
when the name is missing. So its files are only a part of a folder that this module vouches for::

    checkpoints/step-000123/manifest.json        sizes and sha256 of every file; written last, names its own hash
                            deepspeed/           DeepSpeed's files: student, optimizer
                            teacher/rank-00000.safetensors
                            state/rank-00000.{json,safetensors}
    checkpoints/newest                           the newest one's name

The order of a save is in ``Checkpointer.save``, what is done to the folder in ``checkpoint_folder.py``;
docs/checkpoints.md says what a crash at each point leaves.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from skill_fast.engine import state_files
from skill_fast.engine.checkpoint_folder import CheckpointFolder, step_name
from skill_fast.engine.manifest import Manifest, differences
from skill_fast.engine.storage import hash_file, no_room, storage_failures
from skill_fast.engine.student import Engine
from skill_fast.engine.teacher import ShardedTeacher
from skill_fast.errors import BadData, BadUsage, Failure

DEEPSPEED = "deepspeed"


class Checkpointer:
    """Saves and resumes one run; every rank makes one and calls the same methods at the same time.

    config: JSON-able, what must not change between save and resume. dataset: the shards' fingerprint.
    keep: whole checkpoints that stay; an older one goes only after a newer one is complete.
    """

    def __init__(
        self,
        run_folder: str | Path,
        engine: Engine,
        teacher: ShardedTeacher,
        *,
        config: Mapping[str, Any],
        dataset: str,
        keep: int = 2,
    ) -> None:
        if keep < 2:
            raise BadUsage(f"keep {keep} checkpoints", allowed="2 or more: the newest may be damaged", change="keep")
        self.folder = Path(run_folder) / "checkpoints"
        self.engine, self.teacher = engine, teacher
        self.config, self.dataset = dict(config), dataset
        self.on_disk = CheckpointFolder(self.folder, keep)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint of ``step`` and return its folder; on failure the older ones stay as they are.

        state: nested dictionaries of numbers, strings, lists and tensors, this rank's own. "step" and the random states
        of torch, numpy and python are added. Raises StorageFailure when a file can not be written. In order::

            room for it on every rank?
            into .tmp-step-N: DeepSpeed's files, teacher, state; each rank fsyncs and hashes its own
            rank 0: manifest, fsync, rename to step-N, fsync the parent, pointer by os.replace, remove the oldest
        """
        final = self.folder / step_name(step)
        aside = self.folder / f".tmp-{final.name}"
        if self._on_rank_0(lambda: self.on_disk.prepare(final, aside)):
            return final
        self._check_room()
        with storage_failures(self.folder):
            self.engine.ds.save_checkpoint(str(aside), tag=DEEPSPEED, save_latest=False)
        written = self._together(lambda: self._write_own_files(aside, {**state, "step": step}))
        files = {name: entry for part in written for name, entry in part.items()}
        self._on_rank_0(lambda: self.on_disk.publish(aside, final, self._manifest(step, files)))
        return final

    def resume(self, allow_change: bool = False) -> dict[str, Any] | None:
        """Load the newest whole checkpoint and return its state (with "step"), or None where there never was one.

        Skipped ones are named on stderr with the file and the reason. Raises BadData when there are checkpoints and
        none is whole; BadUsage when the configuration, the dataset or the number of ranks differ (``allow_change`` lets
        the first two pass, telling the differences).
        """
        chosen = self._on_rank_0(lambda: self._choose(allow_change))
        if chosen is None:
            return None
        name, layout = chosen
        folder = self.folder / name
        loaded, _ = self.engine.ds.load_checkpoint(str(folder), tag=DEEPSPEED)
        if loaded is None:
            raise BadData(
                f"DeepSpeed found nothing to load in '{folder}'",
                allowed="a checkpoint of the same ZeRO stage and precision",
                change="the ds_config back to that of the run, or --out",
            )
        shards = state_files.load_tensors(folder / teacher_file(self.engine.rank))
        self.teacher.load_state_dict(shards, layout)
        state = state_files.load_state(folder / "state", self.engine.rank)
        state_files.restore_random(state.pop("random"))
        return state

    def _write_own_files(self, aside: Path, state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Write this rank's teacher and state; fsync and hash them and what DeepSpeed wrote for this rank."""
        state_files.save_tensors(aside / teacher_file(self.engine.rank), self.teacher.state_dict())
        state_files.save_state(
            aside / "state", self.engine.rank, {**state, "random": state_files.random_state(self.engine.device)}
        )
        return {str(path.relative_to(aside)): hash_file(path, fsync=True) for path in self._own_files(aside)}

    def _own_files(self, aside: Path) -> list[Path]:
        """A rank's files carry its number; rank 0 takes whatever carries none."""
        marks = [(f"rank-{r:05d}.", f"pp_rank_{r}_") for r in range(self.engine.world_size)]
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        mine = [path for path in files if any(mark in path.name for mark in marks[self.engine.rank])]
        if self.engine.rank == 0:
            mine += [path for path in files if not any(mark in path.name for pair in marks for mark in pair)]
        return mine

    def _manifest(self, step: int, files: dict[str, dict[str, Any]]) -> Manifest:
        return Manifest(
            step=step,
            world_size=self.engine.world_size,
            layout=self.teacher.layout,
            dataset=self.dataset,
            config=self.config,
            files=files,
        )

    def _choose(self, allow_change: bool) -> tuple[str, str] | None:
        """Rank 0: the newest whole checkpoint and its teacher's layout, after comparing it with this run."""
        if (found := self.on_disk.newest_whole()) is None:
            return None
        name, manifest = found
        self._compare(name, manifest, allow_change)
        return name, manifest.layout

    def _compare(self, name: str, manifest: Manifest, allow_change: bool) -> None:
        if manifest.world_size != self.engine.world_size:
            raise BadUsage(
                f"checkpoint '{name}' is of {manifest.world_size} rank(s), this run has {self.engine.world_size}",
                allowed=f"{manifest.world_size}: optimizer and teacher are split over them",
                change="the number of ranks, or --out",
            )
        changed = differences(manifest.config, self.config)
        if manifest.dataset != self.dataset:
            changed.append(f"dataset: {manifest.dataset} -> {self.dataset}")
        if changed and not allow_change:
            raise BadUsage(
                f"checkpoint '{name}' belongs to another run:\n    " + "\n    ".join(changed),
                allowed="the configuration and the dataset of the run that wrote it",
                change="the keys above back to their old values, or --out",
            )
        for line in changed:
            print(f"resumed with a change: {line}", file=sys.stderr)

    def _check_room(self) -> None:
        needed, free = self._bytes_needed(), shutil.disk_usage(self.folder).free
        short = torch.tensor(int(needed > free), device=self.engine.device)
        if self.engine.world_size > 1:
            dist.all_reduce(short, op=dist.ReduceOp.MAX)
        if int(short):
            raise no_room(self.folder, needed, free)

    def _bytes_needed(self) -> int:
        """An estimate for the whole folder: fp32 weights, two moments and the teacher of all ranks, and the model."""
        elements = sum(group.full_numel for group in self.engine.flat_groups)
        return 4 * 4 * elements + sum(p.numel() * p.element_size() for p in self.engine.module.parameters())

    def _on_rank_0(self, act: Any) -> Any:
        """Run ``act`` on rank 0 and give every rank its result, or its failure."""
        return self._together(lambda: act() if self.engine.rank == 0 else None)[0]

    def _together(self, act: Any) -> list[Any]:
        """Run ``act`` on every rank and return all results; one rank's failure is raised on all of them."""
        result, failure = None, None
        try:
            with storage_failures(self.folder):
                result = act()
        except Failure as caught:
            failure = caught
        if self.engine.world_size == 1:
            if failure:
                raise failure
            return [result]
        gathered: list[Any] = [None] * self.engine.world_size
        dist.all_gather_object(gathered, (result, failure and _described(failure)))
        for kind, came, allowed, change in (described for _, described in gathered if described):
            raise kind(came, allowed=allowed, change=change)
        return [part for part, _ in gathered]


def teacher_file(rank: int) -> str:
    return f"teacher/rank-{rank:05d}.safetensors"


def _described(failure: Failure) -> tuple[type[Failure], str, str, str]:
    return type(failure), failure.came, failure.allowed, failure.change
