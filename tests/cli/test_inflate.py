"""`transfer3d inflate`: its options, what it writes, and what it refuses."""

import json

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.models.image import create_image_model, weights_digest
from transfer3d.weights.metadata import read_metadata

RANDOM = ("--weights", "none")
STAGES = ["stem", *(f"blocks.{n}" for n in range(4)), *(f"transitions.{n}" for n in range(3))]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["inflate", *map(str, arguments)])


def result_of(done):
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_account_and_proof_are_printed_and_kept(run, tmp_path):
    done = result_of(run("test_densenet", "--to", "t3d", *RANDOM, "--json"))
    assert done["proof"]["verdict"] == "proved"
    assert done["proof"]["difference"] <= 1e-5
    student = transfer3d.load(tmp_path / "t3d_tiny.safetensors")
    assert sorted(row["target"] for row in done["tensors"]) == sorted(student.state_dict())
    provenance = read_metadata(tmp_path / "t3d_tiny.safetensors").provenance
    assert provenance["proof"] == done["proof"]
    assert provenance["source_digest"] == weights_digest(create_image_model("test_densenet", "none"))
    text = run("test_densenet", "--to", "t3d", *RANDOM, "--force", "--account").stdout
    assert "features.denseblock1.denselayer1.conv1.weight" in text
    assert "proved" in text
    lines = run("test_densenet", "--to", "t3d", *RANDOM, "--force").stdout.splitlines()
    assert lines[0] == "test_densenet (weights none) -> t3d_tiny"
    stages = ["stem", *(f"{kind}.{n}" for n in range(4) for kind in ("blocks", "transitions"))][:-1]
    assert [line.split()[0] for line in lines[1:-3]] == [*sorted(stages, key=STAGES.index), "norm", "head"]
    numbers = [int(word) for line in lines[1:-3] for word in line.split()[1::2]]
    assert sum(numbers) == len(done["tensors"]) == int(lines[-3].split()[0])
    assert "proved" in lines[-2]
    assert lines[-1] == "wrote t3d_tiny.safetensors"


@pytest.mark.parametrize(
    "temporal_init, verdict, padding",
    [("center", "proved", "zeros"), ("mean", "proved", "replicate"), ("random", "nothing proved", "zeros")],
)
def test_temporal_init(run, temporal_init, verdict, padding):
    done = result_of(run("test_resnet", "--to", "r3d", *RANDOM, "--temporal-init", temporal_init, "--json"))
    assert (done["proof"]["verdict"], done["proof"]["temporal_padding"]) == (verdict, padding)
    assert done["temporal_init"] == temporal_init


@pytest.mark.parametrize("model, family", [("test_resnet", "p3d"), ("test_convnext2", "i3d")])
def test_flow_and_a_new_head(run, tmp_path, model, family):
    done = result_of(
        run(model, "--to", family, *RANDOM, "--in-chans", 2, "--num-classes", 7, "-o", "s", "--json")
    )
    assert done["proof"]["verdict"] == "proved"
    assert done["proof"]["logits_difference"] is None
    student = transfer3d.load(tmp_path / "s")
    assert (student.num_classes, len(student.clip.mean)) == (7, 2)


def test_weights_from_a_file_keep_their_head(run, tmp_path):
    net = create_image_model("test_resnet", "none", num_classes=11, seed=3)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    done = result_of(run("test_resnet", "--to", "p3d", "--weights", "net.safetensors", "--json"))
    assert done["num_classes"] == 11
    assert done["source_digest"] == weights_digest(net)
    assert done["proof"]["logits_difference"] is not None


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["test_densenet", "--to", "p3d", *RANDOM], 2, "test_densenet can be inflated to densenet3d, i3d"),
        (["xcit_nano_12_p16_224", "--to", "i3d", *RANDOM], 2, "has cross-covariance attention (Xcit)"),
        (["test_vit", "--to", "i3d", *RANDOM], 2, "test_vit can be inflated to timesformer, vivit"),
        (["test_resnet", "--to", "p3dd", *RANDOM], 2, "did you mean 'p3d'"),
        (["test_resnett", "--to", "p3d", *RANDOM], 2, "did you mean 'test_resnet'"),
        (["test_resnet.no_tag", "--to", "p3d", *RANDOM], 2, "timm has no weights 'test_resnet.no_tag'"),
        (["test_resnet", "--to", "p3d", *RANDOM, "--temporal-init", "centre"], 2, "'centre'"),
        (["test_densenet", "--to", "t3d"], 4, "timm has no pretrained weights for 'test_densenet'"),
    ],
)
def test_what_cannot_work_writes_nothing(run, tmp_path, arguments, code, message):
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept(run, tmp_path):
    (tmp_path / "p3d_tiny.safetensors").write_text("mine")
    done = run("test_resnet", "--to", "p3d", *RANDOM)
    assert done.exit_code == 2
    assert "--force" in done.output
    assert (tmp_path / "p3d_tiny.safetensors").read_text() == "mine"


@pytest.mark.parametrize("model, family", [("resnet50", "p3d"), ("googlenet", "i3d")])
def test_without_a_network_one_sentence_names_both_remedies(run, tmp_path, monkeypatch, model, family):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no network here")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)
    done = run(model, "--to", family)
    assert done.exit_code == 5, done.output
    message = " ".join(done.output.split())
    assert f"error: the weights of '{model}'" in message
    assert "--weights FILE" in message
    assert "--weights none" in message
    assert not list(tmp_path.glob("*.safetensors"))
