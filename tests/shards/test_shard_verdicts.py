"""A4, files that are no photograph, or only a part of one: each has its golden verdict."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.normalize import normalize_bytes, normalize_file
from shards.rejects import Rejected
from tests.shards import jpeg_by_hand
from tests.shards.golden_pixels import PLAIN, encode

LARGE = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))[..., None].repeat(3, -1)
CUTS = {
    name: encode(LARGE, format, **options)
    for name, format, options in (
        ("jpeg", "JPEG", {}),
        ("jpeg progressive", "JPEG", {"progressive": True}),
        ("png", "PNG", {"compress_level": 0}),
        ("webp", "WEBP", {}),
        ("gif", "GIF", {}),
        ("avif", "AVIF", {}),
        ("bmp", "BMP", {}),
        ("tiff", "TIFF", {}),
        ("tiff deflate", "TIFF", {"compression": "tiff_deflate"}),
        ("jp2", "JPEG2000", {}),
        ("ppm", "PPM", {}),
    )
}


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_truncated_anywhere_is_named_so(kind: str, share: float) -> None:
    data = CUTS[kind]
    with pytest.raises(Rejected) as caught:
        normalize_bytes(data[: max(16, int(len(data) * share))], PLAIN)
    # Of AVIF's boxes a cut within the metadata reads as a fault of the box.
    allowed = {"truncated", "undecodable"} if kind == "avif" else {"truncated"}
    assert caught.value.reason in allowed, caught.value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        (b'{"error": "gone"}', "not_an_image"),
        (b"%PDF-1.7 ...", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\0" * 5000, "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image"),
        (b"GIF89a", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"<html>" * 20 + b"IEND", "undecodable"),
        (jpeg_by_hand.twelve_bit(np.arange(12).reshape(3, 4) * 300), "undecodable"),
        (encode(Image.new("F", (9, 9), 0.5), "TIFF"), "undecodable"),
        (encode(Image.fromarray(np.full((9, 9), 1 << 20, np.int32)), "TIFF"), "undecodable"),
        (encode(Image.fromarray(np.full((9, 9), 1 << 12, np.int32)), "TIFF"), "undecodable"),
        (encode(Image.fromarray(np.full((9, 9), 1 << 12, np.int32)), "TIFF", compression="tiff_lzw"), "undecodable"),
        (
            b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IIIHHIIIIII", 40, 0, 0, 1, 24, *[0] * 6),
            "undecodable",
        ),
    ],
)
def test_golden_verdicts(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(content)
    with pytest.raises(Rejected) as caught:
        normalize_file(path, PLAIN)
    assert caught.value.reason == reason and caught.value.detail
