"""Colour entropy against loops, its invariants, and that nothing collapsed or random can win unseen."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.evaluate.color import (
    ColorEntropy,
    color_entropy,
    color_floor,
    nearest_entropy,
    partition_entropy,
    usable_design_labels,
    why_no_color_entropy,
)

CODES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=50)


def entropy_by_loop(values):
    counts = Counter(values)
    return -sum(n / len(values) * math.log(n / len(values)) for n in counts.values())


def catalogue(designs=40, colors=4, seed=0):
    """Products of ``designs`` designs x 4 colours with 8 patterns; embeddings by what they know."""
    rng = np.random.default_rng(seed)
    design = np.repeat(np.arange(designs), colors)
    color = rng.permuted(np.tile(np.arange(8), (designs, 1)), axis=1)[:, :colors].ravel()
    pattern = rng.integers(8, size=designs)[design]

    def noise(dims):
        return 0.05 * rng.normal(size=(len(design), dims))

    return {
        "color": np.array([f"c{c}" for c in color]),
        "design": {
            "pattern": np.array([f"p{p}" for p in pattern]),
            "variant_group": np.array([f"g{d}" for d in design]),
        },
        "perfect": np.eye(8)[pattern] + noise(8),
        "random": rng.normal(size=(len(design), 16)),
        "collapsed": np.ones((len(design), 16)),
        "histogram": np.eye(8)[color] + noise(8),
    }


def floor_of(world):
    return color_floor(world["histogram"], world["color"])


@settings(max_examples=60, deadline=None)
@given(CODES)
def test_partition_entropy_is_the_loop(pairs):
    clusters, colors = np.array(pairs).T
    groups = [colors[clusters == c].tolist() for c in sorted(set(clusters.tolist()))]
    groups = [group for group in groups if len(group) >= 2]
    got = partition_entropy(clusters, colors)
    vocabulary = len(set(colors.tolist()))
    if not groups:
        assert got.mean == got.size_weighted == got.normalised == 0
        return
    entropies = [entropy_by_loop(group) for group in groups]
    sizes = [len(group) for group in groups]
    assert got.mean == pytest.approx(np.mean(entropies))
    assert got.size_weighted == pytest.approx(np.average(entropies, weights=sizes))
    assert got.normalised == pytest.approx(np.mean(entropies) / math.log(vocabulary) if vocabulary > 1 else 0)
    drawn = partition_entropy(clusters, colors, replicates=True)  # what a report shows
    assert [float(drawn.mean), float(drawn.size_weighted)] == pytest.approx([got.mean, got.size_weighted])
    assert float(drawn.normalised) == pytest.approx(got.normalised)
    assert 0 <= got.mean <= math.log(vocabulary) + 1e-12
    assert 0 <= got.normalised <= 1 + 1e-12


@settings(max_examples=30, deadline=None)
@given(CODES, st.integers(0, 1000))
def test_partition_entropy_knows_no_order(pairs, seed):
    clusters, colors = np.array(pairs).T
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(clusters)), rng.permutation(6)
    ours, theirs = partition_entropy(clusters, colors), partition_entropy(names[clusters][order], colors[order])
    assert vars(ours) == pytest.approx(vars(theirs))


def test_nearest_entropy_is_the_loop():
    rng = np.random.default_rng(5)
    embeddings, colors = rng.normal(size=(37, 4)), rng.integers(5, size=37)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    total = []
    for i in range(37):
        near = sorted((j for j in range(37) if j != i), key=lambda j, i=i: -float(unit[i] @ unit[j]))[:10]
        total.append(entropy_by_loop(colors[near].tolist()))
    assert nearest_entropy(embeddings, colors)[0] == pytest.approx(np.mean(total))


def test_ordering_of_known_embeddings():
    world = catalogue()

    def score(name):
        return color_entropy(world[name], world["color"], world["design"], floor_of(world))

    perfect, at_random, histogram = score("perfect"), score("random"), score("histogram")
    assert histogram.clusters.mean == pytest.approx(histogram.floor.mean)
    assert histogram.clusters.mean < 0.5 < perfect.clusters.mean
    assert histogram.clusters.mean < at_random.clusters.mean
    # Entropy can not tell the perfect from the random embedding; purity beside it can.
    assert at_random.clusters.mean == pytest.approx(at_random.ceiling.mean, abs=0.15)
    assert perfect.clusters.mean > 0.85 * perfect.ceiling.mean
    assert perfect.design["pattern"].purity > 0.95
    assert at_random.design["pattern"].purity < 0.5
    assert at_random.design["pattern"].purity == pytest.approx(at_random.design["pattern"].purity_by_chance, abs=0.1)
    assert perfect.design["pattern"].nmi > at_random.design["pattern"].nmi > 0
    assert (perfect.products, perfect.k, perfect.colors) == (160, 16, 8)
    assert histogram.nearest == pytest.approx(histogram.nearest_floor) and histogram.nearest < perfect.nearest


def test_collapse_has_the_highest_entropy_and_is_exposed_by_purity():
    world = catalogue()
    collapsed = color_entropy(world["collapsed"], world["color"], world["design"], floor_of(world))
    perfect = color_entropy(world["perfect"], world["color"], world["design"], floor_of(world))
    assert collapsed.clusters.mean > perfect.clusters.mean
    assert collapsed.clusters.mean == pytest.approx(entropy_by_loop(world["color"].tolist()))
    assert collapsed.design["pattern"].purity < 0.3
    assert collapsed.design["pattern"].nmi == pytest.approx(0)


def test_no_result_without_purity():
    world = catalogue(designs=10)
    with pytest.raises(ValueError, match="design"):
        color_entropy(world["random"], world["color"], {}, floor_of(world))
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(ColorEntropy))
    whole = color_entropy(world["random"], world["color"], world["design"], floor_of(world))
    with pytest.raises(ValueError, match="design"):
        dataclasses.replace(whole, design={})
    names = dict(whole.items())
    assert {"clusters/mean", "ceiling/mean", "floor/mean", "design/pattern/purity", "design/pattern/nmi"} <= set(names)


def test_products_without_a_colour_or_design_are_left_out():
    world = catalogue()
    hidden = world["color"].copy()
    hidden[::4] = ""
    part = color_entropy(world["perfect"], hidden, world["design"], color_floor(world["histogram"], hidden))
    kept = hidden != ""
    design = {name: values[kept] for name, values in world["design"].items()}
    floor = color_floor(world["histogram"][kept], hidden[kept])
    alone = color_entropy(world["perfect"][kept], hidden[kept], design, floor)
    assert dict(part.items()) == dict(alone.items())
    patterns = world["design"]["pattern"].copy()
    patterns[::2] = ""
    half = color_entropy(world["perfect"], world["color"], {"pattern": patterns}, floor_of(world))
    assert half.design["pattern"].purity > 0.95


def test_which_labels_are_design_labels():
    labels = {
        "pattern": np.array(["a", "a", "b", ""]),
        "alone": np.array(["a", "b", "c", "d"]),
        "same": np.array(["a", "a", "a", ""]),
        "empty": np.array(["", "", "", ""]),
    }
    assert list(usable_design_labels(labels)) == ["pattern"]


def test_reasons_for_no_score():
    design = {"pattern": np.array(["a"] * 30)}
    assert "design labels" in why_no_color_entropy(np.array(["red", "blue"] * 15), {})
    assert "only 4" in why_no_color_entropy(np.array(["red", "blue"] * 2 + [""] * 26), design)
    assert "same colour" in why_no_color_entropy(np.array(["red"] * 30), design)
    assert why_no_color_entropy(np.array(["red", "blue"] * 15), design) == ""
