"""The drawn catalogue: determinism, and the statistics that make design the hard part and colour the shortcut."""

import hashlib
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from shards.sources.demo import COLORS, draw, products
from shards.sources.demo import catalogue as opened
from shards.sources.patterns import PATTERNS, share_of_second_color
from shards.sources.silhouettes import SILHOUETTES

DIGEST = """
import hashlib
from shards.sources.demo import draw, products
digest = hashlib.sha256()
for product in products(5, 40, 3):
    digest.update(repr(product).encode())
    for photograph in product.photographs:
        digest.update(draw(photograph).tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def catalogue() -> list:
    return list(products())


def test_bytes_are_the_same_in_another_process() -> None:
    found = [
        subprocess.run([sys.executable, "-c", DIGEST], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    assert found[0].stdout == found[1].stdout and len(found[0].stdout) == 65


def test_a_larger_catalogue_begins_with_the_smaller_one(catalogue: list) -> None:
    small = list(products(20))
    assert small == catalogue[: len(small)]
    assert list(products(20, seed=1)) != small


def test_the_counts_are_those_of_the_plan(catalogue: list) -> None:
    groups = defaultdict(list)
    for product in catalogue:
        groups[product.variant_group].append(product)
    assert len(groups) == 248
    assert {len(group) for group in groups.values()} == {3, 4}
    photographs = [len(product.photographs) for product in catalogue]
    assert set(photographs) == {3, 4, 5, 6} and 3.8 < np.mean(photographs) < 4.2
    assert len({product.product_id for product in catalogue}) == len(catalogue)
    # Split by variant group: a design is held out with all its colours.
    splits = {name: {product.split for product in group} for name, group in groups.items()}
    assert all(len(split) == 1 for split in splits.values())
    assert 100 <= sum(split == {"test"} for split in splits.values()) <= 104
    assert {product.product_type for product in catalogue} == set(SILHOUETTES) and len(SILHOUETTES) >= 4
    assert {product.pattern for product in catalogue} == set(PATTERNS) and len(PATTERNS) >= 8
    assert {product.color for product in catalogue} == set(COLORS) and len(COLORS) == 10
    sleeves = {p.attributes.get("sleeve") for p in catalogue if p.product_type in ("shirt", "dress")}
    assert sleeves == {"none", "short", "elbow", "long"}


def test_variants_share_the_design_and_nothing_else_tells_the_color(catalogue: list) -> None:
    groups = defaultdict(list)
    for product in catalogue:
        groups[product.variant_group].append(product)
    for group in groups.values():
        assert len({(p.pattern, p.product_type, str(p.attributes)) for p in group}) == 1
        assert len({(p.photographs[0].cloth, p.photographs[0].shape) for p in group}) == 1
        assert len({p.color for p in group}) == len(group)
    assert len({group[0].photographs[0].cloth for group in groups.values()}) == len(groups), "each design has its own"


@pytest.mark.parametrize("label", ["pattern", "product_type", "split"])
def test_colors_are_independent_of_the_design(catalogue: list, label: str) -> None:
    """Chi-square per degree of freedom of colour against a label is near 1; colours of a design exclude each other."""
    pairs = Counter((product.color, getattr(product, label)) for product in catalogue)
    colors, labels = (Counter(pair[i] for pair in pairs.elements()) for i in (0, 1))
    total = sum(pairs.values())
    chi = 0.0
    for color in colors:
        for value in labels:
            expected = colors[color] * labels[value] / total
            chi += (pairs[color, value] - expected) ** 2 / expected
    assert chi / ((len(colors) - 1) * (len(labels) - 1)) < 1.6


def test_pattern_and_silhouette_are_crossed(catalogue: list) -> None:
    designs = {product.variant_group: (product.pattern, product.product_type) for product in catalogue}
    counts = Counter(designs.values())
    # 248 designs on 32 pairs: seven whole blocks and three quarters of one.
    assert len(counts) == 32 and set(counts.values()) == {7, 8}


def test_the_second_color_differs_in_luminance(catalogue: list) -> None:
    for product in catalogue:
        for drawing in product.photographs:
            base, second = (0.299 * r + 0.587 * g + 0.114 * b for r, g, b in (drawing.base, drawing.second))
            assert abs(base - second) >= 85


def test_the_base_color_keeps_the_largest_area(catalogue: list) -> None:
    v, u = (np.ascontiguousarray(a) for a in np.mgrid[-1:1:97j, -1:1:97j].astype(np.float32))
    shares = defaultdict(list)
    for product in catalogue[::3]:
        shares[product.pattern].append(float(share_of_second_color(product.photographs[0].cloth, u, v).mean()))
    for pattern, found in shares.items():
        assert (max(found) == 0) if pattern == "solid" else (0.1 < np.mean(found) < 0.5), (pattern, np.mean(found))
        assert max(found) < 0.62


def test_a_drawing_has_its_size_and_shows_a_product(catalogue: list) -> None:
    for side in (16, 63, 130):
        for product in products(4, side, 2):
            for drawing in product.photographs:
                image = np.asarray(draw(drawing))
                assert image.shape == (side, side, 3) and image.dtype == np.uint8
                away = np.abs(image.astype(int) - np.array(drawing.light.ground)).max(axis=-1)
                assert (away > 30).mean() > 0.03, "something is there"


def test_one_photograph_is_pinned() -> None:
    """Guards the promise that a seed's catalogue never changes unnoticed: numpy's Philox and exact arithmetic."""
    digest = hashlib.sha256()
    for product in products(8, 48, 0):
        for drawing in product.photographs:
            digest.update(draw(drawing).tobytes())
    assert digest.hexdigest()[:16] == "cec4b40302c11ca8"


def test_a_large_catalogue_is_drawn_up_as_it_is_gone_through() -> None:
    """A million designs open at once: their photographs are estimated, within a twentieth of what a count finds."""
    large = opened(1_000_000)
    assert large.images == 14_000_000 and next(iter(large.entries)) == next(products())
    small = opened(120)
    assert small.images == sum(len(product.photographs) for product in small.entries)
    assert abs(small.images / 120 - 14) < 0.7
