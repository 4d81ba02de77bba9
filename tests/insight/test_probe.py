"""Probes against the same mathematics done by hand, and sets whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from feature_sets import feature_set
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC, LinearSVC

from transfer3d.errors import DataError, UsageError
from transfer3d.insight.probing.probe import STRENGTHS, ProbeConfig, samples_of, train_probe
from transfer3d.insight.probing.protocols import probe_leave_one_out, probe_splits

METHODS = ("svm", "logistic", "knn")


def prepared(train, test):
    """Standardised by the training part, each vector of length 1: by numpy alone."""
    mean, deviation = train.mean(0), train.std(0)
    scaled = [(part - mean) / deviation for part in (train, test)]
    return [part / np.sqrt((part**2).sum(1, keepdims=True)) for part in scaled]


def vectors(features):
    return features.layers["pool5"].double().numpy(), features.labels_N.numpy()


@pytest.mark.parametrize("method", METHODS)
def test_classes_that_lie_apart_are_all_told(method):
    split = (feature_set(), feature_set(seed=1, name="test"))
    result = probe_splits([split], "pool5", ProbeConfig(method=method))
    assert result["accuracy"] == 1.0
    assert result["folds"][0]["searched"]


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_labels_give_chance(method):
    """Of 400 test videos of 4 classes a guesser names 100, with a deviation of 8.7."""
    train, test = feature_set(videos=25), feature_set(videos=100, seed=1, name="test")
    shuffled = np.random.default_rng(5).permutation(train.labels_N.numpy())
    train = replace(train, label_sets=[(int(label),) for label in shuffled])
    random = np.random.default_rng(6).permutation(test.labels_N.numpy())
    test = replace(test, label_sets=[(int(label),) for label in random])
    result = probe_splits([(train, test)], "pool5", ProbeConfig(method=method))
    assert abs(result["accuracy"] - 0.25) < 4 * 0.0217


def test_the_linear_svm_is_the_one_that_libsvm_finds():
    """Two classes; LinearSVC's squared hinge is its own, so it is called with numpy's vectors too."""
    train, test = feature_set(2, 40, apart=0.3), feature_set(2, 200, apart=0.3, seed=1, name="test")
    (known, labels), (asked, _) = vectors(train), vectors(test)
    probe = train_probe(samples_of(train, "pool5"), ProbeConfig(value=1.0))
    by_numpy, asked_by_numpy = prepared(known, asked)
    same = LinearSVC(C=1.0, max_iter=10_000).fit(by_numpy, labels)
    np.testing.assert_allclose(
        probe.pipeline.decision_function(asked), same.decision_function(asked_by_numpy), atol=1e-3
    )
    near = SVC(C=1.0, kernel="linear").fit(by_numpy, labels)
    agree = np.mean(probe.pipeline.predict(asked) == near.predict(asked_by_numpy))
    assert agree > 0.9
    assert 0.6 < np.mean(near.predict(asked_by_numpy) == vectors(test)[1]) < 0.95


def test_logistic_regression_is_the_minimum_of_its_loss():
    train = feature_set(2, 40, apart=0.3)
    known, labels = vectors(train)
    probe = train_probe(samples_of(train, "pool5"), ProbeConfig(method="logistic", value=3.0))
    (x, _), signs = prepared(known, known), 2 * labels - 1

    def loss(parameters):
        weights, bias = parameters[:-1], parameters[-1]
        return 3.0 * np.logaddexp(0, -signs * (x @ weights + bias)).sum() + weights @ weights / 2

    found = minimize(loss, np.zeros(x.shape[1] + 1), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(probe.pipeline.decision_function(known), x @ found[:-1] + found[-1], atol=2e-2)


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_the_nearest_of_all(k):
    train, test = feature_set(3, 15, apart=0.5), feature_set(3, 15, apart=0.5, seed=1, name="test")
    (known, labels), (asked, _) = vectors(train), vectors(test)
    probe = train_probe(samples_of(train, "pool5"), ProbeConfig(method="knn", value=k))
    x, y = prepared(known, asked)
    expected = []
    for one in y:
        distances = [sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for other in x]
        votes = [labels[number] for number in np.argsort(distances)[:k]]
        expected.append(min(set(votes), key=lambda label: (-votes.count(label), label)))
    assert probe.pipeline.predict(asked).tolist() == expected


def test_the_strength_is_the_best_of_the_training_part():
    train = feature_set(3, 20, width=40, apart=0.25)
    samples = samples_of(train, "pool5")
    probe = train_probe(samples, ProbeConfig(seed=4))
    x, _ = prepared(samples.vectors_ND, samples.vectors_ND)
    folds = list(
        StratifiedGroupKFold(5, shuffle=True, random_state=4).split(x, samples.labels_N, samples.groups_N)
    )
    means = []
    for strength in STRENGTHS:
        rates = []
        for known, held in folds:
            classifier = LinearSVC(C=strength, random_state=4, max_iter=10_000)
            classifier.fit(x[known], samples.labels_N[known])
            rates.append(np.mean(classifier.predict(x[held]) == samples.labels_N[held]))
        means.append(np.mean(rates))
    assert probe.searched
    assert probe.value == STRENGTHS[int(np.argmax(means))]
    assert len(set(means)) > 1


def test_copies_of_a_source_do_not_choose_for_each_other():
    """Every video is there four times, and a third of the labels are wrong: one neighbour would be a copy."""
    train = feature_set(2, 120, width=3, apart=1.0, per_source=4)
    points = train.layers["pool5"].unflatten(0, (-1, 4))[:, :1].expand(-1, 4, -1).flatten(0, 1)
    wrong = np.random.default_rng(2).random(60) < 0.3
    labels = np.where(np.repeat(wrong, 4), 1 - train.labels_N.numpy(), train.labels_N.numpy())
    train = replace(train, layers={"pool5": points}, label_sets=[(int(label),) for label in labels])
    apart = replace(train, sources=list(train.keys))
    assert train_probe(samples_of(apart, "pool5"), ProbeConfig(method="knn")).value == 1
    assert train_probe(samples_of(train, "pool5"), ProbeConfig(method="knn")).value > 4


def test_a_class_of_one_source_leaves_nothing_to_choose_by():
    train = feature_set(videos=4, per_source=4)
    probe = train_probe(samples_of(train, "pool5"), ProbeConfig())
    assert (probe.value, probe.searched) == (1.0, False)


def test_official_splits_are_averaged():
    splits = [
        (
            feature_set(apart=0.3, seed=2 * n, name=f"t{n}"),
            feature_set(apart=0.3, seed=2 * n + 1, name=f"v{n}"),
        )
        for n in range(3)
    ]
    result = probe_splits(splits, "pool5", ProbeConfig(value=1.0))
    expected = []
    for train, test in splits:
        (known, labels), (asked, answers) = vectors(train), vectors(test)
        x, y = prepared(known, asked)
        expected.append(np.mean(LinearSVC(C=1.0, max_iter=10_000).fit(x, labels).predict(y) == answers))
    assert [fold["accuracy"] for fold in result["folds"]] == expected
    assert len(set(expected)) > 1
    assert result["accuracy"] == pytest.approx(sum(expected) / 3)


def rank(scores, label):
    """The place of a class among the scores, from 1."""
    return 1 + sum(other > scores[label] for other in scores)


@pytest.mark.parametrize("method", METHODS)
def test_top_3_and_average_precision_by_their_definitions(method):
    """P3D, table 4: ActivityNet, where some videos have several classes."""
    train = feature_set(6, 12, apart=0.3)
    test = feature_set(6, 20, apart=0.3, seed=1, name="test")
    wanted = [
        {label, *([(label + 1) % 6] if n % 10 == 0 else [])} for n, (label,) in enumerate(test.label_sets)
    ]
    test = replace(test, label_sets=[tuple(sorted(labels)) for labels in wanted])
    config = ProbeConfig(method=method, value=5)
    result = probe_splits([(train, test)], "pool5", config)
    pipeline = train_probe(samples_of(train, "pool5"), config).pipeline
    judge = pipeline.predict_proba if method == "knn" else pipeline.decision_function
    scores = judge(vectors(test)[0])
    predicted = pipeline.predict(vectors(test)[0])
    assert result["accuracy"] == np.mean(
        [label in labels for label, labels in zip(predicted, wanted, strict=True)]
    )
    if method == "knn":  # neighbours tie
        assert result["accuracy"] <= result["top3"] <= 1
        return
    assert result["top3"] == np.mean(
        [any(rank(row, label) <= 3 for label in labels) for row, labels in zip(scores, wanted, strict=True)]
    )
    precisions = []
    for label in range(6):
        order = np.argsort(-scores[:, label])
        hits = np.array([label in wanted[number] for number in order])
        precisions.append(np.mean(np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)))
    assert result["mean_ap"] == pytest.approx(np.mean(precisions))
    assert result["accuracy"] < result["top3"] < 1


def test_two_classes_and_a_class_that_training_lacks():
    two = probe_splits(
        [(feature_set(2, apart=0.5), feature_set(2, apart=0.5, seed=1, name="test"))], "pool5", ProbeConfig()
    )
    assert "top3" not in two
    assert 0.5 < two["mean_ap"] < 1
    train, test = feature_set(5), feature_set(5, seed=1, name="test")
    kept = [n for n, (label,) in enumerate(train.label_sets) if label != 2]
    train = replace(
        train,
        keys=[train.keys[n] for n in kept],
        sources=[train.sources[n] for n in kept],
        label_sets=[train.label_sets[n] for n in kept],
        layers={"pool5": train.layers["pool5"][kept]},
    )
    result = probe_splits([(train, test)], "pool5", ProbeConfig())
    assert (result["accuracy"], result["top3"]) == (0.8, 0.8)
    assert 0.5 < result["mean_ap"] <= (4 * 1 + 0.2) / 5 + 1e-9  # where all have one score: their share


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint_sha256": "11"}, "split 1: .* are different checkpoints"),
        ({"data_digest": "train 0"}, "both have the same videos"),
        ({"views": {"places": "even", "count": 1}}, "come from different views"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    train, test = feature_set(), feature_set(seed=1, name="test")
    test = replace(test, metadata=test.metadata.model_copy(update=changes))
    with pytest.raises(UsageError, match=message):
        probe_splits([(train, test)], "pool5", ProbeConfig())


def test_other_classes_are_refused():
    test = replace(feature_set(seed=1, name="test"), classes=list("abcd"))
    with pytest.raises(UsageError, match="have different classes"):
        probe_splits([(feature_set(), test)], "pool5", ProbeConfig())


@pytest.mark.parametrize("per_source", [1, 2])
def test_leaving_one_out_is_a_loop_over_all_the_others(per_source):
    features = feature_set(3, 8, apart=0.35, per_source=per_source)
    result = probe_leave_one_out(features, "pool5", ProbeConfig(value=1.0))
    points, labels = vectors(features)
    right = []
    for video in range(24):
        others = [other for other in range(24) if other // per_source != video // per_source]
        x, y = prepared(points[others], points[[video]])
        classifier = LinearSVC(C=1.0, max_iter=10_000).fit(x, labels[others])
        right.append(classifier.predict(y)[0] == labels[video])
    assert result["accuracy"] == np.mean(right)
    assert 0.4 < np.mean(right) < 1
    assert result["left_out"] == 24 // per_source
    assert result["per_class"] == {f"class {k}": np.mean(right[8 * k : 8 * k + 8]) for k in range(3)}
    assert result["values"] == {"1": 24 // per_source}


@pytest.mark.filterwarnings("error")  # of values of k that a part of the cross-validation cannot have
@pytest.mark.parametrize("method", METHODS)
def test_scenes_that_lie_apart_are_all_told(method):
    """Dynamic Scene in small: as many videos of each class, and C or k chosen without the one left out."""
    result = probe_leave_one_out(feature_set(3, 5), "pool5", ProbeConfig(method=method))
    assert result["accuracy"] == 1.0
    assert sum(result["values"].values()) == 15


def test_what_no_probe_can_be_trained_on():
    unlabelled = replace(feature_set(2, 2), label_sets=[(0,), (0, 1), (), (1,)])
    with pytest.raises(DataError, match="1 of 4 videos have no class, first train/2"):
        samples_of(unlabelled, "pool5")
    with pytest.raises(DataError, match="10 training videos of a single class"):
        train_probe(samples_of(feature_set(1), "pool5"), ProbeConfig())
    with pytest.raises(UsageError, match="50 neighbours of 40 training videos"):
        train_probe(samples_of(feature_set(), "pool5"), ProbeConfig(method="knn", value=50))
    for options, message in (
        ({"method": "smv"}, r"no method 'smv' \(did you mean 'svm'\?\)"),
        ({"value": 0.0}, "--value 0: svm takes C, a finite number above 0"),
        ({"value": float("nan")}, "--value nan: svm takes C, a finite number above 0"),
        ({"value": float("inf"), "method": "knn"}, "--value inf: knn takes a whole number of neighbours"),
        ({"method": "knn", "value": 1.5}, "--value 1.5: knn takes a whole number"),
    ):
        with pytest.raises(UsageError, match=message):
            ProbeConfig(**options)
