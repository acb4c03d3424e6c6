"""Embeddings in parts, a file each, so that ``skill-embed`` goes on where an earlier start was ended.

::

    FILE.parquet.parts/request.json       what is embedded: weights, data, split, pooling, crop, batch
    FILE.parquet.parts/part-000000.npy    [size, D] float32 of the first ``size`` photographs, whole or absent

A part is the same whichever rank makes it, and however many ranks there are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skill_fast.engine.storage import sync_folder, write_durably
from skill_fast.errors import BadUsage

PART_FILE = re.compile(r"part-\d{6,}\.npy(\.tmp)?")


class Parts:
    """The parts of one request: ``photographs`` embeddings of ``width`` values in files of ``size`` photographs."""

    def __init__(self, folder: Path, request: Mapping[str, str], *, photographs: int, size: int, width: int) -> None:
        self.folder, self.request = folder, dict(request) | {"part": str(size)}
        self._photographs, self._size, self._width = photographs, size, width
        self.count = -(-photographs // size)

    def open(self) -> str:
        """Make the folder, or take an earlier start's of the same request; another request's parts are thrown away.

        Returns in words what was found, "" for nothing. Raises BadUsage where the folder holds other files.
        """
        found = ""
        if self.folder.is_dir():
            before = self._recorded()
            if before == self.request:
                made = self.count - len(self.missing())
                return f"going on: {made} of {self.count} parts are in '{self.folder}'"
            changed = [name for name, value in self.request.items() if before.get(name) != value]
            how = "; ".join(
                f"{name} '{before[name]}', now '{self.request[name]}'" for name in changed if name in before
            )
            found = f"starting over: '{self.folder}' holds parts of another request ({how or 'it is not recorded'})"
            self.remove()
        self.folder.mkdir()
        write_durably(self.folder / "request.json", json.dumps(self.request, indent=2) + "\n")
        sync_folder(self.folder)
        return found

    def check(self) -> None:
        """On the other ranks: raise BadUsage unless they see the folder that rank 0 opened."""
        if self._recorded() != self.request:
            raise BadUsage(
                f"this rank does not see rank 0's parts in '{self.folder}', or has read other weights or data",
                allowed="one file system that all ranks share, and a run and data that do not change meanwhile",
                change="--out on a shared file system; wait until the run has ended",
            )

    def rows(self, part: int) -> slice:
        """Which photographs a part holds."""
        return slice(part * self._size, min((part + 1) * self._size, self._photographs))

    def missing(self) -> list[int]:
        """Parts without a whole file, ascending."""
        return [part for part in range(self.count) if not self._whole(part)]

    def write(self, part: int, embeddings: np.ndarray) -> None:
        """Put a finished part in place, on the disk; embeddings [photographs of the part, D] float32."""
        temporary = self._path(part).with_name(self._path(part).name + ".tmp")
        with temporary.open("wb") as file:
            np.save(file, embeddings.astype(np.float32, copy=False))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path(part))
        sync_folder(self.folder)

    def read(self, part: int) -> np.ndarray:
        """[photographs of the part, D] float32."""
        return np.load(self._path(part), allow_pickle=False)

    def remove(self) -> None:
        """Remove the folder; request.json goes first, so that what a kill leaves is never taken for whole."""
        names = sorted(os.listdir(self.folder), key=lambda name: (name != "request.json", name))
        strange = [name for name in names if name != "request.json" and not PART_FILE.fullmatch(name)]
        if strange:
            raise BadUsage(
                f"'{self.folder}' is needed for parts, and holds '{strange[0]}'",
                allowed="no such folder, or one that skill-embed left",
                change="--out, or move the folder away",
            )
        for name in names:
            (self.folder / name).unlink()
        self.folder.rmdir()

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}.npy"

    def _whole(self, part: int) -> bool:
        rows = self.rows(part)
        try:
            held = np.load(self._path(part), mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return False
        return held.shape == (rows.stop - rows.start, self._width) and held.dtype == np.float32

    def _recorded(self) -> dict[str, str]:
        try:
            recorded = json.loads((self.folder / "request.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return recorded if isinstance(recorded, dict) else {}
