"""A build that ends before it is done, and what of it counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from shards.build import Progress, build

ONE_EACH = 0.001
"""MiB; a product alone may be larger than a shard."""


class Stop(Exception):
    pass


def interrupted(source: str | Path, out: Path, after_products: int, **options: Any) -> None:
    """A build that ends with an error once so many products are done."""

    def stop(done: Progress) -> None:
        if done.products >= after_products:
            raise Stop

    with pytest.raises(Stop):
        build(source, out, workers=0, progress=stop, **options)


def throw(error: Exception) -> None:
    raise error


def stand(out: Path) -> dict[str, tuple[int, int]]:
    """Shards that a part of the journal counts, with inode and time of change: they must never be written again."""
    names = [json.loads(path.read_bytes())["shard"]["name"] for path in (out / ".build").glob("part-*.json")]
    return {name: written(out / name) for name in names}


def written(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns
