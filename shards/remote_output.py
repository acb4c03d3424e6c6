"""Output in object storage: shards are written to a local folder and uploaded when they are complete.

One shard is uploaded while the next is written, so about two lie on the local disk. The journal lies beside the shards,
so any machine can go on. Storage has no locks: on one machine a local file is one; between machines the build that
began last owns the place, and an earlier one notices before its next part counts, and stops.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import BadUsage
from shards.index import APPEND_FOLDER
from shards.lock import Lock
from shards.own_files import JOURNAL, OWNER, refuse_foreign
from shards.parts import IDENTITY, Part, head_name, rows_name
from shards.places import entries, reaching
from shards.writer import index_name

if TYPE_CHECKING:
    from upath import UPath


class RemoteOutput:
    def __init__(self, folder: UPath) -> None:
        self.folder, self.journal = folder, folder / JOURNAL
        self.staging = _staging(folder)
        self.staging_journal = self.staging / JOURNAL
        self._lock = Lock(self.staging_journal, folder)
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self._uploader = ThreadPoolExecutor(1, "shards-upload")
        self._upload: Future[None] | None = None

    def sizes(self) -> dict[str, int | None]:
        return entries(self.folder)

    def journal_sizes(self) -> dict[str, int | None]:
        return entries(self.journal)

    def take(self) -> None:
        refuse_foreign(self.folder)
        _make_private(self.staging)
        self._lock.take()
        self._clear_staging()
        with reaching(self.journal):
            (self.journal / OWNER).write_bytes(json.dumps(self._owner).encode())

    def release(self) -> None:
        self._uploader.shutdown(cancel_futures=True)
        shutil.rmtree(self.staging, ignore_errors=True)
        self._lock.release()

    def publish(self, part: Part) -> None:
        self.wait()
        self._upload = self._uploader.submit(self._publish, part)

    def wait(self) -> None:
        if self._upload is not None:
            self._upload.result()
            self._upload = None
        self._check_owner()

    def read_at(self, shard: str, offset: int, size: int) -> bytes:
        try:
            with (self.staging / shard).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), size, offset)
        except FileNotFoundError:
            path = self.folder / shard
            with reaching(path):
                return path.fs.cat_file(path.path, start=offset, end=offset + size)

    def remove(self, names: Iterable[str]) -> None:
        self._remove(self.folder, names)

    def remove_parts(self, names: Iterable[str]) -> None:
        self._remove(self.journal, (name for name in names if name != OWNER))

    def remove_append(self) -> None:
        folder = self.folder / APPEND_FOLDER
        if entries(folder):
            with reaching(folder):
                folder.fs.rm(folder.path, recursive=True)

    def remove_journal(self) -> None:
        # build.json last: as long as it is there, the same command can tell that it has been carried out.
        names = sorted(self.journal_sizes(), key=lambda name: name == IDENTITY)
        self._remove(self.journal, names)

    def _publish(self, part: Part) -> None:
        shard = part.shard.name
        for name in (shard, index_name(shard)):
            self._put(self.staging / name, self.folder / name)
        self._check_owner()
        self._put(self.staging_journal / rows_name(part.number), self.journal / rows_name(part.number))
        with reaching(self.journal):
            (self.journal / head_name(part.number)).write_bytes(part.dumped())
        for path in (self.staging / shard, self.staging / index_name(shard)):
            path.unlink()
        (self.staging_journal / rows_name(part.number)).unlink()

    def _put(self, source: Path, goal: UPath) -> None:
        with reaching(goal):
            goal.fs.put_file(str(source), goal.path)

    def _check_owner(self) -> None:
        owner = self._read_owner()
        if owner != self._owner:
            known = isinstance(owner, dict) and {"pid", "host"} <= owner.keys()
            who = f"pid {owner['pid']} on {owner['host']}" if known else "it is not known which"
            raise BadUsage(
                f"another process builds '{self.folder}' since: {who}",
                allowed="one build a place",
                change="wait for it, or end it and give the command again",
            )

    def _read_owner(self) -> Any:
        """None where another build has ended, and taken the mark away with the journal."""
        try:
            with reaching(self.journal):
                return json.loads((self.journal / OWNER).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def _remove(self, folder: UPath, names: Iterable[str]) -> None:
        for name in names:
            path = folder / name
            try:
                with reaching(path):
                    path.fs.rm_file(path.path)
            except FileNotFoundError:
                continue

    def _clear_staging(self) -> None:
        for path in (*self.staging.glob("shard-*"), *self.staging_journal.glob("part-*")):
            path.unlink()


def _staging(folder: UPath) -> Path:
    """The same for every build of ``folder`` on this machine: what a killed one left is found and cleared."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"skill-shards-{os.geteuid()}-{name}"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise BadUsage(
            f"'{folder}' belongs to someone else or others may write to it",
            allowed="a temporary folder of one's own",
            change="set TMPDIR to another folder",
        )
