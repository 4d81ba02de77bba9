"""ONNX and torch.export: every family, other batches and lengths, and what is not written."""

import json
import sys

import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from sweeps import sweep
from torch import nn

import transfer3d
from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.export.agreement import compare, random_clips
from transfer3d.export.onnx import write_onnx
from transfer3d.export.program import METADATA_NAME, write_program
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models

FULL = ("p3d_resnet50", "v4d_resnet18", "t3d_densenet121")
OPEN_IN_TIME = ("i3ds", "v4d", "f4d")
FACTS = {"transfer3d.model": "x"}


@pytest.fixture
def student():
    """Makes a student whose BatchNorm and zero branches say something."""

    def make(name):
        made = create_model(name, num_classes=3, seed=1).eval()
        generator = torch.Generator().manual_seed(2)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
        for parameter in made.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, 0, 0.1, generator=generator)
        return made

    return make


@pytest.mark.parametrize("name", sweep(list_models("*_tiny"), ["p3d_tiny"]))
def test_onnx_of_every_family(name, student, tmp_path):
    made, path = student(name), tmp_path / "m.onnx"
    agreement = write_onnx(made, path, FACTS)
    assert agreement.difference < 1e-4
    assert agreement.open_axes == (("batch", "frames") if name.split("_")[0] in OPEN_IN_TIME else ("batch",))
    graph = onnx.load(path)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {entry.key: entry.value for entry in graph.metadata_props} == FACTS
    session = onnxruntime.InferenceSession(path)
    clips = random_clips(made, batch=5, more_frames=7 if "frames" in agreement.open_axes else 0, seed=9)
    (actual,) = session.run(["logits"], {"clips": clips.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(actual), made(clips), rtol=1e-4, atol=1e-4)


def quantised(file, made, folder):
    """How far onnxruntime's dynamic int8 is from a student, relative to its logits."""
    quantize_dynamic(file, folder / "q.onnx")
    clips = random_clips(made, batch=2, seed=9)
    (actual,) = onnxruntime.InferenceSession(folder / "q.onnx").run(["logits"], {"clips": clips.numpy()})
    with torch.no_grad():
        expected = made(clips)
    return (torch.from_numpy(actual) - expected).norm() / expected.norm()


@pytest.mark.slow
def test_onnxruntime_quantises_what_was_written(exported, tmp_path):
    assert quantised(exported / "m.onnx", transfer3d.load(exported / "s.safetensors"), tmp_path) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models("*_tiny"))
def test_onnxruntime_quantises_every_family(name, student, tmp_path):
    made = student(name)
    write_onnx(made, tmp_path / "m.onnx", FACTS)
    assert quantised(tmp_path / "m.onnx", made, tmp_path) < 0.3


@pytest.mark.proc
@pytest.mark.slow
@pytest.mark.parametrize("name", list_models("*_tiny"))
def test_torch_export_of_every_family(name, student, tmp_path):
    made, path = student(name), tmp_path / "m.pt2"
    agreement = write_program(made, path, FACTS)
    assert agreement.difference < 1e-4
    extra_files = {METADATA_NAME: ""}
    program = torch.export.load(path, extra_files=extra_files).module()
    assert json.loads(extra_files[METADATA_NAME]) == FACTS
    clips = random_clips(made, batch=5, seed=9)
    with torch.no_grad():
        torch.testing.assert_close(program(clips), made(clips), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.proc
@pytest.mark.parametrize("write, file", [(write_onnx, "m.onnx"), (write_program, "m.pt2")])
@pytest.mark.parametrize("name", FULL)
def test_full_size(name, write, file, tmp_path):
    assert write(create_model(name, seed=1).eval(), tmp_path / file, FACTS).difference < 1e-4


def test_another_ending_is_refused_before_anything_is_done(student, tmp_path):
    with pytest.raises(UsageError, match=r"end in \.pt2"):
        write_program(student("p3d_tiny"), tmp_path / "m.pt", FACTS)
    assert not list(tmp_path.iterdir())


def test_answers_that_differ_are_not_written(student, tmp_path, monkeypatch):
    made = student("p3d_tiny")
    monkeypatch.setattr(
        "transfer3d.export.program._run_alone", lambda file, clips: [made(clip) * 1.001 for clip in clips]
    )
    with pytest.raises(WeightsError, match=r"differ by 1\.0e-03"):
        write_program(made, tmp_path / "m.pt2", FACTS)
    assert not list(tmp_path.iterdir())


def test_answers_that_say_nothing_are_an_error(student):
    made = student("p3d_tiny")
    nn.init.zeros_(made.head.weight)
    nn.init.zeros_(made.head.bias)
    with pytest.raises(WeightsError, match="nothing to compare"):
        compare(made, lambda clips: [made(clip) for clip in clips], open_axes={0: "batch"})


def test_not_a_number_is_an_error(student):
    made = student("p3d_tiny")
    with pytest.raises(WeightsError, match="differ by nan"):
        compare(made, lambda clips: [made(clip) * float("nan") for clip in clips], open_axes={0: "batch"})


def test_without_the_extra(student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SetupError, match=r"pip install 'transfer3d\[export\]'"):
        write_onnx(student("p3d_tiny"), tmp_path / "m.onnx", FACTS)
    assert not list(tmp_path.iterdir())


@pytest.mark.proc
@pytest.mark.slow
def test_a_program_that_does_not_load_is_an_error(tmp_path, student):
    from transfer3d.export.program import _run_alone

    (tmp_path / "m.pt2").write_bytes(b"no program")
    with pytest.raises(WeightsError, match="does not run by itself"):
        _run_alone(tmp_path / "m.pt2", [torch.zeros(1)])
