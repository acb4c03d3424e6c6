"""The drawn catalogue that a run without --data trains on, built once and kept in the cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import shards
from shards.build import build
from skill_fast.cache_folder import cache_folder
from skill_fast.errors import StorageFailure


@dataclass(frozen=True)
class DemoConfig:
    """What is drawn; see ``skill-shards build demo``."""

    designs: int = 248
    photo_side: int = 64
    """Pixels."""
    seed: int = 0
    preprocess: Literal["catalog", "none"] = "catalog"
    """none: neither trimmed nor padded, the ablation SkiLL\\H."""


def demo_shards(config: DemoConfig) -> Path:
    """Return the folder of the demo's shards, building them first where the cache has none.

    Ranks that start together wait for the first of them. Raises StorageFailure when the cache can not be written.
    """
    name = f"demo-{config.designs}-{config.photo_side}-{config.seed}-{config.preprocess}-{_drawing_version()}"
    final = cache_folder() / name
    if (final / "dataset.json").is_file():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with (final.parent / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (final / "dataset.json").is_file():
                print(f"drawing the demo catalogue into {final} (once)", file=sys.stderr)
                build(
                    "demo",
                    final,
                    format="demo",
                    max_side=config.photo_side,
                    overwrite=True,
                    designs=config.designs,
                    photo_side=config.photo_side,
                    seed=config.seed,
                    preprocess=config.preprocess,
                )
    except OSError as error:
        raise StorageFailure(
            f"the demo catalogue could not be written below '{final.parent}': {error}",
            allowed="a folder with some 20 MB of room",
            change="set SKILL_FAST_CACHE to another folder",
        ) from error
    return final


def _drawing_version() -> str:
    """Eight hex digits of the code that draws and packs, so that a newer version never trains on older drawings."""
    package = Path(shards.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
