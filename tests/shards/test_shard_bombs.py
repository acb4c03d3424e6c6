"""A9: bombs get their verdict from the header: at once, and before a pixel is allocated."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, WebPImagePlugin

from shards.claims import MAX_SCANS
from shards.jpeg import count_scans
from shards.normalize import Normalization, normalize_bytes
from shards.rejects import Rejected
from tests.shards.bombs import BOMBS, encode, many_scans

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 1.0
MOST_MIB = 72
"""PNG's texts may take 64 MiB in all before Pillow gives up, its own limit; the least of the pixels would be 50 MB."""
TEXTS = "png 200 texts of 1 MiB"


@pytest.fixture(scope="module")
def costs(tmp_path_factory) -> dict[str, dict]:
    """Name of a bomb -> what judging it took in a process that has seen nothing but small pictures."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        (folder / name).write_bytes(make())
    command = [sys.executable, "-m", "tests.shards.bombs", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return {line["name"]: line for line in map(json.loads, run.stdout.splitlines())}


def test_there_are_at_least_twenty() -> None:
    assert len(BOMBS) >= 20


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(costs, name: str) -> None:
    cost = costs[name]
    assert cost["reason"] == BOMBS[name][1]
    assert cost["seconds"] < MOST_SECONDS
    assert cost["peak_mib"] < (MOST_MIB if name == TEXTS else 8), "something large was allocated"


def test_the_limit_is_the_last_size_that_is_taken() -> None:
    with pytest.raises(Rejected, match="too_many_pixels"):
        normalize_bytes(encode("PNG"), Normalization("none", max_pixels=64 * 48 - 1))
    assert normalize_bytes(encode("PNG"), Normalization("none", max_pixels=64 * 48)).width == 64


def test_fifty_megapixels_are_the_most_by_default() -> None:
    for width, height in ((10_000, 5_000), (877_193, 57)):
        file = io.BytesIO()
        Image.new("1", (width, height)).save(file, "PNG")
        if width * height == 50_000_000:
            assert normalize_bytes(file.getvalue(), Normalization("none")).width == 512
        else:
            assert width * height == 50_000_001
            with pytest.raises(Rejected, match="877193 x 57, allowed 50000000 pixels"):
                normalize_bytes(file.getvalue(), Normalization("none"))


@pytest.mark.parametrize("name", [name for name in BOMBS if name.startswith("webp")])
def test_no_canvas_is_made_for_a_large_webp(monkeypatch, name: str) -> None:
    """Its plugin makes the decoder, and that the canvas, when the file is opened."""

    def make(*arguments) -> None:
        raise AssertionError("the decoder was made")

    monkeypatch.setattr(WebPImagePlugin._webp, "WebPAnimDecoder", make)
    with pytest.raises(Rejected, match="too_many_pixels"):
        normalize_bytes(BOMBS[name][0](), Normalization("none"))


def test_scans_are_counted_in_the_first_image_alone() -> None:
    plain, progressive = encode("JPEG"), encode("JPEG", progressive=True)
    assert count_scans(plain, MAX_SCANS) == 1
    scans = count_scans(progressive, MAX_SCANS)
    assert 5 < scans < 20
    # An APP segment and what lies behind the end may hold as many as they like.
    hidden = b"\xff\xda\0\2" * 300
    segment = b"\xff\xe5" + (2 + len(hidden)).to_bytes(2, "big") + hidden
    assert count_scans(progressive[:2] + segment + progressive[2:] + hidden, MAX_SCANS) == scans
    assert count_scans(many_scans(), MAX_SCANS) == MAX_SCANS + 1
    jpeg = normalize_bytes(progressive[:2] + segment + progressive[2:] + hidden, Normalization("none"))
    assert Image.open(io.BytesIO(jpeg.data)).size == (64, 48)
