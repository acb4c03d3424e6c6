"""Photographs with a colour profile: it is applied where it is another one than sRGB."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from shards.decode import decode
from tests.shards.golden_pixels import GREY, PLAIN, assert_golden, encode


def swapped(profile: bytes) -> bytes:
    """A profile of another name in which the primaries of red and blue have changed places."""
    changed = profile.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    return changed.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_foreign_profile_is_applied_and_srgb_is_not(format: str) -> None:
    options = {"quality": 100} if format in ("JPEG", "WEBP", "AVIF") else {}
    flat = np.full((32, 48, 3), (180, 120, 60), np.uint8)
    for profile, expected in ((SRGB, (180, 120, 60)), (SRGB[:200], (180, 120, 60)), (swapped(SRGB), (60, 120, 180))):
        data = encode(flat, format, icc_profile=profile, **options)
        found = np.asarray(decode(data, 512, PLAIN.max_pixels)).astype(int)
        assert np.abs(found - expected).max() <= 4, (format, len(profile))


def test_a_profile_that_is_called_rgb_is_no_srgb() -> None:
    """As Adobe RGB (1998) is: its name alone does not make its pixels those of sRGB."""
    profile = swapped(SRGB).replace("BGRs".encode("utf-16-be"), "aRGB".encode("utf-16-be"))
    assert "aRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    data = encode(Image.new("RGB", (16, 16), (180, 120, 60)), "PNG", icc_profile=profile)
    found = np.asarray(decode(data, 512, PLAIN.max_pixels)).astype(int)
    assert np.abs(found - (60, 120, 180)).max() <= 4


def test_a_profile_for_other_channels_is_ignored() -> None:
    assert_golden(encode(GREY[..., 0], "PNG", icc_profile=swapped(SRGB)), GREY)


def ink_profile() -> bytes:
    """A CMYK profile by hand: a table of two points an ink from CMYK to Lab, in which cyan and magenta are swapped."""

    def tag(signature: bytes, body: bytes) -> tuple[bytes, bytes]:
        return signature, body + bytes(-len(body) % 4)

    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = 1 - np.clip(corners[:, [1, 0, 2]] + corners[:, 3:], 0, 1)
    srgb, lab = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in ("sRGB", "LAB"))
    to_lab = ImageCms.ImageCmsTransform(srgb, lab, "RGB", "LAB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    rgb = Image.fromarray(np.round(light * 255).astype(np.uint8).reshape(4, 4, 3))
    # Pillow has a and b about 0, the table about 128.
    values = np.asarray(to_lab.apply(rgb)).reshape(-1, 3) ^ np.array([0, 0x80, 0x80], np.uint8)
    ramp = bytes(range(256))
    one = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + one + ramp * 4 + values.tobytes() + ramp * 3
    words = "hand-made inks".encode("utf-16-be")
    name = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(words), 28) + words
    tags = [
        tag(b"desc", name),
        tag(b"A2B0", table),
        tag(b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)),
    ]
    tags.append(tag(b"cprt", name))
    place = 128 + 4 + 12 * len(tags)
    directory = struct.pack(">I", len(tags))
    for signature, body in tags:
        directory += struct.pack(">4sII", signature, place, len(body))
        place += len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", place, b"lcms", 0x04200000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp")
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + directory + b"".join(body for _, body in tags)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_with_a_profile(format: str) -> None:
    cyan = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    options = {"quality": 100} if format == "JPEG" else {}
    plain = np.asarray(decode(encode(cyan, format, **options), 512, PLAIN.max_pixels)).astype(int)
    assert np.abs(plain - (0, 255, 255)).max() <= 2
    found = np.asarray(decode(encode(cyan, format, icc_profile=ink_profile(), **options), 512, PLAIN.max_pixels))
    # In the profile the ink called cyan is magenta; its table has 8 bits.
    assert np.abs(found.astype(int) - (255, 0, 255)).max() <= 8
