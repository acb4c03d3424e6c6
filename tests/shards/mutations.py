"""Small images of every kind that is decoded, and what storage, transfers and attackers do to files."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms


@lru_cache(maxsize=1)
def corpus() -> dict[str, bytes]:
    """Name -> file; the same bytes at each call."""
    y, x = np.mgrid[0:46, 0:61]
    waves = [130 + 100 * np.sin(x * a + y * b) for a, b in ((0.11, 0.05), (0.07, 0.13), (0.03, 0.09), (0.2, 0.1))]
    rgb = Image.fromarray(np.stack(waves[:3], -1).astype(np.uint8))
    rgba = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    grey, palette = rgb.convert("L"), rgb.quantize(16)
    deep = Image.fromarray((waves[0] * 250).astype(np.uint16))
    turned = [rgb.rotate(90 * number) for number in range(4)]
    return {
        "gif": _file(palette, "GIF"),
        "gif-animated": _file(turned[0], "GIF", save_all=True, append_images=turned[1:]),
        "gif-transparent": _file(palette, "GIF", transparency=3, interlace=1),
        "bmp": _file(rgb, "BMP"),
        "bmp-palette": _file(palette, "BMP"),
        "bmp-alpha": _file(rgba, "BMP"),
        "ppm": _file(rgb, "PPM"),
        "ppm-plain": b"P3 8 8 255\n" + b" ".join(b"%d" % (value % 256) for value in range(0, 192 * 7, 7)),
        "pgm-deep": _file(deep, "PPM"),
        "pbm": _file(grey.convert("1"), "PPM"),
        "j2k": _file(rgb, "JPEG2000", no_jp2=True, quality_mode="rates", quality_layers=[8]),
        "jp2": _file(rgba, "JPEG2000"),
        "jp2-tiles": _file(rgb, "JPEG2000", tile_size=(32, 32)),
        "jp2-deep": _file(deep, "JPEG2000"),
        "avif": _file(rgb, "AVIF", speed=10),
        "avif-alpha": _file(rgba, "AVIF", speed=10),
        "avif-animated": _file(turned[0], "AVIF", speed=10, save_all=True, append_images=turned[1:3]),
        **_jpegs(rgb, grey),
        **_pngs(rgb, rgba, palette, grey, deep),
        **_webps(rgb, rgba, turned),
        **_tiffs(rgb, rgba, palette, grey, deep),
    }


def _file(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _jpegs(rgb: Image.Image, grey: Image.Image) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "jpeg": _file(rgb, "JPEG", quality=90, subsampling=2),
        "jpeg-444": _file(rgb, "JPEG", quality=75, subsampling=0, restart_marker_blocks=2),
        "jpeg-progressive": _file(rgb, "JPEG", progressive=True),
        "jpeg-grey": _file(grey, "JPEG"),
        "jpeg-cmyk": _file(rgb.convert("CMYK"), "JPEG"),
        "jpeg-turned": _file(rgb, "JPEG", exif=exif, comment=b"taken by hand"),
        "jpeg-profile": _file(rgb, "JPEG", icc_profile=profile),
        "jpeg-large": _file(rgb.resize((1100, 900)), "JPEG", quality=60),
    }


def _pngs(
    rgb: Image.Image, rgba: Image.Image, palette: Image.Image, grey: Image.Image, deep: Image.Image
) -> dict[str, bytes]:
    return {
        "png": _file(rgb, "PNG"),
        "png-alpha": _file(rgba, "PNG"),
        "png-palette": _file(palette, "PNG", transparency=2),
        "png-grey": _file(grey, "PNG"),
        "png-bits": _file(grey.convert("1"), "PNG"),
        "png-grey-alpha": _file(rgba.convert("LA"), "PNG"),
        "png-deep": _file(deep, "PNG"),
        "png-animated": _file(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)]),
    }


def _webps(rgb: Image.Image, rgba: Image.Image, turned: list[Image.Image]) -> dict[str, bytes]:
    return {
        "webp": _file(rgb, "WEBP", quality=80, method=0),
        "webp-alpha": _file(rgba, "WEBP", quality=50, method=0),
        "webp-lossless": _file(rgba, "WEBP", lossless=True, method=0),
        "webp-animated": _file(turned[0], "WEBP", save_all=True, append_images=turned[1:], method=0),
    }


def _tiffs(
    rgb: Image.Image, rgba: Image.Image, palette: Image.Image, grey: Image.Image, deep: Image.Image
) -> dict[str, bytes]:
    packed = {
        f"tiff-{name}": _file(rgb, "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")
    }
    return packed | {
        "tiff": _file(rgb, "TIFF"),
        "tiff-alpha": _file(rgba, "TIFF"),
        "tiff-palette": _file(palette, "TIFF"),
        "tiff-cmyk": _file(rgb.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "tiff-deep": _file(deep, "TIFF"),
        "tiff-fax": _file(grey.convert("1"), "TIFF", compression="group4"),
        "tiff-pages": _file(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(90)]),
        "tiff-big": _file(rgb, "TIFF", big_tiff=True),
    }


def mutated(number: int) -> tuple[str, bytes]:
    """The mutation ``number``: what was done, and the bytes; a pure function of the number."""
    rng = np.random.default_rng((3, number))
    names = sorted(corpus())
    name = names[number % len(names)]
    data, done = corpus()[name], [name]
    for _ in range(int(rng.integers(1, 4))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        data = change(data, rng)
        done.append(change.__name__)
    return " ".join(done), data


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(max(1, len(data)), size=int(rng.integers(1, 17))) if data else ():
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


EXTREMES = (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x01", b"\x01\0\0\0")


def edit_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Numbers of 1, 2 or 4 bytes at the ends of their range, where sizes, counts and offsets stand."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = int(rng.choice((1, 2, 4)))
        place = int(rng.integers(max(1, min(len(data), 256) - size)))
        extreme = (
            b"\0\0\0\0",
            b"\xff\xff\xff\xff",
            b"\x7f\xff\xff\xff",
            b"\xff\xff\xff\x7f",
            b"\0\0\0\x01",
            b"\x01\0\0\0",
        )
        changed[place : place + size] = extreme[int(rng.integers(len(extreme)))][:size]
    return bytes(changed)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _block(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(data) + 1))
    return start, min(len(data), start + int(2 ** rng.uniform(0, 9)))


def double_block(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _block(data, rng)
    return data[:end] + data[start:]


def drop_block(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def zero_block(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def random_block(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + rng.bytes(end - start) + data[end:]


def splice(data: bytes, rng: np.random.Generator) -> bytes:
    """The head of one file on the tail of another of any kind."""
    others = list(corpus().values())
    other = others[int(rng.integers(len(others)))]
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other) + 1)) :]


CHANGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bits,
    flip_bits,
    edit_header,
    edit_header,
    cut,
    double_block,
    drop_block,
    zero_block,
    random_block,
    splice,
)
