"""Neighbours and contact sheets of real photographs."""

import numpy as np
import pytest

from skill_fast.report.contact_sheet import FRAME, GAP, contact_sheet, photographs
from skill_fast.report.neighbors import SAME_DESIGN, NeighborRow, choose_queries, neighbor_rows, neighbor_strip


def test_neighbors_by_loop():
    rng = np.random.default_rng(0)
    product = np.sort(rng.integers(9, size=40))
    groups = np.array(["a", "a", "b", "b", "", "", "c", "c", "d"])[product]
    embeddings = rng.normal(size=(40, 5))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    queries = np.array([0, 17, 39])
    for row in neighbor_rows(embeddings, product, groups, queries, count=4):
        expected = []
        for place in sorted(range(40), key=lambda j, q=row.query: -float(unit[q] @ unit[j])):
            seen = {product[row.query], *(product[j] for j in expected)}
            if product[place] not in seen and len(expected) < 4:
                expected.append(place)
        assert row.neighbors.tolist() == expected
        same = [groups[j] == groups[row.query] and groups[row.query] != "" for j in expected]
        assert row.same_design.tolist() == same


def test_queries_are_products_with_a_variant_where_there_are_any():
    product = np.repeat(np.arange(10), 3)
    groups = np.array(["a", "a", "", "b", "c", "c", "d", "e", "e", ""])[product]
    chosen = choose_queries(product, groups, count=4)
    assert len(chosen) == 4 and set(product[chosen]) <= {0, 1, 4, 5, 7, 8}
    assert set(choose_queries(product, np.full(30, ""), count=4) % 3) == {0}
    assert choose_queries(np.zeros(3, int), np.full(3, "")).tolist() == [0]


def test_photographs_are_those_of_the_rows(demo_index):
    rows = np.array([9, 2, 9])
    pictures = photographs(demo_index, rows, 24, batch_size=2)
    assert pictures.shape == (3, 24, 24, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0] != pictures[1]).any()
    # Drawn products stand on light ground and are not blank.
    assert pictures.max() > 200 and pictures.min() < 150


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 5, 1), (7, 3, 3)])
def test_sheet_places_every_picture(count, columns, rows):
    side = 10
    pictures = np.stack([np.full((side, side, 3), 20 * place, np.uint8) for place in range(count)])
    sheet = contact_sheet(pictures, columns, [SAME_DESIGN if place == 0 else None for place in range(count)])
    step = side + 2 * FRAME + GAP
    assert sheet.size == (columns * step - GAP, rows * step - GAP)
    for place in range(count):
        left, top = place % columns * step, place // columns * step
        assert sheet.getpixel((left + FRAME + 4, top + FRAME + 4)) == (20 * place,) * 3
        assert sheet.getpixel((left, top)) == (SAME_DESIGN if place == 0 else (255, 255, 255))


def test_strip_frames_the_same_design(demo_index):
    rows = demo_index.images_of(np.array([0, 1, 4]))
    row = NeighborRow(0, np.array([5, 9]), np.array([True, False]))
    strip = neighbor_strip(demo_index, rows, row, side=24)
    step = 24 + 2 * FRAME + GAP
    assert strip.size == (3 * step - GAP, 24 + 2 * FRAME)
    assert strip.getpixel((step, 0)) == SAME_DESIGN
    assert strip.getpixel((2 * step, 0)) == (255, 255, 255)
