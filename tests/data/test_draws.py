"""Random numbers by counter."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.data.draws import uniforms


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**31),
    positions=st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
    draws=st.integers(1, 13),
)
def test_a_row_depends_on_its_position_alone(seed, epoch, positions, draws):
    together = uniforms(seed, epoch, "view/global/0", np.array(positions), draws)
    alone = [uniforms(seed, epoch, "view/global/0", np.array([p]), draws)[0] for p in positions]
    assert np.array_equal(together, np.array(alone))
    assert (together >= 0).all() and (together < 1).all()


def test_the_words_are_numpys_philox():
    """The definition, written out: key (seed, epoch 2^32 + crc32 of the name), counter position x counts."""
    import zlib

    position, draws, seed, epoch = 12, 6, 5, 3
    key = np.array([seed, (epoch << 32) + zlib.crc32(b"x")], dtype=np.uint64)
    generator = np.random.Philox(key=key)
    all_words = generator.random_raw(4 * 2 * (position + 1))  # two counts of four words a position
    expected = all_words[-8:][:draws] / 2.0**64
    assert np.abs(uniforms(seed, epoch, "x", np.array([position]), draws)[0] - expected).max() < 2.0**-52


def test_streams_epochs_and_seeds_are_strangers_to_one_another():
    positions = np.arange(2000)
    columns = [
        uniforms(seed, epoch, stream, positions, 1)[:, 0]
        for seed, epoch, stream in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 0, "view/a")]
    ]
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 5 / np.sqrt(len(positions))
    for column in columns:
        assert abs(column.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(positions))
