"""Settings of the cache of shards: its folder, its bound, and the options by which commands set them.

Kept apart from ``shard_cache.py``, which is given a folder and a number of bytes and knows of no command line.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from skill_fast.cache_folder import cache_folder
from skill_fast.errors import BadUsage

GIB = 2**30


@dataclass(frozen=True)
class CacheConfig:
    """Where copies of shards in object storage are kept, and how much of them; local shards are read in place."""

    dir: str = ""
    """Folder on a local disk; empty is shards below $SKILL_FAST_CACHE or ~/.cache/skill_fast."""
    gib: float = 16.0
    """Bound of the folder in GiB; two windows of shards should fit."""


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """--cache-dir and --cache-gib, for commands that read data sets; ``cache_config`` reads them."""
    usual = CacheConfig()
    help_dir = "keep copies of shards in object storage here (default: shards below ~/.cache/skill_fast)"
    parser.add_argument("--cache-dir", default=usual.dir, metavar="DIR", help=help_dir)
    help_gib = f"bound of that folder in GiB (default: {usual.gib:g})"
    parser.add_argument("--cache-gib", type=float, default=usual.gib, metavar="N", help=help_gib)


def cache_config(options: argparse.Namespace) -> CacheConfig:
    if not 0 < options.cache_gib < math.inf:
        raise BadUsage(f"--cache-gib {options.cache_gib:g}", allowed="more than 0", change="--cache-gib")
    return CacheConfig(options.cache_dir, options.cache_gib)


def default_folder() -> Path:
    return cache_folder() / "shards"
