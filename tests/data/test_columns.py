"""Narrow columns give what wide ones would, at the edges of every type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_fast.data.columns import Column, GrowingColumn, Owner, Within

EDGES = st.sampled_from([0, 1, 127, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**40])
PIECES = st.lists(st.lists(st.one_of(EDGES, st.integers(0, 300)), max_size=5), max_size=6)


@given(PIECES, EDGES)
def test_a_growing_column_is_exact_and_no_wider_than_it_must_be(pieces, largest):
    values = [value for piece in pieces for value in piece]
    growing = GrowingColumn(len(values))
    for piece in pieces:
        growing.extend(np.array(piece, dtype=np.int64))
    column = growing.column(largest)
    assert column.tolist() == values and len(column) == len(values)
    bytes_needed = next(n for n in (1, 2, 4, 8) if max([*values, largest]) < 256**n)
    assert column.nbytes == bytes_needed * len(values)
    for row, value in enumerate(values):
        assert column[row] == value and type(column[row]) is int
    assert column[np.arange(len(values))].dtype == np.int64


@given(st.lists(st.one_of(st.integers(0, 5), st.sampled_from([254, 255, 256])), max_size=8), st.data())
def test_owner_and_place_within_are_those_of_a_loop(lengths, data):
    runs = [(run, place) for run, length in enumerate(lengths) for place in range(length)]
    starts = [sum(lengths[:run]) for run in range(len(lengths))]
    owner = Owner(Column(np.array(starts, dtype=np.min_scalar_type(len(runs)))), len(runs))
    within = Within(owner, owner._starts)
    assert owner.tolist() == [run for run, _ in runs] and within.tolist() == [place for _, place in runs]
    if runs:
        rows = data.draw(st.lists(st.integers(-len(runs), len(runs) - 1), max_size=5))
        assert list(zip(owner[np.array(rows, dtype=np.int32)], within[rows])) == [runs[row] for row in rows]
        assert [(owner[row], within[row]) for row in rows] == [runs[row] for row in rows]
        mask = np.arange(len(runs)) % 2 == 1
        assert owner[mask].tolist() == [run for run, _ in runs[1::2]]
        assert owner[1::3].tolist() == [run for run, _ in runs[1::3]]


def test_arithmetic_on_values_does_not_wrap_around():
    column = Column(np.array([250, 255], dtype=np.uint8))
    assert (column[:] + column[:]).tolist() == [500, 510] and column[1] + column[0] == 505
    assert (3 - column[[0]]).tolist() == [-247]


def test_rows_beyond_the_end_are_an_error():
    owner = Owner(Column(np.array([0, 2], dtype=np.uint8)), 3)
    for rows in (3, -4, [0, 3]):
        with pytest.raises(IndexError):
            owner[rows]
