"""Design representations of products, learned without labels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skill_fast.models.encoder import Encoder

__version__ = "0.1.0"


def load_encoder(run: str | os.PathLike[str], *, pooling: str = "class") -> Encoder:
    """Load a run's encoder: (B, 3, H, W) float in [0, 1] -> (B, D). See ``skill_fast.models.encoder.load_encoder``."""
    from skill_fast.models.encoder import load_encoder as load

    return load(run, pooling=pooling)


__all__ = ["__version__", "load_encoder"]
