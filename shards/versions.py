"""The versions of what decides about pixels: other ones may make other bytes of the same photograph."""

from __future__ import annotations

import numpy as np
import PIL
from PIL import features

DECODERS = ("libjpeg_turbo", "zlib", "libtiff", "webp", "avif", "jpg_2000", "littlecms2")
Versions = tuple[str, ...]


def versions_here() -> Versions:
    """Of Pillow, numpy and the libraries that Pillow was built with, as "name version"."""
    decoders = (f"{name} {features.version(name)}" for name in DECODERS)
    return f"pillow {PIL.__version__}", f"numpy {np.__version__}", *decoders
