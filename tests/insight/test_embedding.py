"""t-SNE of features: what is apart stays apart, and pictures that read well for any number of classes."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from feature_sets import facts_of
from sklearn.manifold import TSNE
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.errors import DataError, UsageError
from transfer3d.insight.embedding import Embedding, embed, neighbour_purity
from transfer3d.insight.features.file import FeatureSet, save_features
from transfer3d.insight.pictures.embedding import class_parts, embedding_figure, groupings
from transfer3d.insight.pictures.figures import to_svg


def features_of(vectors, labels, classes):
    keys = [f"video{n}" for n in range(len(labels))]
    label_sets = [() if label < 0 else (label,) for label in labels]
    layers = {"pool5": torch.as_tensor(vectors, dtype=torch.float32)}
    return FeatureSet(keys, label_sets, keys, classes, layers, facts_of())


def clusters(*, apart, count=40, size=80):
    """Two classes of points in 80 dimensions, `apart` standard deviations from each other."""
    rng = np.random.default_rng(0)
    labels = np.arange(2 * count) % 2
    direction = rng.normal(size=size)
    direction /= np.linalg.norm(direction)
    return rng.normal(size=(2 * count, size)) + apart * labels[:, None] * direction, labels.tolist()


def purity_by_hand(points, labels, k):
    distances = torch.cdist(torch.as_tensor(points).double(), torch.as_tensor(points).double())
    distances.fill_diagonal_(torch.inf)
    near, labels = distances.topk(k, largest=False).indices, torch.as_tensor(labels)
    return float((labels[near] == labels[:, None]).double().mean())


@pytest.fixture(scope="module")
def apart():
    return features_of(*clusters(apart=30), ["left", "right"])


def test_clusters_that_are_apart_stay_apart_and_others_are_not_made(apart):
    found = embed(apart)
    points, labels = found.points_N2, found.labels_N
    assert purity_by_hand(points, labels, 10) == purity_by_hand(apart.layer("pool5"), labels, 10) == 1
    assert (found.purity, found.feature_purity, found.neighbours) == (1, 1, 10)
    mixed = features_of(*clusters(apart=0), ["left", "right"])
    assert purity_by_hand(embed(mixed).points_N2, labels, 10) == pytest.approx(0.5, abs=0.1)


def test_the_purities_are_those_of_the_plane_and_of_the_features():
    vectors, labels = clusters(apart=4, count=30)
    found = embed(features_of(vectors, labels, ["left", "right"]))
    in_plane, of_features = (purity_by_hand(x, labels, 10) for x in (found.points_N2, np.float32(vectors)))
    assert in_plane != of_features
    assert (found.purity, found.feature_purity) == (pytest.approx(in_plane), pytest.approx(of_features))


@pytest.mark.parametrize("seed", [0, 1])
def test_points_start_at_their_first_two_principal_components(seed, monkeypatch):
    starts = []

    def watched(**options):
        starts.append(options["init"])
        return TSNE(**options)

    monkeypatch.setattr("transfer3d.insight.embedding.TSNE", watched)
    vectors, labels = clusters(apart=9, count=20)
    embed(features_of(vectors, labels, ["left", "right"]), seed=seed)
    (start_N2,) = starts
    left, scales, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    for column in (0, 1):
        assert abs(np.corrcoef(start_N2[:, column], left[:, column])[0, 1]) > 0.9
    assert start_N2.std(0) == pytest.approx([1e-4, 1e-4 * scales[1] / scales[0]], rel=0.2)


def test_what_the_first_two_components_do_not_show_is_in_the_plane_too():
    """Ten classes that forty features separate; two useless features vary more."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 10)
    signal = 1.5 * rng.normal(size=(10, 40))[labels] + 0.3 * rng.normal(size=(100, 40))
    vectors = np.concatenate([signal, 6 * rng.normal(size=(100, 2))], 1)
    two = vectors @ np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2][:2].T
    assert purity_by_hand(two, labels, 5) < 0.3
    points = embed(features_of(vectors, labels.tolist(), [str(k) for k in range(10)])).points_N2
    assert purity_by_hand(points, labels, 5) > 0.6


@pytest.mark.parametrize("spread", [1, 4])
def test_purity_by_hand(spread):
    vectors, labels = clusters(apart=spread, count=30)
    by_hand = purity_by_hand(vectors, labels, 7)
    assert 0.4 < by_hand < 1
    assert neighbour_purity(vectors, np.array(labels), 7) == pytest.approx(by_hand)


def test_the_same_seed_gives_the_same_coordinates(apart):
    vectors, labels = clusters(apart=2, count=25)
    features = features_of(vectors, labels, ["left", "right"])
    first, second, other = (embed(features, seed=seed).points_N2 for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.allclose(first, other)


def test_the_perplexity_fits_the_number_of_videos():
    vectors, labels = clusters(apart=5, count=5)
    features = features_of(vectors, labels, ["left", "right"])
    found = embed(features)
    assert found.perplexity == 3
    assert found.neighbours == 4  # as many as there are others of a point's class
    assert np.isfinite(found.points_N2).all()
    narrow = embed(features, perplexity=2)
    assert narrow.perplexity == 2
    assert not np.allclose(narrow.points_N2, found.points_N2, rtol=0.01)
    with pytest.raises(UsageError, match=r"--perplexity 30: must be 1 to 3 for 10 videos, a third"):
        embed(features, perplexity=30)
    with pytest.raises(DataError, match="3 videos: a t-SNE needs at least 4"):
        embed(features_of(vectors[:3], labels[:3], ["left", "right"]))


def test_features_of_one_dimension_and_features_that_do_not_differ():
    found = embed(features_of(np.arange(12)[:, None], [0, 1] * 6, ["left", "right"]))
    assert np.isfinite(found.points_N2).all()
    with pytest.raises(DataError, match=r"all 12 videos have the same features \(pool5\)"):
        embed(features_of(np.ones((12, 5)), [0, 1] * 6, ["left", "right"]))


def embedding_of(classes, *, each=5, none=0):
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.full(none, -1), np.repeat(np.arange(len(classes)), each)])
    centres = rng.normal(size=(len(classes) + 1, 2)) * 30
    return Embedding(
        keys=[str(n) for n in range(len(labels))],
        labels_N=labels,
        classes=classes,
        points_N2=centres[labels] + rng.normal(size=(len(labels), 2)),
        layer="pool5",
        perplexity=30,
        neighbours=10,
        purity=None if none else 0.5,
        feature_purity=None if none else 0.75,
    )


DIGITS = [f"{digit}_{motion}" for digit in range(10) for motion in ("down", "left", "right", "up")]


def test_class_names_that_are_a_grid_have_parts():
    assert class_parts(DIGITS) == [[str(digit) for digit in range(10)], ["down", "left", "right", "up"]]
    assert class_parts(DIGITS[:-1]) == []  # one combination is missing
    assert class_parts(["brush_hair", "wave"]) == []
    assert class_parts(["a_b", "a_c"]) == []  # no part but one differs
    assert class_parts([]) == []


def test_digits_and_motions_have_a_panel_each():
    embedding = embedding_of(DIGITS)
    digits, motions = groupings(embedding)
    for label, digit, motion in zip(embedding.labels_N, digits.groups_N, motions.groups_N, strict=True):
        assert DIGITS[label] == f"{digits.names[digit]}_{motions.names[motion]}"
    figure = embedding_figure(embedding)
    assert [axes.get_title() for axes in figure.axes] == [
        "coloured by 0, 1 ... 9",
        "coloured by down, left, right, up",
    ]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert legends == [digits.names, motions.names]
    (alone,) = groupings(embedding, "2")
    assert alone.names == motions.names


@pytest.mark.parametrize("count", [2, 12, 13, 40, 101, 400])
def test_legends_stay_short_and_names_do_not_cover_each_other(count):
    figure = embedding_figure(embedding_of([f"action number {n}" for n in range(count)]), color_by="class")
    (axes,) = figure.axes
    legend = axes.get_legend()
    if count <= 12:
        looks = {
            (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.shape)
            for points in axes.collections
        }
        assert len(looks) == len(legend.get_texts()) == count
        return
    assert legend is None
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 10 < len(boxes) <= count
    assert not [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if a.overlaps(b)]
    assert f"{len(boxes)} of {count} classes are named" in axes.get_title()


def test_neighbouring_classes_have_different_colours():
    """On a 6 x 6 grid of classes, no one touches another of its colour."""
    places = np.array([(x, y) for y in range(6) for x in range(6)], dtype=float) * 10
    embedding = embedding_of([f"c{n}" for n in range(36)])
    points = places[embedding.labels_N] + np.random.default_rng(1).normal(size=(180, 2)) * 0.1
    figure = embedding_figure(Embedding(**{**vars(embedding), "points_N2": points}))
    drawn = {
        tuple(point): number
        for number, of_colour in enumerate(figure.axes[0].collections)
        for point in np.asarray(of_colour.get_offsets()).tolist()
    }
    colours = [drawn[tuple(points[5 * n])] for n in range(36)]
    assert len(set(colours)) == 6
    touching = [(a, b) for a in range(36) for b in range(a) if np.abs(places[a] - places[b]).sum() == 10]
    assert len(touching) == 60
    assert not [pair for pair in touching if colours[pair[0]] == colours[pair[1]]]


def test_with_one_video_of_each_class_there_is_no_purity():
    vectors = clusters(apart=3, count=3)[0]
    names = [f"class {number}" for number in range(6)]
    alone = embed(features_of(vectors, range(6), names))
    assert (alone.purity, alone.feature_purity) == (None, None)
    assert embed(features_of(vectors, [0, 0, *range(1, 5)], names)).purity is not None


def test_videos_without_a_class_are_grey_and_counted_in_no_purity():
    figure = embedding_figure(embedding_of(["left", "right"], none=3))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "no class",
        "left",
        "right",
    ]
    assert "neighbours" not in to_svg(figure)
    bare = embed(features_of(clusters(apart=3, count=6)[0], [-1] * 12, []))
    assert bare.purity is None
    embedding_figure(bare)


def run(*arguments):
    return CliRunner().invoke(app, ["tsne", *map(str, arguments)])


@pytest.fixture(scope="module")
def file(tmp_path_factory, apart):
    path = tmp_path_factory.mktemp("features") / "features.safetensors"
    save_features(apart, path)
    return path


def test_the_command(file, tmp_path):
    picture = tmp_path / "tsne.png"
    done = run(file, "-o", picture, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [row["key"] for row in report["points"]] == [f"video{n}" for n in range(80)]
    assert {row["class"] for row in report["points"]} == {"left", "right"}
    assert (report["dimensions"], report["perplexity"]) == (80, pytest.approx(79 / 3))
    rows = list(csv.DictReader(io.StringIO(run(file, "-o", picture, "--csv").stdout)))
    assert [float(row["x"]) for row in rows] == pytest.approx([row["x"] for row in report["points"]])
    assert "100.0% in the figure, 100.0% in the features" in run(file, "-o", picture).output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "x.png", "--json", "--csv"], 2, "--json and --csv: choose one"),
        (["-o", "x.jpg"], 2, "pictures are .png or .svg"),
        (["-o", "x.png", "--layer", "pool6"], 2, "did you mean 'pool5'"),
        (["-o", "x.png", "--perplexity", "70"], 2, "must be 1 to 26.33 for 80 videos"),
        (["-o", "x.png", "--color-by", "1"], 2, "the class names have no parts"),
    ],
)
def test_refusals(file, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    done = run(file, *arguments)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())


def test_features_that_are_no_numbers_are_refused(tmp_path):
    vectors, labels = clusters(apart=3)
    vectors[3, 2] = np.nan
    save_features(features_of(vectors, labels, ["left", "right"]), tmp_path / "nan.safetensors")
    done = run(tmp_path / "nan.safetensors", "-o", tmp_path / "x.png")
    assert done.exit_code == 3
    assert "layer 'pool5' is not a matrix of finite" in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
