"""ViViT and TimeSformer of Hugging Face's transformers, whose own modules and files are the oracle."""

import json

import pytest
import torch

import transfer3d
from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.import_state import import_state
from transfer3d.inflation.importers.transformers_videomae import sinusoids
from transfer3d.run.checkpoints.import_ import import_to_file
from transfer3d.weights.state_file import read_state

SHAPE = {
    "num_hidden_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "num_labels": 5,
}
NETS = {
    "transformers-vivit": (
        "Vivit",
        {"num_frames": 8, "tubelet_size": [2, 16, 16]},
        {"heads": "3", "frames": "8"},
    ),
    "transformers-timesformer": ("Timesformer", {"num_frames": 8, "patch_size": 16}, {"heads": "3"}),
    "transformers-videomae": (
        "VideoMAE",
        {"num_frames": 8, "patch_size": 16},
        {"heads": "3", "frames": "8", "size": "32"},
    ),
}


def released(kind):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    name, arguments, _ = NETS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SHAPE, **arguments)
    net = getattr(transformers, f"{name}ForVideoClassification")(config).eval()
    for parameter in net.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize("kind", NETS)
@torch.no_grad()
def test_the_student_answers_as_the_released_network(kind, tmp_path):
    net = released(kind)
    net.save_pretrained(tmp_path)
    state = read_state(tmp_path / "model.safetensors")
    done = import_state(kind, state, NETS[kind][2])
    clips = torch.randn(2, 3, 8, 32, 32)
    expected = net(clips.transpose(1, 2)).logits
    assert (done.student(clips) - expected).norm() <= 1e-5 * expected.norm()
    computed = ("pos_embed", "qkv.bias") if kind == "transformers-videomae" else ()
    ours = [p.numel() for n, p in done.student.named_parameters() if not n.endswith(computed)]
    theirs = [
        p.numel()
        for n, p in net.named_parameters()
        if not (computed and ".attention.attention." in n and n.endswith("bias"))
    ]
    assert sum(ours) == sum(theirs)
    counts = done.weight_report.counts()
    assert counts["fresh"] == counts["dropped"] == 0
    transfer3d.save(done.student, tmp_path / "student.safetensors")
    again = transfer3d.load(tmp_path / "student.safetensors")
    assert torch.equal(again(clips), done.student(clips))


@pytest.mark.parametrize("kind", NETS)
def test_a_file_that_lacks_a_tensor_is_refused(kind, tmp_path):
    net = released(kind)
    net.save_pretrained(tmp_path)
    whole = read_state(tmp_path / "model.safetensors")
    for name in (key for key in whole if ".0." in key or "embeddings" in key):
        part = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(WeightsError, match=r"not a|cannot be imported"):
            import_state(kind, part, NETS[kind][2])


def test_the_files_mean_and_std_are_those_beside_it(tmp_path):
    released("transformers-videomae").save_pretrained(tmp_path)
    facts = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    settings = [f"{name}={value}" for name, value in NETS["transformers-videomae"][2].items()]
    done = import_to_file(
        "transformers-videomae",
        tmp_path / "model.safetensors",
        tmp_path / "student.safetensors",
        settings=settings,
    )
    clip = transfer3d.load(done.path).clip
    assert (clip.mean, clip.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (clip.frames, clip.size) == (8, 32)


def test_positions_are_transformers_own_table():
    pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

    torch.testing.assert_close(sinusoids(40, 24), get_sinusoid_encoding_table(40, 24), rtol=0, atol=1e-6)
