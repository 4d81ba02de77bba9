"""Intervals against scipy and against exact coverage; classes and pairs against brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from transfer3d.insight.intervals import paired_difference, wilson
from transfer3d.insight.report.numbers import class_results, interval, most_confused


@pytest.mark.parametrize(
    ("right", "count"), [(0, 1), (1, 1), (0, 40), (40, 40), (3, 7), (108, 240), (799, 1000)]
)
def test_wilson_is_scipys(right, count):
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(right, count) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_an_interval_needs_a_number_of_videos():
    assert interval(0.45, 240) == "38.8 to 51.3 %"
    assert interval(0.45, None) == interval(0.45, 0) == ""


@pytest.mark.parametrize(("more", "less", "count"), [(0.1, 0.1, 40), (0.3, 0.1, 40), (0.25, 0.05, 60)])
def test_the_interval_of_a_paired_difference_holds_the_truth_in_95_of_100_cases(more, less, count):
    held = 0.0
    for gained, lost in itertools.product(range(count + 1), repeat=2):
        if gained + lost > count:
            continue
        ways = math.comb(count, gained) * math.comb(count - gained, lost)
        chance = ways * more**gained * less**lost * (1 - more - less) ** (count - gained - lost)
        _, low, high = paired_difference(gained, lost, count)
        held += chance * (low <= more - less <= high)
    assert 0.935 < held < 0.975


def test_a_paired_difference_changes_its_sign_with_the_order():
    difference, low, high = paired_difference(9, 3, 50)
    assert difference == pytest.approx(0.12)
    assert paired_difference(3, 9, 50) == pytest.approx((-difference, -high, -low))


def test_of_equals_more_videos_a_larger_share_and_the_alphabet_come_first():
    confusion = [[2, 1, 1, 0], [2, 4, 2, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    classes = ["b", "c", "a", "none"]
    assert [result.name for result in class_results(confusion, classes)] == ["c", "b", "a"]
    pairs = [(pair.true, pair.taken_for) for pair in most_confused(confusion, classes)]
    assert pairs == [("c", "a"), ("c", "b"), ("a", "b"), ("b", "a"), ("b", "c")]


def test_classes_and_pairs_are_those_of_a_count_by_hand():
    rng = np.random.default_rng(0)
    classes = [f"c{k}" for k in range(9)]
    pairs = rng.integers(0, 9, (300, 2))
    pairs = pairs[pairs[:, 0] != 4]  # a class without videos
    confusion = np.zeros((9, 9), int)
    for true, guess in pairs:
        confusion[true, guess] += 1
    results = class_results(confusion.tolist(), classes)
    assert sorted(result.name for result in results) == [name for name in classes if name != "c4"]
    for result in results:
        own = pairs[pairs[:, 0] == classes.index(result.name)]
        assert (result.right, result.count) == ((own[:, 0] == own[:, 1]).sum(), len(own))
    shares = [result.share for result in results]
    assert shares == sorted(shares, reverse=True)
    found = most_confused(confusion.tolist(), classes, most=5)
    counts = sorted((confusion[a, b] for a in range(9) for b in range(9) if a != b), reverse=True)
    assert [pair.count for pair in found] == counts[:5]
    for pair in found:
        true, guess = classes.index(pair.true), classes.index(pair.taken_for)
        assert (pair.count, pair.of) == (confusion[true, guess], confusion[true].sum())
