"""The folder of a run's checkpoints on the disk: which there are, which are whole, which come and which go.

Rank 0 alone looks and acts here; ``checkpoint.py`` says what is in a checkpoint and brings the ranks together. It holds
``step-000123``, a checkpoint; ``.tmp-*``, never finished or being removed; ``newest``, the newest one's name.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from skill_fast.engine.manifest import Manifest, check_folder
from skill_fast.engine.storage import sync_folder, write_durably
from skill_fast.errors import BadData

POINTER = "newest"


class CheckpointFolder:
    """Whole checkpoints by step, of which the ``keep`` newest stay; what was found whole once is not read again."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self.keep = path, keep
        self._known_whole: set[str] = set()

    def prepare(self, final: Path, aside: Path) -> bool:
        """Whether the step of ``final`` is already saved; else clear the way, and make the folders of ``aside``."""
        self.path.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            if self._whole(final.name):
                return True
            shutil.rmtree(final)
        for left in self.path.glob(".tmp-*"):
            shutil.rmtree(left)
        (aside / "teacher").mkdir(parents=True)
        (aside / "state").mkdir()
        return False

    def publish(self, aside: Path, final: Path, manifest: Manifest) -> None:
        """From here on the checkpoint exists or not, nothing in between."""
        for folder in [aside, *(path for path in aside.rglob("*") if path.is_dir())]:
            sync_folder(folder)
        write_durably(aside / "manifest.json", manifest.to_text())
        sync_folder(aside)
        os.rename(aside, final)
        sync_folder(self.path)
        self._point_to(final.name)
        self._known_whole.add(final.name)
        self._remove_old()

    def newest_whole(self) -> tuple[str, Manifest] | None:
        """The newest whole checkpoint, or None where there never was one; skipped ones are named on stderr.

        Raises BadData when there are checkpoints and none is whole.
        """
        names = self.names()
        pointed = _read_pointer(self.path / POINTER)
        skipped = []
        for name in names:
            manifest, faults = check_folder(self.path / name)
            if manifest is None or faults:
                skipped.append(f"{name}: {'; '.join(faults)}")
                print(f"checkpoint {self.path / name} is skipped: {'; '.join(faults)}", file=sys.stderr)
                continue
            if pointed != name:
                said = f"names {pointed!r}" if pointed else "is missing or unreadable"
                print(f"{self.path / POINTER} {said}; the newest whole one is {name}", file=sys.stderr)
            self._known_whole.add(name)
            return name, manifest
        if names or pointed:
            lost = "; ".join(skipped) or f"{POINTER} names '{pointed}', which is not there"
            raise BadData(
                f"no checkpoint in '{self.path}' is whole: {lost}",
                allowed="at least one complete checkpoint, or none at all",
                change="restore the folder from a copy, or start anew with another --out",
            )
        for left in sorted(self.path.glob(".tmp-step-*")):
            print(f"{left} was never finished; starting from step 0", file=sys.stderr)
        return None

    def names(self) -> list[str]:
        """Checkpoints by step, newest first."""
        found = self.path.glob("step-*") if self.path.is_dir() else ()
        names = [path.name for path in found if path.is_dir() and path.name[5:].isdigit()]
        return sorted(names, key=lambda name: int(name[5:]), reverse=True)

    def _whole(self, name: str) -> bool:
        if name not in self._known_whole and not check_folder(self.path / name)[1]:
            self._known_whole.add(name)
        return name in self._known_whole

    def _point_to(self, name: str) -> None:
        beside = self.path / f".{POINTER}"
        write_durably(beside, name + "\n")
        os.replace(beside, self.path / POINTER)
        sync_folder(self.path)

    def _remove_old(self) -> None:
        """Remove what is older than the ``keep`` newest whole ones; a damaged newer one is left for a person to see."""
        whole = 0
        for name in self.names():
            if whole >= self.keep:
                # Renamed first: a removal cut short must not look like a damaged checkpoint.
                gone = self.path / f".tmp-removed-{name}"
                os.rename(self.path / name, gone)
                shutil.rmtree(gone)
                self._known_whole.discard(name)
            elif self._whole(name):
                whole += 1


def step_name(step: int) -> str:
    return f"step-{step:06d}"


def _read_pointer(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
