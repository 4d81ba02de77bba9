"""`transfer3d features`: one and two processes, a kill in the middle, formats, refusals in one sentence."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch
from media import write_numbered
from sweeps import sweep
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.insight.features.file import load_features
from transfer3d.run.inference.session import InferenceSession

LAYERS = "pool5,prob,res4,res5a@2"
SMALL = ["--clips", 3, "--precision", "fp32", "--workers", 0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    student = transfer3d.create_model("p3d_tiny", num_classes=40, seed=1)
    student.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    transfer3d.save(student, path)
    return path


@pytest.fixture(scope="module")
def shards(digits_folder):
    return digits_folder / "shards"


def run(*arguments):
    return CliRunner().invoke(app, ["features", *map(str, arguments)])


@pytest.fixture(scope="module")
def whole(checkpoint, shards, tmp_path_factory):
    """What one process writes that nobody disturbs."""
    out = tmp_path_factory.mktemp("features") / "whole.safetensors"
    done = run(checkpoint, "--data", shards, "--layers", LAYERS, "-o", out, *SMALL, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["videos"] == 80
    assert report["layers"] == {"pool5": 96, "prob": 40, "res4": 192, "res5a@2": 384}
    assert report["views"] == {"places": "even", "count": 3}
    assert not list(out.parent.glob("*.parts"))
    return out


def test_the_file_names_videos_classes_and_whence_it_came(whole, shards):
    features = load_features(whole)
    index = json.loads((shards / "index.json").read_text())
    samples = [
        sample for shard in index["shards"] if shard["split"] == "train" for sample in shard["samples"]
    ]
    assert list(features.keys) == [sample["key"] for sample in samples]
    assert features.labels_N.tolist() == [sample["label"] for sample in samples]
    assert list(features.classes) == index["classes"]
    assert features.metadata.student == "p3d_tiny"
    assert features.layers["pool5"].std(0).max() > 1e-3
    torch.testing.assert_close(features.layers["prob"].sum(1), torch.ones(80))
    torch.testing.assert_close(
        features.layers["res5a@2"].unflatten(1, (-1, 4)).mean(-1), features.layers["pool5"]
    )


@pytest.mark.slow
@pytest.mark.proc
def test_two_processes_write_the_same_numbers(whole, checkpoint, shards, tmp_path):
    out = tmp_path / "two.safetensors"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [
        "-m",
        "transfer3d",
        "features",
        checkpoint,
        "--data",
        shards,
        "--layers",
        LAYERS,
        "-o",
        out,
        *SMALL,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    one, two = load_features(whole), load_features(out)
    assert two.keys == one.keys
    assert two.metadata == one.metadata
    for name, tensor in one.layers.items():
        torch.testing.assert_close(two.layers[name], tensor)


KILLED = """
import os, signal, sys
from transfer3d.insight.features import extraction as features
from transfer3d.insight.features.parts import FeatureParts
features.PART_VIDEOS = 10
add = FeatureParts.add
def die(self, keys, layers):
    if len(self.keys()) >= 40:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, keys, layers)
FeatureParts.add = die
from transfer3d.cli.main import main
sys.argv = ["transfer3d", "features", *sys.argv[1:]]
main()
"""


@pytest.mark.proc
@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(whole, checkpoint, shards, tmp_path):
    out = tmp_path / "killed.safetensors"
    arguments = list(map(str, [checkpoint, "--data", shards, "--layers", LAYERS, "-o", out, *SMALL]))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    parts = out.with_name("killed.safetensors.parts")
    assert not out.exists()
    assert [path.name for path in sorted(parts.glob("0-*"))] == [f"0-0000{n}.safetensors" for n in range(4)]
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "holds an unfinished extraction. Continue with --resume" in refused.stderr
    other = run(*arguments, "--resume", "--clips", 2)
    assert other.exit_code == 2
    assert "from another extraction: views changed" in other.stderr
    again = run(*arguments, "--resume")
    assert again.exit_code == 0, again.output
    assert "extracting: 80/80" in again.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()
    idle = run(*arguments, "--resume")
    assert idle.exit_code == 0
    assert "exists already: nothing to do" in idle.stdout


def test_parquet_and_npz_hold_the_same(whole, checkpoint, shards, tmp_path):
    features = load_features(whole)
    for name in ("f.parquet", "f.npz"):
        done = run(checkpoint, "--data", shards, "--layers", LAYERS, "-o", tmp_path / name, *SMALL)
        assert done.exit_code == 0, done.output
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["key", "source", "labels", "class", *LAYERS.split(",")]
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == list(features.keys)
    assert [row["class"] for row in rows] == [features.classes[label] for label in features.labels_N]
    assert json.loads(table.schema.metadata[b"facts"])["data_digest"] == features.metadata.data_digest
    arrays = np.load(tmp_path / "f.npz", allow_pickle=False)
    assert arrays["keys"].tolist() == list(features.keys)
    assert arrays["labels"].tolist() == features.labels_N.tolist()
    for name, tensor in features.layers.items():
        column = np.array([row[name] for row in rows], dtype=np.float32)
        np.testing.assert_allclose(column, tensor.numpy(), rtol=1e-6)
        np.testing.assert_allclose(arrays[name], tensor.numpy(), rtol=1e-6)


def test_a_flat_folder_is_read_without_classes(checkpoint, tmp_path):
    for number in range(3):
        write_numbered(tmp_path / "flat" / f"{number}.mp4", 20 + number)
    out = tmp_path / "flat.safetensors"
    done = run(checkpoint, "--data", tmp_path / "flat", "--split", "unlabelled", "-o", out, *SMALL)
    assert done.exit_code == 0, done.output
    features = load_features(out)
    assert list(features.keys) == ["0.mp4", "1.mp4", "2.mp4"]
    assert features.labels_N.tolist() == [-1, -1, -1]
    assert features.classes == ()


def test_refusals_name_what_and_where_and_leave_nothing(whole, checkpoint, shards, tmp_path):
    out = tmp_path / "f.safetensors"
    (tmp_path / "bad").mkdir()
    write_numbered(tmp_path / "bad" / "a.mp4")
    (tmp_path / "bad" / "b.mp4").write_bytes(b"no video")
    cases = [
        ([checkpoint, "--data", shards, "-o", out, "--layers", "pool6"], 2, "no layer 'pool6' (did you mean"),
        ([checkpoint, "--data", shards, "-o", tmp_path / "f.csv"], 2, "no format 'csv'"),
        ([checkpoint, "--data", shards, "-o", out, "--format", "npy"], 2, "(did you mean 'npz'?)"),
        ([checkpoint, "--data", shards, "-o", out, "--split", "tset"], 2, "has no split 'tset'"),
        ([checkpoint, "--data", shards, "-o", whole], 2, "whole.safetensors exists"),
        ([shards / "index.json", "--data", shards, "-o", out], 4, "index.json"),
        ([checkpoint, "--data", tmp_path / "bad", "--split", "unlabelled", "-o", out], 3, "bad/b.mp4"),
    ]  # fmt: skip
    for arguments, code, message in cases:
        done = run(*arguments)
        assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]


def test_a_finished_file_is_named_by_the_main_process_alone(whole, checkpoint, shards, monkeypatch):
    monkeypatch.setattr(InferenceSession, "is_main", False)
    done = run(checkpoint, "--data", shards, "--layers", LAYERS, "-o", whole, *SMALL, "--resume")
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize("name", sweep(["f.safetensors", "f.parquet", "f.npz"], ["f.npz"]))
def test_only_a_finished_file_of_the_same_extraction_is_left_as_it_is(checkpoint, shards, tmp_path, name):
    out = tmp_path / name
    arguments = [checkpoint, "--data", shards, "--split", "val", "--layers", "res4,pool5", "-o", out, *SMALL]
    assert run(*arguments).exit_code == 0
    before = out.read_bytes()
    same = run(*arguments, "--resume")
    assert (same.exit_code, "nothing to do" in same.stdout) == (0, True), same.output
    changes = [
        (["--layers", "pool5"], "layers changed"),
        (["--clips", 2], "views changed"),
        (["--split", "test"], "data_digest, split changed"),
    ]
    for change, message in changes:
        other = run(*arguments, *change, "--resume")
        assert other.exit_code == 2
        assert f"{name} is from another extraction: {message}. Give another name" in other.stderr
    assert out.read_bytes() == before
    forced = run(*arguments, "--clips", 2, "--resume", "--force")
    assert forced.exit_code == 0, forced.output
    assert out.read_bytes() != before
    for content in (b"", b"PK\3\4 and no more", b"PAR1", before[: len(before) // 2]):
        out.write_bytes(content)
        other = run(*arguments, "--resume")
        assert other.exit_code == 2
        assert f"{name} is not a {name[2:]} file of features. Give another name" in other.stderr
        assert out.read_bytes() == content


@pytest.mark.parametrize(
    "channels, message",
    [
        (2, "the student takes 2 channels, the videos are RGB"),
        (1, "takes 1 channels, videos have 3 (RGB) or 2 (optical flow)"),
    ],
)
def test_a_student_that_does_not_see_rgb_is_refused_and_nothing_left(shards, tmp_path, channels, message):
    student = tmp_path / "flow.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", in_chans=channels), student)
    done = run(student, "--data", shards, "-o", tmp_path / "f.safetensors", *SMALL)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["flow.safetensors"]


def test_parquet_without_pyarrow_says_what_to_install(checkpoint, shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run(checkpoint, "--data", shards, "-o", tmp_path / "f.parquet")
    assert done.exit_code == 5
    assert "pip install 'transfer3d[parquet]'" in done.stderr


def test_p3ds_random_clips_follow_the_seed_and_other_protocols_are_refused(checkpoint, shards, tmp_path):
    """P3D, section 4: "we select 20 video clips"."""
    common = (checkpoint, "--data", shards, "--split", "val", "--precision", "fp32", "--workers", 0)
    vectors = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        out = tmp_path / f"{name}.safetensors"
        done = run(*common, "--protocol", "p3d", "--seed", seed, "-o", out, "--json")
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout[done.stdout.index("{") :])
        assert report["views"] == {"places": "random", "count": 20, "seed": seed}
        vectors.append(load_features(out).layer("pool5"))
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    refused = run(*common, "--protocol", "v4d", "-o", tmp_path / "d.safetensors")
    assert refused.exit_code == 2
    assert "features supports only p3d" in refused.stderr
