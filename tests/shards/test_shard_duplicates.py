import os
import zlib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.duplicates import NEAR_DISTANCE, ExactIndex, near_duplicates


def differing_bits(first: int, second: int) -> int:
    return bin(first ^ second).count("1")


def test_a_view_is_compared_with_the_nearest_original() -> None:
    zero, one, two, far = 0, 0b1, 0b11, 0xFFFF
    assert near_duplicates([zero, far, one, far, two], 4) == [(2, 0, 1), (3, 1, 0), (4, 0, 2)]
    assert near_duplicates([0, 0b111111, 0b111], 4) == [(2, 0, 3)], "of equals the first"
    assert near_duplicates([5, 5]) == [(1, 0, 0)]
    assert near_duplicates([]) == near_duplicates([7]) == []


def test_a_chain_is_not_followed() -> None:
    """0 - 1 - 2 in steps of 3 bits: 2 looks like 1, which is itself a duplicate, and is 6 from 0."""
    assert near_duplicates([0, 0b111, 0b111111], 4) == [(1, 0, 3)]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 255), max_size=12), st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_what_is_left_differs_and_what_goes_has_an_original(phashes: list[int], most: int) -> None:
    found = near_duplicates(phashes, most)
    gone = {view for view, _, _ in found}
    left = [view for view in range(len(phashes)) if view not in gone]
    assert [view for view, _, _ in found] == sorted(gone)
    for view, of_view, distance in found:
        assert of_view in left and of_view < view
        assert distance == differing_bits(phashes[view], phashes[of_view]) <= most
        assert distance == min(differing_bits(phashes[view], phashes[other]) for other in left if other < view)
    assert all(differing_bits(phashes[a], phashes[b]) > most for a in left for b in left if a < b)


def test_the_distance_lies_between_versions_and_views() -> None:
    assert 2 <= NEAR_DISTANCE < 6


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2**32 - 1]), st.sampled_from([0, 1, 2**31 - 1])), max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_index_answers_as_a_dict_would(added: list[tuple[int, int]]) -> None:
    expected: dict[tuple[int, int], list[int]] = {}
    with ExactIndex() as index:
        for row, (crc32, size) in enumerate(added):
            assert index.find(crc32, size) == expected.get((crc32, size), [])
            index.add(crc32, size, row)
            expected.setdefault((crc32, size), []).append(row)
        assert all(index.find(*pair) == rows for pair, rows in expected.items())


def test_adding_a_row_again_changes_nothing() -> None:
    with ExactIndex() as index:
        index.add(7, 9, 3)
        index.add(7, 9, 3)
        assert index.find(7, 9) == [3]


def test_the_index_leaves_no_file_and_spills_to_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shards.duplicates.CACHE_KIB", 64)
    index = ExactIndex(tmp_path)
    for row in range(20_000):
        index.add(zlib.crc32(b"%d" % row), 1000, row)
    assert list(tmp_path.iterdir()) == []
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    (link,) = [link for link in links if os.path.exists(link) and os.readlink(link).startswith(str(tmp_path))]
    assert os.stat(link).st_size > 100_000
    assert index.find(zlib.crc32(b"77"), 1000) == [77]
    index.close()
