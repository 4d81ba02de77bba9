"""Image models of Hugging Face's transformers as teachers: its own modules are the oracle."""

import json
import sys

import pytest
import torch
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.models.factory import create_model
from transfer3d.models.transformers_image import create_transformers_image
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.teacher import FrozenTeacher

SHAPE = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 64}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
KINDS = {
    "ViT": ({**SHAPE, "image_size": 64, "patch_size": 16}, "ViTModel"),
    "Dinov2": ({**SHAPE, "image_size": 70, "patch_size": 14, "mlp_ratio": 2}, "Dinov2Model"),
    "DINOv3ViT": ({**SHAPE, "image_size": 64, "patch_size": 16, "num_register_tokens": 2}, "DINOv3ViTModel"),
    "SiglipVision": ({**SHAPE, "image_size": 64, "patch_size": 16}, "SiglipVisionModel"),
    "CLIPVision": ({**SHAPE, "image_size": 64, "patch_size": 16}, "CLIPVisionModel"),
    "ResNet": ({"embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 1, 1]}, "ResNetModel"),
}


def facts(folder, **entries):
    content = {"image_mean": MEAN, "image_std": STD, "crop_size": {"height": 64, "width": 64}, **entries}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))


def written(folder, kind="ViT", model=None):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    arguments, name = KINDS[kind]
    torch.manual_seed(0)
    net = getattr(transformers, model or name)(getattr(transformers, f"{kind}Config")(**arguments)).eval()
    net.save_pretrained(folder, safe_serialization=True)
    facts(folder)
    return net


def written_as(folder, key, value):
    """A ViT whose configuration says something else."""
    written(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_maps_are_transformers_own(kind, tmp_path):
    net = written(tmp_path, kind)
    teacher = FrozenTeacher(create_transformers_image(f"hf:{tmp_path}"))
    size = KINDS[kind][0].get("image_size", 64)
    assert teacher.own_size == size
    torch.manual_seed(1)
    clips = torch.randint(0, 256, (2, 3, 2, size, size), dtype=torch.uint8)
    found = teacher(clips, [0, len(teacher.layer_features) - 1])
    for b in range(2):
        frames = clips[b].movedim(1, 0) / 255
        frames = (frames - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        with torch.no_grad():
            expected = net(pixel_values=frames, output_hidden_states=True)
        pooled = expected.pooler_output.flatten(1).mean(0)
        torch.testing.assert_close(found.features[b], pooled, rtol=1e-4, atol=1e-5)
        for maps, own in zip(
            found.maps, (expected.hidden_states[1], expected.last_hidden_state), strict=True
        ):
            if own.ndim == 3:  # the patches, row by row, are the last tokens
                side = size // KINDS[kind][0]["patch_size"]
                own = own[:, -side * side :].unflatten(1, (side, side)).movedim(-1, 1)
            torch.testing.assert_close(maps[b].transpose(0, 1), own, rtol=1e-4, atol=1e-5)
    student = create_model("p3d_tiny", num_classes=0, seed=0)
    objective = Correspondence(teacher, student, CorrespondenceConfig(match=0, dense=1, dense_layers=2))
    assert len(objective.dense.guesses) == 2


def test_a_pooled_feature_whose_weights_are_missing_is_not_used(tmp_path):
    """A classifier's file has no pooler: the class token takes its place, not random weights."""
    net = written(tmp_path, model="ViTForImageClassification")
    teacher = FrozenTeacher(create_transformers_image(f"hf:{tmp_path}"))
    clips = torch.randint(0, 256, (1, 3, 1, 64, 64), dtype=torch.uint8)
    frame = (clips[:, :, 0] / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = net.vit(pixel_values=frame).last_hidden_state[:, 0]
    torch.testing.assert_close(teacher(clips).features, expected, rtol=1e-4, atol=1e-5)


def test_what_is_refused(tmp_path, monkeypatch):
    net = written(tmp_path)
    address = f"hf:{tmp_path}"
    facts(tmp_path, image_mean=[0.5])
    with pytest.raises(WeightsError, match="no image_mean of three channels"):
        create_transformers_image(address)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"no preprocessor_config\.json there"):
        create_transformers_image(address)
    facts(tmp_path)
    state = {name: t for name, t in net.state_dict().items() if "layernorm_before" not in name}
    from safetensors.torch import save_file

    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="6 of its weights are not in the file"):
        create_transformers_image(address)
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"no model\.safetensors there"):
        create_transformers_image(address)
    with pytest.raises(UsageError, match="write hf:org/name@revision"):
        create_transformers_image("hf:one/two/three")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SetupError, match=r"pip install 'transfer3d\[transformers\]'"):
        create_transformers_image(address)


def test_correspond_learns_from_it(tmp_path, digits_folder):
    written(tmp_path / "teacher")
    done = CliRunner().invoke(
        app,
        ["correspond", "--teacher", f"hf:{tmp_path / 'teacher'}", "--student", "p3d_tiny", "--workers", "0",
         "--data", str(digits_folder), "-o", str(tmp_path / "run"), "--set", "max_steps=2",
         "--set", "batch_size=4", "--set", "correspondence.dense=1", "--set", "correspondence.match=0",
         "--set", "clip.frames=4", "--set", "clip.size=32"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "(weights: its own)" in done.output
    transfer3d.load(tmp_path / "run" / "model.safetensors")


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 10**9), ("hidden_size", 10**12)])
def test_a_configuration_that_is_larger_than_its_weights_is_refused_at_once(key, value, tmp_path):
    written_as(tmp_path, key, value)
    with pytest.raises(WeightsError, match=rf"{key} = 1e\+\d+ in config.json, for \d+ tensors"):
        create_transformers_image(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("key", "odd"),
    [("patch_size", 0), ("patch_size", []), ("num_attention_heads", 0), ("num_attention_heads", "x"),
     ("hidden_size", 0), ("hidden_act", None), ("image_size", [0]), ("dtype", [[1]]), ("model_type", [])],
)  # fmt: skip
def test_odd_values_of_a_configuration_are_refused_in_a_sentence(key, odd, tmp_path):
    written_as(tmp_path, key, odd)
    with pytest.raises(WeightsError, match=rf"hf:{tmp_path}: [^\n]*$"):
        create_transformers_image(f"hf:{tmp_path}")


@pytest.mark.parametrize("key", ["intermediate_size", "pooler_output_size"])
def test_a_network_that_is_wider_than_its_weights_takes_no_memory(key, tmp_path):
    written_as(tmp_path, key, 10**7)
    with pytest.raises(
        WeightsError, match=r"config.json describes [\d,]{11,} weights, its file has [\d,]{6,7}\."
    ):
        create_transformers_image(f"hf:{tmp_path}")
