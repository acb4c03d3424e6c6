"""The look before the decoder: what it must let pass, what it must stop, and that nothing makes it fail."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skill_fast.data.dali import undecodable
from skill_fast.data.jpeg_look import fault
from tests.data.conftest import drawn, fractional_sampling, jpeg
from tests.shards.mutations import corpus

GOOD = jpeg(drawn(64, 48, 3))
SCAN = GOOD.index(b"\xff\xda")


def refused(files: list[bytes]) -> set[int]:
    """Places of the files that DALI refuses, each in a pipeline of its own: another search than the loader's."""
    arrays = [np.frombuffer(file, dtype=np.uint8) for file in files]
    return {i for i, a in enumerate(arrays) if undecodable([a], threads=1, device_id=None, hw_decoder_load=0.0)}


def test_jpegs_of_every_kind_pass():
    for name, file in corpus().items():
        if name.startswith("jpeg"):
            width, height = Image.open(io.BytesIO(file)).size
            assert fault(file, height, width) == "", name


def test_a_preview_within_a_segment_is_passed_over():
    """Its own scan and end stand before those of the photograph."""
    exif = Image.Exif()
    exif[0x927C] = GOOD
    buffer = io.BytesIO()
    Image.fromarray(drawn(30, 40, 1)).save(buffer, "JPEG", exif=exif)
    assert buffer.getvalue().count(b"\xff\xda") == 2
    assert fault(buffer.getvalue(), 30, 40) == ""


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "no start-of-image"),
        (b"<html>not found</html>", "no start-of-image"),
        (b"\xff\xd8\xff\xd9", "no marker at byte 2"),
        (GOOD[: SCAN + 200], "cut short"),
        (GOOD[:400] + b"\xff\xd9", "a segment of"),
        (GOOD[:SCAN].replace(b"\xff\xc0", b"\xff\xc3") + GOOD[SCAN:], "frame marker 0xC3"),
        (GOOD.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "12 bits"),
        (GOOD[: GOOD.index(b"\xff\xc0")] + GOOD[SCAN:], "no frame before the first scan"),
        (GOOD[: GOOD.index(b"\xff\xdb")] + GOOD[GOOD.index(b"\xff\xc0") :], "a quantization table that is missing"),
    ],
)
def test_what_can_not_be_decoded_is_told_in_words(file, said):
    assert said in fault(file, 64, 48)
    assert refused([file] if file else [b"\0"]) == {0}


def test_missing_huffman_tables_are_told_though_one_decoder_would_guess_them():
    """libjpeg-turbo puts the usual ones in their place, which a GPU's decoders need not."""
    file = GOOD[: GOOD.index(b"\xff\xc4")] + GOOD[SCAN:]
    assert fault(file, 64, 48) == "a Huffman table that is missing" and refused([file]) == set()


def test_another_size_than_the_index_says_is_told():
    assert fault(GOOD, 64, 50) == "64 x 48 pixels, the index says 64 x 50"


def test_what_dali_refuses_is_stopped_before():
    """Damage of the kinds that storage, transfers and encoders make, 240 files, each held against DALI's verdict."""
    rng = np.random.default_rng(7)
    files = []
    for _ in range(60):
        cut = int(rng.integers(4, len(GOOD) - 2))
        header, scan = bytearray(GOOD), bytearray(GOOD)
        for _ in range(4):
            header[int(rng.integers(2, SCAN))] = int(rng.integers(256))
        scan[int(rng.integers(SCAN + 14, len(GOOD) - 2))] ^= 0x55
        files += [GOOD[:cut], GOOD[:cut] + GOOD[cut + 40 :], bytes(header), bytes(scan)]
    told = {place for place, file in enumerate(files) if fault(file, 64, 48)}
    by_dali = refused(files)
    assert len(by_dali) > 60 and by_dali <= told
    assert not told & set(range(3, len(files), 4)), "a flipped bit within the scan still decodes"


def test_one_that_only_the_decoder_refuses():
    """Sampling factors that libjpeg-turbo has not implemented; the loader's tests need such a photograph."""
    file = fractional_sampling(GOOD)
    assert fault(file, 64, 48) == "" and refused([file]) == {0}


@given(st.binary(max_size=200), st.integers(0, SCAN + 20), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_the_look_fail(inserted, place, dropped):
    for file in (inserted, b"\xff\xd8" + inserted + b"\xff\xd9", GOOD[:place] + inserted + GOOD[place + dropped :]):
        assert isinstance(fault(file, 64, 48), str)
