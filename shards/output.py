"""Where a data set goes: a folder of this machine, or a place in object storage by way of a small local folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from shards.errors import BadUsage
from shards.index import APPEND_FOLDER
from shards.lock import LOCK, Lock
from shards.new_file import sync, write_new
from shards.own_files import GONE, JOURNAL, refuse_foreign
from shards.parts import Part, head_name
from shards.places import Place, entries


class Output(Protocol):
    staging: Path
    """Where shards are written; they stay there until they are published."""
    staging_journal: Path

    @property
    def folder(self) -> Place: ...

    @property
    def journal(self) -> Place: ...

    def sizes(self) -> dict[str, int | None]:
        """What ``folder`` holds: name -> bytes of a file, None for a folder; empty where it does not exist."""

    def journal_sizes(self) -> dict[str, int | None]: ...

    def take(self) -> None:
        """Keep other builds away, until ``release``; raises BadUsage where there is one, or an append at work."""

    def release(self) -> None: ...

    def publish(self, part: Part) -> None:
        """Make a finished shard and then its part count; what is interrupted leaves both or no part."""

    def wait(self) -> None:
        """Return when all that was published is where it belongs; raises BadUsage where a build took over the place."""

    def read_at(self, shard: str, offset: int, size: int) -> bytes:
        """Bytes of a finished shard."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files of ``folder``, in this order, as far as they are there."""

    def remove_parts(self, names: Iterable[str]) -> None: ...

    def remove_append(self) -> None:
        """Remove what an append has prepared, if anything."""

    def remove_journal(self) -> None: ...


class LocalOutput:
    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise BadUsage(f"'{folder}' is not a folder", allowed="a folder that is empty or does not exist yet")
        refuse_foreign(folder)
        self.folder = self.staging = folder
        self.journal = self.staging_journal = folder / JOURNAL
        self._lock = Lock(self.journal, folder)

    def sizes(self) -> dict[str, int | None]:
        return entries(self.folder) if self.folder.exists() else {}

    def journal_sizes(self) -> dict[str, int | None]:
        return entries(self.journal) if self.journal.exists() else {}

    def take(self) -> None:
        self._lock.take()
        try:
            Lock(self.folder / APPEND_FOLDER, self.folder).check()
        except BaseException:
            if self.journal_sizes().keys() == {LOCK}:
                shutil.rmtree(self.journal)
            self.release()
            raise

    def release(self) -> None:
        self._lock.release()

    def publish(self, part: Part) -> None:
        # The names of shard, index and rows are on disk before the part is that counts them.
        sync(self.folder)
        sync(self.journal)
        write_new(self.journal / head_name(part.number), part.dumped())
        sync(self.journal)

    def wait(self) -> None:
        pass

    def read_at(self, shard: str, offset: int, size: int) -> bytes:
        with (self.folder / shard).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def remove_parts(self, names: Iterable[str]) -> None:
        for name in names:
            if name != LOCK:
                (self.journal / name).unlink(missing_ok=True)

    def remove_append(self) -> None:
        shutil.rmtree(self.folder / APPEND_FOLDER, ignore_errors=True)

    def remove_journal(self) -> None:
        # By one rename, so that there is a whole journal or none.
        shutil.rmtree(self.folder / GONE, ignore_errors=True)
        if self.journal.exists():
            os.rename(self.journal, self.folder / GONE)
            shutil.rmtree(self.folder / GONE)


def open_output(folder: Place) -> Output:
    """The output at a place; nothing is written yet. Raises BadUsage where a file is in the way."""
    if isinstance(folder, Path):
        return LocalOutput(folder)
    from shards.remote_output import RemoteOutput

    return RemoteOutput(folder)
