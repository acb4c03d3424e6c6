"""Where skill_fast keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$SKILL_FAST_CACHE, else ``skill_fast`` below $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("SKILL_FAST_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skill_fast"
