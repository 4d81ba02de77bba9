"""Weights from the hub, by timm's names and by ours, against a local server that speaks its protocol."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from hub_server import COMMIT, serve
from safetensors.torch import save
from timm.models import get_pretrained_cfg

import transfer3d
from transfer3d.errors import UsageError, WeightsError
from transfer3d.models.image import create_image_model, weights_digest
from transfer3d.weights.hub import in_time, locate

SCRIPT = """
import json, sys, time
from pathlib import Path
from transfer3d.errors import Transfer3dError
from transfer3d.models.checkpoint import load
from transfer3d.models.image import create_image_model, weights_digest
from transfer3d.run.checkpoints.inflate import inflate_to_file

for line in sys.stdin:
    started = time.monotonic()
    kind, name = json.loads(line)
    try:
        if kind == "inflate":
            said = inflate_to_file(name, "p3d", Path(sys.argv[1]), weights="timm", force=True).to_dict()
        else:
            said = {"digest": weights_digest(create_image_model(name) if kind == "timm" else load(name))}
    except Transfer3dError as error:
        said = {"error": str(error), "exit_code": error.exit_code}
    print(json.dumps({**said, "seconds": time.monotonic() - started}), flush=True)
"""


class Child:
    """A process whose hub is where we say; the client reads that once, when it is imported."""

    def __init__(self, home, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(home / "inflated.safetensors")],
            env={**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, kind, name):
        print(json.dumps([kind, name]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def hub_name(model):
    return get_pretrained_cfg(model).hf_hub_id


@pytest.mark.proc
@pytest.mark.slow
def test_the_hub_end_to_end(tmp_path):
    torch.manual_seed(0)
    trained = create_image_model("test_resnet", "none", seed=5)
    student = transfer3d.create_model("p3d_tiny", num_classes=3, seed=2)
    transfer3d.save(student, tmp_path / "student.safetensors")
    files = {
        f"{hub_name('test_resnet')}/model.safetensors": save(trained.state_dict()),
        f"{hub_name('resnet18')}/model.safetensors": bytes(100_000),
        f"{hub_name('resnet34')}/something.else": b"",
        f"{hub_name('resnet26')}/pytorch_model.bin": b"no pickle",
        "someone/student/model.safetensors": (tmp_path / "student.safetensors").read_bytes(),
    }
    home = tmp_path / "home"
    broken = {f"{hub_name('resnet18')}/model.safetensors"}
    with serve(files, broken) as (address, seen):
        with Child(home, HF_ENDPOINT=address) as child:
            found = child.ask("timm", "test_resnet")
            assert found["digest"] == weights_digest(trained), found
            asked = len(seen)
            assert child.ask("timm", "test_resnet")["digest"] == found["digest"]
            inflated = child.ask("inflate", "test_resnet")
            assert inflated["source_digest"] == found["digest"], inflated
            assert inflated["proof"]["verdict"] == "proved"
            assert {request.split()[0] for request in seen[asked:]} == {"HEAD"}  # up to date: nothing is sent

            missing = child.ask("timm", "resnet50")
            assert missing["exit_code"] == 5
            assert "RepositoryNotFoundError" in missing["error"]
            assert hub_name("resnet50") in missing["error"]

            empty = child.ask("timm", "resnet34")
            assert "holds none of model.safetensors, pytorch_model.bin" in empty["error"]

            for _ in range(2):  # what has come is not taken for the whole, nor the second time
                cut = child.ask("timm", "resnet18")
                assert cut["exit_code"] == 5, cut
                assert "--weights none" in cut["error"]
                assert cut["seconds"] < 15

            damaged = child.ask("timm", "resnet26")
            assert damaged["exit_code"] == 4

            ours = child.ask("ours", "hf_hub:someone/student")
            assert ours["digest"] == weights_digest(student), ours
            assert f"HEAD someone/student/model.safetensors@{COMMIT}" not in seen
            child.ask("ours", f"hf_hub:someone/student@{COMMIT}")
            assert child.ask("ours", "hf_hub:someone/else")["exit_code"] == 5
        offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": address}
        asked = len(seen)
        with Child(home, **offline) as child:
            assert child.ask("timm", "test_resnet")["digest"] == found["digest"]
            assert child.ask("ours", "hf_hub:someone/student")["digest"] == ours["digest"]
            gone = child.ask("timm", "resnet18")
            assert gone["exit_code"] == 5
            assert "--weights FILE" in gone["error"]
            assert "--weights none" in gone["error"]
            assert gone["seconds"] < 15
        assert len(seen) == asked


@pytest.mark.slow
@pytest.mark.proc
def test_a_new_push_is_seen_and_a_commit_is_cached(tmp_path):
    students = [transfer3d.create_model("p3d_tiny", num_classes=3, seed=seed) for seed in range(2)]
    digests = [weights_digest(student) for student in students]
    files, commits = {}, {}

    def push(student, commit):
        transfer3d.save(student, tmp_path / "student.safetensors")
        files["someone/student/model.safetensors"] = (tmp_path / "student.safetensors").read_bytes()
        commits["someone/student"] = commit

    name, first, second = "hf_hub:someone/student", "a" * 40, "b" * 40
    with (
        serve(files, commits=commits) as (address, seen),
        Child(tmp_path / "home", HF_ENDPOINT=address) as child,
    ):
        push(students[0], first)
        assert child.ask("ours", name)["digest"] == digests[0]
        push(students[1], second)
        assert child.ask("ours", name)["digest"] == digests[1]
        asked = len(seen)
        assert child.ask("ours", f"{name}@{first}")["digest"] == digests[0]
        assert child.ask("ours", f"{name}@{second}")["digest"] == digests[1]
        assert len(seen) == asked
    with Child(tmp_path / "home", HF_ENDPOINT="http://127.0.0.1:9") as child:
        unreachable = child.ask("ours", name)
    assert unreachable["digest"] == digests[1]
    assert unreachable["seconds"] < 10


@pytest.mark.parametrize("address", ["", "name", "a/b/c", "a/b@", "a/b@c@d", "a b/c", "../../x/y"])
def test_what_is_no_address(address):
    with pytest.raises(UsageError, match="user/name@revision"):
        locate(f"hf_hub:{address}")


def test_a_file_and_a_folder(tmp_path):
    assert locate(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"
    with pytest.raises(WeightsError, match=r"is a folder without model\.safetensors"):
        locate(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert locate(str(tmp_path)) == tmp_path / "model.safetensors"


def test_a_call_that_takes_too_long_is_given_up():
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        in_time(lambda: time.sleep(5), 0.1)
    assert time.monotonic() - started < 3
    assert in_time(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 / 0, 5)
