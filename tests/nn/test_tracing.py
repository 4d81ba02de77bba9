"""Students recorded by `torch.jit.trace`, or converted by OpenVINO, answer as before."""

import pytest
import torch

import transfer3d

FAST = ("p3d_tiny", "v4d_tiny", "densenet3d_tiny", "vivit_tiny")


@pytest.mark.parametrize("grad", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize(
    "name",
    [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in transfer3d.list_models("*_tiny")
    ],
)
def test_a_trace_of_a_student_answers_alike(name, grad, tmp_path):
    student = transfer3d.create_model(name, num_classes=5).eval()
    clips = torch.randn(student.clip.shape(2), generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(student, clips)  # checks itself in the other mode too
    torch.jit.save(traced, tmp_path / "student.pt")
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "student.pt")(clips), student(clips))


@pytest.mark.parametrize("name", FAST)
def test_openvino_converts_the_module_itself(name):
    openvino = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    student = transfer3d.create_model(name, num_classes=5).eval()
    clips = torch.randn(student.clip.shape(2), generator=torch.Generator().manual_seed(0))
    converted = openvino.convert_model(student, example_input=clips)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = torch.from_numpy(openvino.compile_model(converted, "CPU", exact)(clips.numpy())[0])
    with torch.no_grad():
        torch.testing.assert_close(found, student(clips), rtol=1e-4, atol=1e-5)
