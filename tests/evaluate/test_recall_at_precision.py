"""R@P: cases worked out by hand, every cut tried one by one, and why the papers can not mean one cut for all."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.evaluate.bootstrap import draws
from skill_fast.evaluate.recall_at_precision import (
    class_recall,
    recall_at_precision,
    resampled_recall_at_precision,
    resampled_recalls,
)


def by_brute_force(scores, positive, precision):
    """The definition: try every score as a cut, count in whole numbers."""
    best = Fraction(0)
    for cut in scores:
        taken = [yes for score, yes in zip(scores, positive) if score >= cut]
        if Fraction(sum(taken), len(taken)) >= precision:
            best = max(best, Fraction(sum(taken), sum(positive)))
    return float(best)


@pytest.mark.parametrize(
    ("scores", "positive", "precision", "wanted"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], 0.75, 1.0),  # all four: 3 of 4 are right
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], 0.9, 2 / 3),  # the first two
        ([0.9, 0.8, 0.7], [0, 1, 1], 0.9, 0.0),  # the best score is wrong: no cut
        ([0.5, 0.5, 0.5], [1, 1, 0], 0.9, 0.0),  # a tie is taken as a whole: 2 of 3
        ([0.5] * 10, [1] * 9 + [0], 0.9, 1.0),  # exactly nine of ten
    ],
)
def test_by_hand(scores, positive, precision, wanted):
    assert class_recall(np.array(scores), np.array(positive, bool), precision) == pytest.approx(wanted, abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30).filter(
        lambda rows: any(yes for _, yes in rows)
    ),
    st.integers(1, 20),
)
def test_every_cut(rows, twentieths):
    scores, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    wanted = by_brute_force(scores.tolist(), positive.tolist(), Fraction(twentieths, 20))
    assert class_recall(scores, positive, twentieths / 20) == pytest.approx(wanted, abs=1e-12)


def test_no_positive_product_is_refused():
    with pytest.raises(ValueError, match="positive"):
        class_recall(np.array([0.1]), np.array([False]), 0.9)


def test_averages_by_hand():
    # Class 0 (three products) is separated at 0.6; class 1 (one product) stands below a wrong one.
    of_class_0 = np.array([0.9, 0.8, 0.6, 0.3, 0.1])
    labels = np.array([0, 0, 0, 1, 2])
    probabilities = np.stack([of_class_0, [0.0, 0.1, 0.2, 0.3, 0.5], [0.1, 0.1, 0.2, 0.4, 0.4]], axis=1)
    score = recall_at_precision(probabilities, labels, 0.9)
    # Class 2: its product ties with a wrong one at 0.4, precision 1/2.
    assert score.weighted == pytest.approx((3 * 1 + 1 * 0 + 1 * 0) / 5)
    assert score.macro == pytest.approx(1 / 3)
    # Tops .9 .8 .6 are right, .5 and .4 wrong: three of five.
    assert score.pooled == pytest.approx(3 / 5)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10, 200), st.sampled_from([0.9, 0.95]))
def test_one_cut_for_all_classes_would_equal_accuracy(seed, n, precision):
    """METHOD of the tables: with accuracy >= P the pooled R@P is the accuracy, so 91.39 beside 78.81 rules it out."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    probabilities = rng.dirichlet(np.ones(4), n)
    wrong = rng.choice(n, int(n * (1 - precision)), replace=False)
    said = np.where(np.isin(np.arange(n), wrong), (labels + 1) % 4, labels)
    top = probabilities.argmax(axis=1)
    rows = np.arange(n)
    probabilities[rows, top], probabilities[rows, said] = probabilities[rows, said], probabilities[rows, top]
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    assert accuracy >= precision
    assert recall_at_precision(probabilities, labels, precision).pooled == pytest.approx(accuracy, abs=1e-12)


def test_per_class_cuts_reach_below_accuracy():
    """What the paper's figures show is possible per class: accuracy above 90 % and R@90 well under it."""
    labels = np.repeat([0, 1], [92, 8])
    of_class_1 = np.concatenate([np.full(92, 0.4), np.full(8, 0.4)])
    score = recall_at_precision(np.stack([1 - of_class_1, of_class_1], axis=1), labels, 0.9)
    assert score.pooled == pytest.approx(0.92) and score.macro == pytest.approx(0.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12), st.integers(1, 20))
def test_replicates_are_the_definition_on_each_draw(rows, twentieths):
    scores, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    got = resampled_recalls(scores, positive, (twentieths / 20,))[:30, 0]
    for counts, replicate in zip(np.concatenate(list(draws(len(rows)))), got, strict=False):
        drawn = np.repeat(np.arange(len(rows)), counts)
        wanted = 0.0
        if positive[drawn].any():
            wanted = by_brute_force(scores[drawn].tolist(), positive[drawn].tolist(), Fraction(twentieths, 20))
        assert replicate == pytest.approx(wanted, abs=1e-12)


def test_averages_of_each_draw_are_those_of_the_drawn_products():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40)
    probabilities[np.arange(40), labels] += 0.5
    got = resampled_recall_at_precision(probabilities, labels, (0.9, 0.95))
    for row, counts in enumerate(next(draws(40))[:20]):
        drawn = np.repeat(np.arange(40), counts)
        for place, precision in enumerate((0.9, 0.95)):
            wanted = recall_at_precision(probabilities[drawn], labels[drawn], precision)
            np.testing.assert_allclose(got[row, place], [wanted.weighted, wanted.macro, wanted.pooled], atol=1e-6)
