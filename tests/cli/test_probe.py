"""`transfer3d probe`: reports of every protocol, and refusals in one sentence."""

import json
import os

import pytest
from feature_sets import feature_set
from PIL import Image
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.insight.features.file import save_features


def run(*arguments):
    return CliRunner().invoke(app, ["probe", *map(str, arguments)])


def report_of(*arguments):
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    for number in range(3):
        for seed, part in ((2 * number, "train"), (2 * number + 1, "test")):
            features = feature_set(videos=6, seed=seed, name=part)
            features.layers["res4"] = features.layers["pool5"].abs()
            save_features(features, folder / f"{part}{number}.safetensors")
    keys = feature_set(videos=6).keys
    lines = ["first,second,same,fold"]
    for fold in (1, 2):
        start = 12 * (fold - 1)  # two classes of six videos each
        lines += [f"{keys[start + n]},{keys[start + n + 1]},{int(n != 5)},{fold}" for n in range(11)]
        lines += [f"{keys[start + n]},{keys[start + n + 6]},0,{fold}" for n in range(6)]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_three_official_splits(files, tmp_path):
    names = [files / f"train{number}.safetensors" for number in range(3)]
    tests = [part for number in range(3) for part in ("--test", files / f"test{number}.safetensors")]
    report = report_of(*names, *tests, "--layer", "pool5,res4", "-o", tmp_path / "report.json")
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["protocol"], report["method"], report["classes"], report["chance"]) == (
        "splits",
        "svm",
        4,
        0.25,
    )
    pooled, other = report["results"]
    assert (pooled["layer"], pooled["accuracy"], len(pooled["folds"])) == ("pool5", 1.0, 3)
    assert (other["layer"], [fold["test"] for fold in other["folds"]]) == ("res4", [24, 24, 24])
    done = run(*names, *tests)
    assert "pool5                    100.0% (100.0%, 100.0%, 100.0%), top-3 100.0%, mAP 100.0%" in done.stdout
    assert "chance                   25.0%" in done.stdout


def test_leave_one_out(files):
    report = report_of(
        files / "train0.safetensors", "--protocol", "leave-one-out", "--method", "knn", "--value", 3
    )
    (result,) = report["results"]
    assert (result["accuracy"], result["videos"], result["values"]) == (1.0, 24, {"3": 24})


def test_pairs(files):
    arguments = (files / "train0.safetensors", "--protocol", "pairs", "--pairs", files / "pairs.csv")
    (result,) = report_of(*arguments, "--layer", "res4")["results"]
    assert (result["layers"], len(result["similarities"]), len(result["folds"])) == (["res4"], 12, 2)
    assert result["accuracy"] > 0.7
    done = run(*arguments, "--layer", "res4")
    assert "over 2 folds, AUC" in done.stdout
    assert "not comparable with printed decimals" in done.stdout
    assert "the other ten are our choice" in result["note"]
    assert "50.0%" in done.stdout
    negative = run(*arguments)
    assert negative.exit_code == 2
    assert "layer 'pool5' has negative values" in negative.stderr


def test_a_pca_curve_with_its_picture(files, tmp_path):
    plot = tmp_path / "curve.png"
    arguments = (files / "train0.safetensors", "--test", files / "test0.safetensors", "--protocol", "pca")
    report = report_of(*arguments, "--plot", plot, "--value", 1)
    assert [point["dimensions"] for point in report["results"][0]["points"]] == [10, 12]
    assert Image.open(plot).format == "PNG"
    shown = run(*arguments, "--value", 1, "--plot", tmp_path / "curve.svg")
    assert "pool5, 12 dimensions     100.0%" in shown.stdout
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


def test_refusals_name_what_and_where(files, tmp_path):
    train, test = files / "train0.safetensors", files / "test0.safetensors"
    (tmp_path / "broken.safetensors").write_bytes(train.read_bytes()[:100])
    os.mkfifo(tmp_path / "pipe")
    cases = [
        ([tmp_path / "pipe", "--test", test], 3, "pipe: is a device or a pipe"),
        ([train, "--protocol", "pairs", "--pairs", tmp_path / "pipe"], 3, "pipe: cannot be read"),
        ([train], 2, "1 training and 0 test files of features: give one --test for each"),
        ([train, "--test", train], 2, "both have the same videos"),
        ([train, "--test", test, "--layer", "pool4"], 2, "no layer 'pool4' (did you mean 'pool5'?)"),
        ([train, "--test", test, "--method", "smv"], 2, "(did you mean 'svm'?)"),
        ([train, "--test", test, "--protocol", "leave1out"], 2, "(did you mean 'leave-one-out'?)"),
        (
            [train, "--test", test, "--protocol", "leave-one-out"],
            2,
            "takes one file of features, and no --test",
        ),
        ([train, "--protocol", "pairs"], 2, "--protocol pairs and --pairs FILE.csv must be used together"),
        (
            [train, "--test", test, "--plot", tmp_path / "p.png"],
            2,
            "--plot is only for --protocol pca",
        ),
        ([train, "--protocol", "pairs", "--pairs", tmp_path / "no.csv"], 3, "no.csv: cannot be read"),
        ([tmp_path / "none", "--test", test], 3, "none: does not exist"),
        (
            [tmp_path / "broken.safetensors", "--test", test],
            3,
            "broken.safetensors: not a file of features, or damaged",
        ),
        ([train, "--test", test, "-o", tmp_path / "broken.safetensors" / "r.json"], 5, "cannot be written"),
        ([train, "--test", test, "-o", tmp_path], 2, "is a folder. Name a JSON file with -o"),
        (
            [train, "--test", test, "--protocol", "pca", "--plot", tmp_path / "p.jpg"],
            2,
            "pictures are .png or .svg",
        ),
        ([train, "--test", test, "--value", "nan"], 2, "--value nan: svm takes C, a finite number above 0"),
    ]
    for arguments, code, message in cases:
        done = run(*arguments)
        assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"broken.safetensors", "pipe"}
