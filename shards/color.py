"""Pixels of any mode -> sRGB of mode RGB: 16 bits scaled, alpha over white, a profile other than sRGB applied."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from shards.rejects import Rejected

SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC, _WHITE_IS_ZERO = 0x0106, 0


def to_rgb(image: Image.Image) -> Image.Image:
    """The decoded ``image`` as sRGB; raises Rejected for pixels without an agreed white: floats and 32 bits."""
    profile = image.info.get("icc_profile")
    if image.mode in SIXTEEN_BIT:
        image, alpha = _eight_bits(image)
    elif image.mode == "F":
        raise Rejected("undecodable", "floating-point pixels have no agreed white")
    else:
        image, alpha = _without_alpha(image)
    if image.mode == "LAB":
        profile = None
        image = _lab_to_srgb().apply(image)
    image = _to_srgb(image, profile) if profile else _as_rgb(image)
    if alpha is None:
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _as_rgb(image: Image.Image) -> Image.Image:
    # Pillow copies what is RGB already, and that is most of a catalogue.
    return image if image.mode == "RGB" else image.convert("RGB")


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours of mode L, RGB or what the image has, and the alpha beside them if there is any."""
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode not in ("LA", "RGBA"):
        return image, None
    return image.convert("L" if image.mode == "LA" else "RGB"), image.getchannel("A")


def _eight_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Grey of 16 bits scaled to mode L, value / 257 rounded, and the mask that a transparent value makes."""
    # The format decides, as a dark image of 32 bits has values like one of 16; Pillow's mode is "I" for both.
    if max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))) > 16:
        raise Rejected("undecodable", "32-bit pixels have no agreed white")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise Rejected("undecodable", "pixels below zero or above 16 bits have no agreed white")
    transparent = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    grey = ((values + 128) // 257).astype(np.uint8)
    # Pillow turns white-is-zero round for 8 bits only.
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return Image.fromarray(grey), alpha


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Apply an ICC profile; one that is damaged or of another colour space than the pixels is ignored."""
    try:
        transform = _transform(profile, image.mode)
        return transform.apply(image) if transform is not None else _as_rgb(image)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From ``profile`` to sRGB; None where the profile is sRGB itself."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    return ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB")


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), srgb, "LAB", "RGB")
