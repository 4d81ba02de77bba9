"""preprocess.json: a program without transfer3d gets the scores of `predict`, and its formulas are ours."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from media import encode

import transfer3d
from transfer3d.data.sampling import action_units, centre_clip
from transfer3d.data.views import ViewPlan
from transfer3d.export.preprocessing import FIRST_FRAME, METADATA_KEY, preprocessing
from transfer3d.models.factory import create_model
from transfer3d.weights.metadata import read_metadata

NAMES = ["run", "jump", "sit"]
TOOL = Path(__file__).parents[2] / "tools" / "predict_with_onnx.py"
ALONE = f"""
import runpy, sys
sys.argv[0] = {str(TOOL)!r}
runpy.run_path(sys.argv[0])
assert not {{"transfer3d", "torch", "torchvision"}} & {{name.split(".")[0] for name in sys.modules}}
"""


def moving(frames, height, width):
    """Coarse noise that changes with every frame: another frame, another filter shows."""
    noise = np.random.default_rng(frames).integers(0, 255, (frames, height // 8 + 1, width // 8 + 1, 3))
    return np.kron(noise, np.ones((1, 8, 8, 1))).astype(np.uint8)[:, :height, :width]


@pytest.mark.proc
@pytest.mark.parametrize(
    "frames, height, width, options, within",
    [
        (32, 96, 130, {}, 5e-5),
        (20, 44, 66, {}, 5e-5),
        (9, 130, 70, {}, 5e-5),  # shorter than the clip
        (25, 96, 128, {"rotation": {"degrees": 90}}, 5e-5),
        (24, 96, 128, {"full_range": True}, 5e-5),
        (24, 34, 50, {}, 1e-3),  # scaled up, where torchvision's rounding of single levels differs
    ],
)
def test_a_program_without_transfer3d_gets_the_scores_of_predict(
    exported, tmp_path, frames, height, width, options, within
):
    video = tmp_path / "v.mp4"
    video.write_bytes(encode(moving(frames, height, width), **options))
    student = transfer3d.load(exported / "s.safetensors")
    (expected,) = transfer3d.predict(student, [video], clips=1, precision="fp32")
    files = (exported / "m.onnx", exported / "preprocess.json", video)
    command = [sys.executable, "-c", ALONE, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = dict(line.split("\t") for line in done.stdout.splitlines())
    assert set(scores) == set(NAMES)
    for name, probability in zip(expected.classes, expected.probabilities, strict=True):
        assert float(scores[name]) == pytest.approx(probability, abs=within)


def test_the_graph_says_what_the_file_beside_it_says(exported):
    props = {entry.key: entry.value for entry in onnx.load(exported / "m.onnx").metadata_props}
    sidecar = (exported / "preprocess.json").read_text()
    assert props[METADATA_KEY] == sidecar
    said = json.loads(sidecar)
    assert said["class_names"] == NAMES
    assert (said["frames"], said["stride"], said["span"]) == (8, 2, 15)
    assert (said["resize"]["short_side"], said["crop"]["size"]) == (40, 32)
    assert said["resize"]["antialias"] is True
    assert "logits" in said["output"]["note"]


@pytest.mark.proc
def test_the_probabilities_of_several_labels_a_video_are_those_of_predict_too(exported, tmp_path):
    student = transfer3d.load(exported / "s.safetensors")
    student.multi_label = True
    transfer3d.save(student, tmp_path / "several.safetensors", class_names=NAMES)
    sidecar = preprocessing(read_metadata(tmp_path / "several.safetensors"))
    (tmp_path / "preprocess.json").write_text(json.dumps(sidecar))
    (tmp_path / "v.mp4").write_bytes(encode(moving(32, 96, 130)))
    (expected,) = transfer3d.predict(student, [tmp_path / "v.mp4"], clips=1, precision="fp32")
    files = (exported / "m.onnx", tmp_path / "preprocess.json", tmp_path / "v.mp4")
    done = subprocess.run([sys.executable, "-c", ALONE, *map(str, files)], capture_output=True, text=True)
    scores = {name: float(score) for name, score in (line.split("\t") for line in done.stdout.splitlines())}
    assert scores == pytest.approx(dict(zip(expected.classes, expected.probabilities, strict=True)), abs=5e-5)
    assert sum(scores.values()) > 1.01


@pytest.mark.parametrize("length, stride", [(8, 2), (1, 1), (16, 4)])
def test_the_first_frame_is_ours(length, stride):
    span = (length - 1) * stride + 1
    for frames in range(1, 150):
        first = eval(FIRST_FRAME, {"N": frames, "span": span})
        assert first == centre_clip(frames, length=length, stride=stride)[0]


def test_the_first_frame_of_each_unit_is_ours(tmp_path):
    student = create_model("v4d_tiny", num_classes=3)
    transfer3d.save(student, tmp_path / "v.safetensors")
    said = preprocessing(read_metadata(tmp_path / "v.safetensors"))
    assert said["input"]["axes"] == "B U C T H W"
    clip = student.clip
    for frames in range(1, 300):
        units = action_units(frames, length=clip.frames, stride=clip.stride, units=clip.units)
        np.testing.assert_array_equal(ViewPlan().indices(frames, 25.0, clip)[0][0], units)
        named = {"N": frames, "span": said["span"], "units": said["units"]}
        firsts = [eval(said["first_frame"], {**named, "u": unit}) for unit in range(clip.units)]
        assert firsts == units[:, 0].tolist()


def test_an_exact_size_is_said(tmp_path):
    clip = replace(create_model("p3d_tiny", num_classes=3).clip, crop=(40, 56))
    transfer3d.save(create_model("p3d_tiny", num_classes=3, clip=clip), tmp_path / "s.safetensors")
    resize = preprocessing(read_metadata(tmp_path / "s.safetensors"))["resize"]
    assert (resize["height"], resize["width"]) == (40, 56)
    assert "short_side" not in resize
    assert "short side of 56" in resize["scaled_down"]
