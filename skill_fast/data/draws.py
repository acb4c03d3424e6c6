"""Random numbers as a pure function of (seed, epoch, stream, position): Philox by counter, no state carried along."""

from __future__ import annotations

import zlib

import numpy as np

WORDS_PER_COUNT = 4  # Philox4x64 gives four 64-bit words for each value of its counter


def philox(seed: int, epoch: int, stream: str, count: int = 0) -> np.random.Philox:
    """The generator keyed by (seed, epoch, stream), its counter set to ``count``.

    Key words: the seed, and epoch x 2^32 + crc32(stream). Streams are named, not numbered, so that a view added to a
    method leaves the numbers of all others as they were.
    """
    key = np.array([seed % 2**64, (epoch % 2**32) << 32 | zlib.crc32(stream.encode())], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([count, 0, 0, 0], dtype=np.uint64))


def uniforms(seed: int, epoch: int, stream: str, positions: np.ndarray, draws: int) -> np.ndarray:
    """Uniform numbers of [0, 1), [positions, draws] float64.

    Each position owns ceil(draws / 4) counts, so that row i depends on ``positions[i]`` alone:

        words of position p = Philox(key, counter = p ceil(draws / 4)), the first ``draws`` of them
        u = (word >> 11) 2^-53
    """
    counts = -(-draws // WORDS_PER_COUNT)
    words = np.empty((len(positions), counts * WORDS_PER_COUNT), dtype=np.uint64)
    # Consecutive positions are one run of the generator: a rank's batch is one.
    starts = np.flatnonzero(np.diff(positions, prepend=positions[:1] - 2) != 1)
    for start, end in zip(starts, [*starts[1:], len(positions)]):
        generator = philox(seed, epoch, stream, int(positions[start]) * counts)
        words[start:end] = generator.random_raw(words[start:end].size).reshape(end - start, -1)
    return (words[:, :draws] >> np.uint64(11)) * 2.0**-53
