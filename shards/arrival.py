"""How appended products arrive in a data set: prepared beside it, then moved in by renames that can be rolled forward.

    OUT/.append/request.json   what is being appended
    OUT/.append/build/         the new products as a data set of their own; its build goes on after an interruption
    OUT/.append/tables/        the tables of the whole
    OUT/.append/dataset.json   dataset.json of the whole
    OUT/.append/arrival.json   written last: from here on it can only arrive

    arriving: OUT/dataset.json goes      a reader is told that products are being appended
              shards, indices and tables are moved to OUT, each by one rename
              dataset.json is moved to OUT: the new data set is there
              .append goes, arrival.json at the end

Each step may have been done before. Until the first one the old data set is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shards.errors import BadData
from shards.index import APPEND_FOLDER, DATASET
from shards.lock import LOCK, Lock
from shards.new_file import sync, write_new
from shards.own_files import JOURNAL

ARRIVAL = "arrival.json"
BEFORE = "dataset.before.json"


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """OUT/.append, kept from other appends and repairs; raises BadUsage where one is at work, or a build or merge."""
    lock = Lock(folder / APPEND_FOLDER, folder)
    lock.take()
    try:
        # Behind the own lock, as a build looks for an append behind its own: of two that begin at once none is missed.
        Lock(folder / JOURNAL, folder).check()
        yield folder / APPEND_FOLDER
    finally:
        place = folder / APPEND_FOLDER
        if place.is_dir() and os.listdir(place) == [LOCK]:
            shutil.rmtree(place)
        lock.release()


def settle(folder: Path) -> list[str]:
    """End an append that was interrupted: it arrives if all was prepared, else it goes. Says which, a line."""
    if not (folder / APPEND_FOLDER).is_dir():
        return []
    with held(folder) as place:
        if (place / ARRIVAL).is_file():
            arrive(folder)
            return ["append: had been interrupted on its arrival, which is complete now"]
        if not (folder / DATASET).is_file():
            raise BadData(f"'{folder}' has lost its {DATASET}", change=f"copy {DATASET} again from a backup")
        shutil.rmtree(place)
        return ["append: had been interrupted while it was prepared; that is removed, run it again"]


def prepared(folder: Path, moves: Sequence[tuple[str, str]]) -> None:
    """All is in place: from here on the append can only arrive. moves: paths within .append and their names in OUT."""
    place = folder / APPEND_FOLDER
    for inner in {(place / source).parent for source, _ in moves}:
        sync(inner)
    sync(place)
    write_new(place / ARRIVAL, json.dumps({"moves": list(moves)}, indent=1).encode())
    sync(place)


def arrive(folder: Path) -> None:
    """Do what is left of the arrival; OUT/.append is gone afterwards."""
    place = folder / APPEND_FOLDER
    if (place / DATASET).is_file():
        if (folder / DATASET).is_file():
            os.replace(folder / DATASET, place / BEFORE)
            sync(folder)
        for source, goal in json.loads((place / ARRIVAL).read_bytes())["moves"]:
            if (place / source).is_file():
                os.replace(place / source, folder / goal)
        sync(folder)
        os.replace(place / DATASET, folder / DATASET)
        sync(folder)
    for path in sorted(place.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (ARRIVAL, LOCK):
            path.unlink()
    (place / ARRIVAL).unlink()
    shutil.rmtree(place)
