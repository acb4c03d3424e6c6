"""Any photograph -> an upright sRGB baseline JPEG, 8-bit RGB, 4:2:0, no metadata: the one format that hardware decodes.

``preprocess="catalog"`` is the pre-processing H of the method: trim a near-white border, pad to a white square.
``"none"`` does only what the format demands. Both never enlarge.
"""

from __future__ import annotations

import io
import stat
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageFile, UnidentifiedImageError

from shards.rejects import Rejected

PREPROCESS = ("catalog", "none")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is decoded, as far as Pillow was built with it; its other plugins (PostScript, video) are never asked."""
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
NEAR_WHITE = 245
"""A pixel whose three channels all reach this counts as border."""
MARGIN = 0.04
"""Of the trimmed box's long side: how much of the border stays."""
DRAFT_RESERVE = 2
"""A large JPEG is decoded at a reduced size of at least this many times max_side, as trimming may still cut it."""
READ_BYTES = 1 << 20

_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Normalization:
    """How photographs are brought to the one format; limits apply before any pixel is decoded."""

    preprocess: str = "catalog"
    max_side: int = 512
    """Pixels of the long side; smaller photographs stay as they are."""
    jpeg_quality: int = 90
    max_pixels: int = 50_000_000
    max_file_bytes: int = 256 << 20


@dataclass(frozen=True)
class Jpeg:
    data: bytes
    height: int
    width: int
    phash: int = 0
    """Perceptual hash of 64 bits: photographs that look alike differ in few of them."""
    source_bytes: int = 0
    """Size of the file that it was made from; 0 for a drawing."""


def normalize_file(path: Path, how: Normalization) -> Jpeg:
    """Read and normalise one file. Raises ``Rejected`` with a reason of ``IMAGE_REASONS``."""
    return normalize_bytes(_read(path, how.max_file_bytes), how)


def normalize_bytes(data: bytes, how: Normalization) -> Jpeg:
    """Normalise an encoded image of any of ``FORMATS``. Raises ``Rejected``."""
    if not data:
        raise Rejected("empty_file", "0 bytes")
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and large sizes; the verdict here is a photograph or a named reject.
        warnings.simplefilter("ignore")
        try:
            return normalize_image(_decode(data, how), how)
        except Image.DecompressionBombError as error:
            raise Rejected("too_many_pixels", str(error)) from error
        except MemoryError as error:
            raise Rejected("too_many_pixels", "not enough memory to decode it") from error


def normalize_image(image: Image.Image, how: Normalization) -> Jpeg:
    """Trim, square and shrink as asked, then encode an upright sRGB image of mode RGB."""
    if how.preprocess == "catalog":
        image = image.crop(_product_box(image))
    width, height = _fit(image.width, image.height, how.max_side)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if how.preprocess == "catalog":
        image = _square(image)
    buffer = io.BytesIO()
    image.info = {}
    image.save(buffer, "JPEG", quality=how.jpeg_quality, subsampling=2, progressive=False, optimize=False)
    return Jpeg(buffer.getvalue(), image.height, image.width)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("unreadable", "not a regular file")
        if status.st_size > max_bytes:
            raise Rejected("too_large_file", f"{status.st_size} bytes, allowed {max_bytes}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejected("missing_file", error.strerror or "not found") from error
    except (OSError, ValueError) as error:
        raise Rejected("unreadable", str(error)) from error


def _decode(data: bytes, how: Normalization) -> Image.Image:
    """Decode to an upright sRGB image of mode RGB; the size is judged from the header."""
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise Rejected("not_an_image", f"begins with {data[:12]!r}") from error
    except Image.DecompressionBombError:
        raise
    except Exception as error:  # a decoder's header parser may raise anything on hostile bytes
        raise Rejected("not_an_image", f"{type(error).__name__}: {error}") from error
    if image.width * image.height > how.max_pixels:
        raise Rejected("too_many_pixels", f"{image.width} x {image.height}, allowed {how.max_pixels} pixels")
    try:
        orientation = _orientation(image)
        _reduce_while_decoding(image, how.max_side * DRAFT_RESERVE)
        image.load()
        pixels = _to_rgb(image)
    except (Rejected, Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:  # as above, for the pixels
        reason = "truncated" if "truncated" in str(error).lower() or isinstance(error, EOFError) else "undecodable"
        raise Rejected(reason, f"{type(error).__name__}: {error}") from error
    for step in _UPRIGHT.get(orientation, ()):
        pixels = pixels.transpose(step)
    return pixels


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF: the photograph is taken as it lies
        return 1


def _reduce_while_decoding(image: ImageFile.ImageFile, least_long_side: int) -> None:
    """Let the JPEG decoder drop to 1/2, 1/4 or 1/8 where that still leaves ``least_long_side`` pixels."""
    share = least_long_side / max(image.size)
    if share < 1:
        image.draft(image.mode, (-int(-image.width * share // 1), -int(-image.height * share // 1)))


def _to_rgb(image: Image.Image) -> Image.Image:
    """sRGB of mode RGB: 16 bits are scaled, alpha lies over white, a profile other than sRGB is applied."""
    profile = image.info.get("icc_profile")
    if image.mode in SIXTEEN_BIT:
        image = _scale_sixteen_bit(image)
    elif image.mode == "F":
        raise Rejected("undecodable", "floating-point pixels have no agreed white")
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    image = _to_srgb(image, profile) if profile else image.convert("RGB")
    if alpha is None:
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _scale_sixteen_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise Rejected("undecodable", "32-bit pixels have no agreed white")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Apply an ICC profile; one that is damaged or of another colour space than the pixels is ignored."""
    try:
        transform = _transform(profile, image.mode)
        return transform.apply(image) if transform is not None else image.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From ``profile`` to sRGB; None where the profile is sRGB itself."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    return ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB")


def _product_box(image: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) without its near-white border, but for a margin of it.

    A row or column belongs to the product when at least two of its pixels, and one in a thousand, are darker than
    near-white: a lone speck does not hold the border. An image without any such row stays whole.
    """
    red, green, blue = image.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    dark = np.asarray(darkest) < NEAR_WHITE
    rows = np.flatnonzero(np.count_nonzero(dark, axis=1) >= max(2, image.width // 1000))
    columns = np.flatnonzero(np.count_nonzero(dark, axis=0) >= max(2, image.height // 1000))
    if not len(rows) or not len(columns):
        return (0, 0, image.width, image.height)
    left, right, top, bottom = int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
    margin = round(MARGIN * max(right - left, bottom - top))
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(image.width, right + margin),
        min(image.height, bottom + margin),
    )


def _fit(width: int, height: int, max_side: int) -> tuple[int, int]:
    long_side = max(width, height)
    if long_side <= max_side:
        return width, height
    return max(1, round(width * max_side / long_side)), max(1, round(height * max_side / long_side))


def _square(image: Image.Image) -> Image.Image:
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
