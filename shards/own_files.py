"""Files and folders that are a data set's own: only these are ever replaced or removed, and never through a link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from shards.errors import BadUsage
from shards.index import APPEND_FOLDER, DATASET
from shards.lock import LOCK
from shards.new_file import PARTIAL_SUFFIX
from shards.parts import IDENTITY
from shards.places import Place, entries, is_within, place
from shards.table_files import TABLES

JOURNAL = ".build"
BUILT = ".built.json"
"""Beside a finished data set: which command built it; see ``shards.finished``."""
GONE = ".build.gone"
"""The journal of a finished build, on its way out."""
OWNER = "owner.json"
"""In a journal in object storage: the build that began last."""


def _names(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"({'|'.join(patterns)})({re.escape(PARTIAL_SUFFIX)})?")


def _exact(*names: str) -> str:
    return "|".join(map(re.escape, names))


OWN_NAMES = _names(r"shard-\d{6,}\.(tar|idx)", _exact(*TABLES, DATASET, BUILT))
"""The files that a build writes; nothing else in its folder is ever touched."""


_NFS = r"\.nfs\w+"
"""What NFS calls a file that was removed and is still open, as the index of duplicates is."""


class _Held(NamedTuple):
    """What a folder may hold."""

    files: re.Pattern[str]
    folders: Mapping[str, _Held] = {}


_JOURNAL = _Held(
    _names(_exact(LOCK, IDENTITY, OWNER), r"part-\d{6,}\.(json|rows)", r"exact-\w+\.sqlite(-journal)?", _NFS)
)
_APPEND = _Held(
    _names(_exact(LOCK, DATASET, "request.json", "already_there.json", "arrival.json", "dataset.before.json"), _NFS),
    {"build": _Held(OWN_NAMES, {JOURNAL: _JOURNAL, GONE: _JOURNAL}), "tables": _Held(_names(_exact(*TABLES)))},
)
OWN_FOLDERS = {JOURNAL: _JOURNAL, GONE: _JOURNAL, APPEND_FOLDER: _APPEND}
"""Within a data set's folder: they are emptied and removed."""
REPAIR_FOLDER = {".repair": _Held(_names(r"shard-\d{6,}\.idx", _exact(*TABLES)))}


def refuse_foreign(folder: Place, folders: Mapping[str, _Held] = OWN_FOLDERS) -> None:
    """Raise BadUsage where ``folder`` leads nowhere, or a folder in it that is emptied is a link or holds other things.

    folders: by default those of builds, merges and appends.
    """
    if isinstance(folder, Path) and folder.is_symlink() and not folder.exists():
        raise _not_own(f"'{folder}' is a link that leads nowhere")
    there = dict(_listed(folder))
    for name in sorted(folders.keys() & there.keys()):
        if told := _foreign(folder / name, there[name], folders[name]):
            raise _not_own(told)


def _not_own(told: str) -> BadUsage:
    return BadUsage(
        told,
        allowed=f"a folder, or a link to one; {', '.join(sorted(OWN_FOLDERS))} in it are folders that hold what builds "
        "and appends keep there",
        change="remove the link, or move it away; nothing of it was touched",
    )


def _foreign(where: Place, is_folder: bool, held: _Held) -> str:
    """What of ``where`` is no build's, "" where all is."""
    if isinstance(where, Path) and where.is_symlink():
        return f"'{where}' is a link" + ("" if where.exists() else " that leads nowhere")
    if not is_folder:
        return f"'{where}' is no folder"
    for name, folder in sorted(_listed(where)):
        if name in held.folders:
            if told := _foreign(where / name, folder, held.folders[name]):
                return told
        elif folder or not held.files.fullmatch(name):
            return f"'{where / name}' was not written by a build"
    return ""


def _listed(folder: Place) -> Iterator[tuple[str, bool]]:
    """Names and whether they are folders; nothing where the folder is gone, as it may be while a build ends."""
    if not isinstance(folder, Path):
        yield from ((name, size is None) for name, size in entries(folder).items())
        return
    try:
        with os.scandir(folder) as found:
            for entry in found:
                # A link may go round: os.path.isdir says no of it, where entry.is_dir raises.
                yield entry.name, os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
    except FileNotFoundError:
        return


def refuse_overlap(out: Place, source: str | Place) -> None:
    """Raise BadUsage where ``out`` lies within ``source``, or holds it under any name."""
    read = place(source)
    if is_within(out, read):
        raise BadUsage(
            f"'{out}' lies within the folder of photographs '{source}'",
            allowed="a place apart from the catalogue: what is written there would be read as part of it",
            change="name a folder beside it",
        )
    # A link to the source may lie in OUT as well.
    if is_within(read, out) or is_within(read.parent, out):
        raise BadUsage(
            f"'{source}' lies within '{out}', which is written to",
            allowed="a source apart from the place that is written to: files with a build's names are replaced there",
            change="name another place to write to, or move the source",
        )
