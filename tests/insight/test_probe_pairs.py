"""Action similarity in small: similarities number by number, folds by hand, pairs whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from endless import ENDLESS, place_endless
from feature_sets import feature_set
from sklearn.metrics import auc, roc_curve
from sklearn.svm import LinearSVC

from transfer3d.errors import DataError, UsageError
from transfer3d.insight.probing.pairs import Pair, probe_pairs, read_pairs
from transfer3d.insight.probing.probe import ProbeConfig
from transfer3d.insight.probing.similarities import SIMILARITIES, pair_vectors

LAYERS = ("prob", "pool5", "res5", "res4")


def by_hand(x, y):
    """All twelve, one number after the other."""
    pairs = list(zip(x, y, strict=True))
    long_x, long_y = math.sqrt(math.fsum(a * a for a in x)), math.sqrt(math.fsum(b * b for b in y))
    unit = [(a / long_x, b / long_y) for a, b in pairs]

    def total(terms):
        return math.fsum(terms)

    return {
        "dot": total(a * b for a, b in pairs),
        "hellinger": total(math.sqrt(a * b) for a, b in pairs),
        "root_dot": math.sqrt(total(a * b for a, b in pairs)),
        "root_hellinger": math.sqrt(total(math.sqrt(a * b) for a, b in pairs)),
        "ratio": math.sqrt(total(a * b for a, b in pairs)) / total(a + b for a, b in pairs),
        "manhattan": total(abs(a - b) for a, b in pairs),
        "euclidean": math.dist(x, y),
        "root_distance": math.dist([math.sqrt(a) for a in x], [math.sqrt(b) for b in y]),
        "cosine": total(a * b for a, b in unit),
        "unit_hellinger": total(math.sqrt(a * b) for a, b in unit),
        "unit_manhattan": total(abs(a - b) for a, b in unit),
        "unit_euclidean": math.dist([a for a, _ in unit], [b for _, b in unit]),
    }


def aslan(actions=30, videos=4, folds=10, per_fold=24, apart=3.0, seed=0):
    """Videos without classes, four layers; folds of different actions, half of their pairs of the same."""
    rng = np.random.default_rng(seed)
    action_N = np.repeat(np.arange(actions), videos)
    layers = {}
    for number, name in enumerate(LAYERS):
        centres = apart * rng.standard_normal((actions, 8 + number))
        points = centres[action_N] + rng.standard_normal((len(action_N), 8 + number))
        layers[name] = torch.from_numpy(points).float().clamp(min=0)
    layers["prob"] = layers["prob"].softmax(1)
    features = replace(
        feature_set(actions, videos), classes=(), label_sets=[()] * len(action_N), layers=layers
    )
    pairs = []
    for fold in range(folds):
        here = np.flatnonzero(action_N % folds == fold)
        for number in range(per_fold):
            same = number % 2 == 0
            while True:
                first, second = rng.choice(here, 2, replace=False)
                if (action_N[first] == action_N[second]) == same:
                    break
            pairs.append(Pair(int(first), int(second), same, fold + 1))
    return features, pairs


def test_the_twelve_similarities_number_by_number():
    features, pairs = aslan()
    some = pairs[:7]
    found = pair_vectors(features, LAYERS, [p.first for p in some], [p.second for p in some])
    assert found.shape == (7, 48)
    for row, pair in zip(found, some, strict=True):
        for number, name in enumerate(LAYERS):
            x, y = (features.layers[name][video].tolist() for video in (pair.first, pair.second))
            expected = by_hand(x, y)
            assert list(expected) == list(SIMILARITIES)
            mine = row[12 * number : 12 * number + 12].tolist()
            assert mine == pytest.approx(list(expected.values()), rel=1e-9, abs=1e-7)


def test_which_of_two_videos_is_first_does_not_matter():
    features, pairs = aslan()
    first, second = [p.first for p in pairs], [p.second for p in pairs]
    torch.testing.assert_close(
        pair_vectors(features, LAYERS, first, second), pair_vectors(features, LAYERS, second, first)
    )


def test_a_video_of_zeros_has_similarities_too():
    features, _ = aslan()
    features.layers["pool5"][0] = 0
    assert pair_vectors(features, LAYERS, [0, 0], [0, 1]).isfinite().all()


def test_features_with_negative_values_are_refused():
    features, _ = aslan()
    features.layers["pool5"][3, 2] = -0.1
    with pytest.raises(UsageError, match="layer 'pool5' has negative values"):
        pair_vectors(features, LAYERS, [0], [1])


def test_ten_folds_are_ten_classifiers_of_the_other_nine():
    features, pairs = aslan(apart=1.0)
    result = probe_pairs(features, LAYERS, pairs, ProbeConfig(value=1.0))
    vectors = np.array([
        [value for name in LAYERS for value in by_hand(
            features.layers[name][pair.first].tolist(), features.layers[name][pair.second].tolist()).values()]
        for pair in pairs
    ])  # fmt: skip
    folds, same = np.array([pair.fold for pair in pairs]), np.array([pair.same for pair in pairs])
    rates, areas = [], []
    for fold in range(1, 11):
        known, asked = folds != fold, folds == fold
        x, y = (
            (part - vectors[known].mean(0)) / vectors[known].std(0)
            for part in (vectors[known], vectors[asked])
        )
        x, y = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (x, y))
        classifier = LinearSVC(C=1.0, max_iter=10_000).fit(x, same[known])
        rates.append(np.mean(classifier.predict(y) == same[asked]))
        false, true, _ = roc_curve(same[asked], classifier.decision_function(y))
        areas.append(auc(false, true))
    assert [fold["accuracy"] for fold in result["folds"]] == pytest.approx(rates)
    assert [fold["auc"] for fold in result["folds"]] == pytest.approx(areas, abs=0.01)
    assert result["accuracy"] == pytest.approx(np.mean(rates))
    assert result["standard_error"] == pytest.approx(np.sqrt(np.var(rates, ddof=1) / 10))
    assert result["auc"] == pytest.approx(np.mean(areas), abs=0.01)
    assert 0.6 < result["accuracy"] < 1
    assert result["videos_in_several_folds"] == 0
    assert len(result["similarities"]) == 12


@pytest.mark.parametrize("method", ["svm", "logistic", "knn"])
def test_pairs_that_are_plainly_the_same_are_told(method):
    features, pairs = aslan(apart=20.0, folds=3)
    result = probe_pairs(features, LAYERS, pairs, ProbeConfig(method=method))
    assert (result["accuracy"], result["auc"]) == (1.0, 1.0)


@pytest.mark.slow
def test_shuffled_answers_give_chance():
    """Of 240 pairs a guesser is right on 120, with a deviation of 7.7."""
    features, pairs = aslan()
    answers = np.random.default_rng(1).permutation([pair.same for pair in pairs])
    pairs = [replace(pair, same=bool(same)) for pair, same in zip(pairs, answers, strict=True)]
    result = probe_pairs(features, LAYERS, pairs, ProbeConfig())
    assert abs(result["accuracy"] - 0.5) < 4 * 0.032
    assert abs(result["auc"] - 0.5) < 0.15


def test_a_video_in_two_folds_is_counted():
    features, pairs = aslan()
    elsewhere = replace(pairs[-1], first=pairs[0].first)
    result = probe_pairs(features, LAYERS, [*pairs[:-1], elsewhere], ProbeConfig(value=1.0))
    assert result["videos_in_several_folds"] == 1


def test_a_list_of_pairs_is_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('fold,first,second,same,note\n1,a,b,1,x\n10,"c,d",a,0,\n', encoding="utf-8-sig")
    assert read_pairs(path, ["a", "b", "c,d"]) == [Pair(0, 1, True, 1), Pair(2, 0, False, 10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column first, second, same, fold. Its first line must be first,second,same,fold"),
        ("first,second,same\na,b,1\n", "no column fold"),
        ("first,second,same,fold\na,b,1,1\na,x,1,2\n", "line 3: no features of the video 'x'"),
        ("first,second,same,fold\na,b,2,1\n", "line 2: `same` must be 0 or 1"),
        ("first,second,same,fold\na,b,1,one\n", "line 2: `same` must be 0 or 1, `fold` a number"),
        ("first,second,same,fold\na,b\n", "line 2: `same` must be 0 or 1"),
        ("first,second,same,fold\na,b,1,1\n", "1 pairs in fewer than two folds"),
    ],
)
def test_lists_that_are_wrong_are_named_with_the_line(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(path, ["a", "b"])
    assert "pairs.csv" in str(caught.value)


def test_a_list_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"first,second,same,fold\n\xff\xfe,a,1,1\n")
    for path in (tmp_path / "none.csv", tmp_path / "binary.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_pairs(path, ["a"])


@pytest.mark.parametrize("kind", [*ENDLESS, "long"])
def test_a_list_that_never_ends_is_refused(kind, tmp_path, monkeypatch):
    path = tmp_path / "pairs.csv"
    if kind == "long":
        monkeypatch.setattr("transfer3d.insight.probing.pairs.MAX_BYTES", 100)
        path.write_text("first,second,same,fold\n" + "a,b,1,1\n" * 20)
    else:
        place_endless(path, kind)
    with pytest.raises(DataError, match=r"pairs\.csv: cannot be read \((not a regular|183 bytes, more)"):
        read_pairs(path, ["a", "b"])
