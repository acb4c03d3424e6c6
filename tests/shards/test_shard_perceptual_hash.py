"""The hash of a photograph: that of imagehash, far apart for two, near for one and its compressed copy."""

import warnings

import imagehash
import numpy as np
from PIL import Image

from shards.normalize import normalize_bytes, normalize_image
from shards.perceptual_hash import perceptual_hash
from tests.shards.golden_pixels import PLAIN, encode


def bits(hash: int, other: int) -> int:
    return (hash ^ other).bit_count()


def reference(image: Image.Image) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(str(imagehash.phash(image)), 16)


def cloth(seed: int, side: int) -> Image.Image:
    """A texture whose amplitudes fall with the frequency, as those of photographs do."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    falling = 1 / np.maximum(np.hypot(y, x), 1 / side)
    waves = rng.normal(size=(3, 2, *falling.shape))
    bands = [np.fft.irfft2((real + 1j * imaginary) * falling, s=(side, side)) for real, imaginary in waves]
    pixels = [128 + 50 * band / band.std() for band in bands]
    return Image.fromarray(np.clip(np.stack(pixels, -1), 0, 255).astype(np.uint8))


def test_the_hash_is_imagehash_s() -> None:
    for seed in range(10):
        small, large = cloth(seed, 32), cloth(seed, 512)
        assert perceptual_hash(small) == reference(small), "at 32 x 32 nothing is reduced"
        # A large one is brought near 32 x 32 by whole factors first, which may turn the bits nearest to the median.
        assert bits(perceptual_hash(large), reference(large)) <= 4


def test_the_hash_tells_photographs_apart_and_sees_through_compression() -> None:
    for seed in range(5):
        one = normalize_image(cloth(seed, 300), PLAIN)
        again = normalize_bytes(encode(cloth(seed, 300), "JPEG", quality=60), PLAIN)
        other = normalize_image(cloth(seed + 100, 300), PLAIN)
        assert bits(one.phash, again.phash) <= 4 < 12 < bits(one.phash, other.phash)
        assert 0 < one.phash < 2**64
    assert perceptual_hash(Image.new("RGB", (90, 70), (9, 9, 9))) == perceptual_hash(
        Image.new("RGB", (9, 9), (8, 8, 8))
    )
