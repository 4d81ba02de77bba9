"""`transfer3d report` on run folders as training leaves them, whole, stopped, staged or damaged."""

import json
import shutil

import pytest
from reports import Page, rows, write_run
from rich.console import Console
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, UsageError
from transfer3d.files import sha256_file
from transfer3d.insight.report.predictions import predict_centre_clips
from transfer3d.run.pages import report
from transfer3d.run.pages.report import report_after_training
from transfer3d.run.pages.run_record import read_log, read_run

QUIET = Console(quiet=True)
LOG = rows(10, loss=(4, 1), clip_accuracy=(0, 1))


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits_folder):
    """A correspondence run of 4 steps and a fine-tuning run of 6 steps from it."""
    root = tmp_path_factory.mktemp("trained")
    short = ["--set", "batch_size=8", "--workers", 0, "--precision", "fp32", "--data", digits_folder]
    teach = ["--teacher", "test_resnet", "--weights", "none", "--recipe", "demo/tiny-correspond"]
    done = run("correspond", *teach, *short, "--set", "max_steps=4", "-o", root / "taught")
    assert done.exit_code == 0, done.output
    student = root / "taught" / "model.safetensors"
    tune = [
        "finetune",
        student,
        "--recipe",
        "demo/tiny-finetune",
        "--set",
        "max_steps=6",
        "--set",
        "validate_every=3",
    ]
    done = run(*tune, *short, "-o", root / "tuned")
    assert done.exit_code == 0, done.output
    assert str(root / "tuned" / "report.html") in done.output
    return root


@pytest.fixture(scope="module")
def page(trained):
    done = run("report", trained / "tuned", "--precision", "fp32", "-o", trained / "tuned.html")
    assert done.exit_code == 0, done.output
    return Page((trained / "tuned.html").read_text(encoding="utf-8"))


def test_training_leaves_a_page_of_what_it_wrote(trained):
    for name, said in (("taught", "pair accuracy, balanced"), ("tuned", "val, top-1, last")):
        page = Page((trained / name / "report.html").read_text(encoding="utf-8"))
        assert said in page.text
        assert "Environment" in page.text
        assert "img" not in page.tags  # no video was decoded for it


def test_the_numbers_are_those_of_evaluate(trained, page, digits_folder):
    out = trained / "elsewhere.json"
    model = trained / "tuned" / "model.safetensors"
    done = run("evaluate", model, "--data", digits_folder, "--precision", "fp32", "-o", out)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    for key, name in (("video_top1", "test, top-1"), ("video_top5", "test, top-5"), ("mean_ap", "precision")):
        assert f"{name} {100 * report[key]:.1f} %" in page.text
    copy = shutil.copytree(trained / "tuned", trained / "evaluated")
    for file in trained.glob("elsewhere*"):
        shutil.copy(file, copy)
    again = run("report", copy, "--videos", 0, "--json")
    numbers = {number["number"]: number for number in json.loads(again.stdout)["runs"][0]["numbers"]}
    assert numbers["test, top-1"]["value"] == report["video_top1"]
    assert numbers["test, top-1"]["videos"] == report["scored"]


@pytest.fixture(scope="module")
def evaluated(trained, digits_folder):
    """The tuned run, tested on the films as they are, and then backwards."""
    folder = shutil.copytree(trained / "tuned", trained / "whole")
    test = ["evaluate", folder / "model.safetensors", "--data", digits_folder, "--precision", "fp32"]
    for name, more in (("forward", []), ("reversed", ["--reverse", "frames"])):
        done = run(*test, *more, "-o", folder / f"{name}.json")
        assert done.exit_code == 0, done.output
    return folder


def test_the_evaluation_is_none_of_the_other_reports_in_the_folder(evaluated, tmp_path):
    folder = shutil.copytree(evaluated, tmp_path / "run")
    same = {"checkpoint_sha256": sha256_file(folder / "model.safetensors")}
    forward = json.loads((folder / "forward.json").read_text())
    others = [
        {**same, "protocol": "splits", "results": []},
        *({name: value for name, value in forward.items() if name != left_out}
          for left_out in ("split", "scored", "views", "per_class", "protocol", "data_digest")),
    ]  # fmt: skip
    for number, other in enumerate(others):
        (folder / f"other{number}.json").write_text(json.dumps(other))
    found = read_run(folder).evaluation
    assert found is not None
    assert found.metrics == forward
    assert len(found.right) == forward["scored"]
    (folder / "forward.json").unlink()
    assert read_run(folder).evaluation is None
    assert str(folder / "report.html") in report_after_training(folder, console=QUIET)
    assert (folder / "report.html").is_file()


def test_a_comparison_looks_only_where_it_shows_what_it_finds(trained, evaluated, monkeypatch):
    looked = []

    def counted(student, videos, facts, *others, **options):
        looked.append(facts.checkpoint)
        return predict_centre_clips(student, videos, facts, *others, **options)

    monkeypatch.setattr("transfer3d.run.pages.report.predict_centre_clips", counted)
    runs = [evaluated, trained / "tuned", trained / "taught"]
    done = run("report", *runs, "--precision", "fp32", "-o", trained / "three.html")
    assert done.exit_code == 0, done.output
    assert looked == [str(trained / "tuned" / "model.safetensors")]
    # The same weights on the same views: `evaluate` and the look agree on every video.
    text = Page((trained / "three.html").read_text(encoding="utf-8")).text
    assert "Video by video" in text
    assert "0 0 40" in text
    assert "it was scored on other views" not in text


def test_it_shows_data_environment_provenance_and_pictures(trained, page):
    started = json.loads((trained / "tuned" / "started.json").read_text())
    for value in (
        "training videos 80",
        "40, with 2 videos each",
        "held out for validation 40",
        "left out 0 files",
    ):
        assert value in page.text
    assert f"torch {started['environment']['torch']}" in page.text
    chain = [
        "Random weights",
        "Teacher, frozen",
        "Trained by correspondence",
        ", holds",
        "Fine-tuned on labels",
    ]
    places = [page.text.rindex(title) for title in chain]
    assert places == sorted(places)
    assert sum(reference.startswith("data:image/png") for reference in page.references) >= 4
    for title in ("Confusion", "Best", "Worst", "Class activation maps", "t-SNE of 40 videos"):
        assert title in page.text


def test_features_from_a_file_are_drawn_if_they_are_the_runs_own(trained, digits_folder):
    file = trained / "features.safetensors"
    own = trained / "tuned" / "model.safetensors"
    extract = ["features", own, "--data", digits_folder, "--split", "val", "--layers", "res5", "--clips", 1]
    done = run(*extract, "-o", file)
    assert done.exit_code == 0, done.output
    given = ["--features", file, "--videos", 0, "-o", trained / "features.html"]
    done = run("report", trained / "tuned", *given)
    assert done.exit_code == 0, done.output
    text = Page((trained / "features.html").read_text(encoding="utf-8")).text
    assert "t-SNE of 40 videos (res5" in text
    assert "one of 40 videos (val)" in text
    done = run("report", trained / "taught", *given)
    assert done.exit_code == 2
    assert "features of" in done.output


def test_a_student_without_classes_is_not_looked_at_where_features_are_given(
    trained, digits_folder, monkeypatch
):
    file, own = trained / "taught.safetensors", trained / "taught" / "model.safetensors"
    extract = ["features", own, "--data", digits_folder, "--split", "val", "--layers", "res5", "--clips", 1]
    assert run(*extract, "-o", file).exit_code == 0
    monkeypatch.setattr(
        "transfer3d.run.pages.report.predict_centre_clips", lambda *_, **__: pytest.fail("looked")
    )
    done = run("report", trained / "taught", "--features", file, "-o", trained / "given.html")
    assert done.exit_code == 0, done.output
    text = Page((trained / "given.html").read_text(encoding="utf-8")).text
    assert "No videos were evaluated: the features come from" in text
    assert "t-SNE of 40 videos (res5" in text


def test_videos_that_come_in_their_own_order_are_looked_at_all_or_not_at_all(
    trained, digits_folder, monkeypatch
):
    videos = open_videos(digits_folder, split="test", labelled=True)
    monkeypatch.setattr(videos, "sequential_groups", [20, 20])
    monkeypatch.setattr("transfer3d.run.pages.report.unseen_videos", lambda *_: (videos, "test"))
    given = ["report", trained / "tuned", "--data", digits_folder, "-o", trained / "runs.html"]
    done = run(*given, "--videos", 39)
    assert done.exit_code == 2
    assert "Use --videos 40, or --videos 0." in " ".join(done.output.split())
    assert "data_share" not in done.output
    done = run(*given, "--videos", 40)
    assert done.exit_code == 0, done.output


def test_a_student_of_other_channels_is_refused_in_a_sentence(tmp_path, digits_folder):
    folder = write_run(tmp_path / "run")
    transfer3d.save(
        transfer3d.create_model("t3d_tiny", in_chans=2, num_classes=40), folder / "model.safetensors"
    )
    done = run("report", folder, "--data", digits_folder)
    assert done.exit_code == 2
    assert "takes 2 channels" in done.output


def test_a_correspondence_run_shows_what_it_learnt(trained):
    done = run("report", trained / "taught", "-o", trained / "taught.html", "--precision", "fp32")
    assert done.exit_code == 0, done.output
    text = Page((trained / "taught.html").read_text(encoding="utf-8")).text
    for said in (
        "chance 50 %",
        "recall@5 within a batch",
        "effective rank of the features",
        "Teacher, frozen",
    ):
        assert said in text


def test_data_that_is_gone_is_said_where_it_is_missed(trained):
    run_folder = shutil.copytree(trained / "tuned", trained / "moved")
    recipe = run_folder / "recipe.toml"
    recipe.write_text(
        "\n".join(
            "data = 'gone/'" if line.startswith("data =") else line
            for line in recipe.read_text().splitlines()
        )
    )
    done = run("report", run_folder)
    assert done.exit_code == 0, done.output
    text = Page((run_folder / "report.html").read_text(encoding="utf-8")).text
    assert "No videos were evaluated, so their images are missing: gone does not exist" in text
    assert "training videos 80" in text
    done = run("report", run_folder, "--data", "gone")
    assert done.exit_code == 2
    assert "gone does not exist" in done.output


@pytest.mark.parametrize("few", [True, False])
def test_a_run_that_has_ended_has_a_full_page_where_its_videos_are_few(trained, tmp_path, few, monkeypatch):
    monkeypatch.setattr(report, "FEW_VIDEOS", 1000 if few else 1)
    folder = shutil.copytree(trained / "tuned", tmp_path / "run")
    said = report_after_training(folder, console=QUIET)
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert ("Most confused" in text) is few
    assert (f"`transfer3d report {folder}` adds" in said) is not few
    assert said.startswith(f"report -> {folder / 'report.html'}")


def test_several_runs_make_one_page(trained):
    done = run("report", trained / "tuned", trained / "taught", "-o", trained / "both.html", "--videos", 0)
    assert done.exit_code == 0, done.output
    text = Page((trained / "both.html").read_text(encoding="utf-8")).text
    assert "task finetune correspond" in text
    assert "teacher none test_resnet" in text


def test_a_staged_run_shows_every_stage(tmp_path):
    staged = tmp_path / "staged.toml"
    staged.write_text('extends = "demo/tiny-finetune"\n[stages.first]\nseed = 1\n[stages.second]\nseed = 2\n')
    whole = write_run(tmp_path / "run", recipe=str(staged), log=[])
    write_run(whole / "first", log=LOG, seed=1)
    write_run(whole / "second", log=LOG[:4], seed=2, done=False, made=False)
    done = run("report", whole)
    assert done.exit_code == 0, done.output
    text = Page((whole / "report.html").read_text(encoding="utf-8")).text
    assert "first finetune p3d_tiny 10 finished" in text
    assert "second finetune p3d_tiny 4 not finished" in text
    assert "Stage first" in text
    assert "seed 2" in text


def test_a_run_that_has_hardly_begun_has_a_page(tmp_path):
    folder = write_run(tmp_path / "run", made=False, done=False)
    (folder / "metrics.jsonl").unlink()
    done = run("report", folder)
    assert done.exit_code == 0, done.output
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "The run is not finished" in text
    assert "Nothing was logged yet" in text
    assert "there is no checkpoint yet" in text


def test_a_half_written_last_line_is_passed_over_and_any_other_named(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = [json.dumps(row) for row in LOG[:3]]
    log.write_text("\n".join([*lines, lines[0][:20]]))
    assert read_log(log) == LOG[:3]
    for damaged in (
        "{",
        "[]",
        '{"step": 1}',
        '{"step": "a", "split": "train"}',
        '{"step": 1, "split": "train", "loss": []}',
    ):
        log.write_text("\n".join([lines[0], damaged, lines[1]]))
        with pytest.raises(DataError, match="line 2 is damaged"):
            read_log(log)


@pytest.mark.parametrize("name", ["started.json", "finished.json"])
@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00"])
def test_damaged_notes_are_named(tmp_path, name, text):
    folder = write_run(tmp_path / "run", made=False)
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=name):
        read_run(folder)


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path):
    folder = write_run(tmp_path / "run", made=False)
    for arguments, code, said in (
        ([tmp_path], 2, "has no recipe.toml. Name a run folder"),
        ([tmp_path / "nowhere"], 2, "does not exist"),
        ([folder, folder], 2, "is named twice"),
        ([folder, "-o", tmp_path], 2, "is a folder"),
        ([folder, tmp_path], 2, "has no recipe.toml"),
        ([folder, tmp_path / "other", "--features", tmp_path / "f"], 2, "--features supports one run"),
    ):
        done = run("report", *arguments)
        assert done.exit_code == code, done.output
        assert said in done.output
        assert "Traceback" not in done.output
    assert not list(tmp_path.glob("*.html"))
    (folder / "recipe.toml").write_text("=")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_run(folder)
