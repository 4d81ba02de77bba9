"""What a GPU answers, held against the CPU; skipped where there is none."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import transfer3d
from transfer3d.batch import ClipBatch
from transfer3d.engine.config import GpuConfig
from transfer3d.engine.prefetch import prefetched
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models
from transfer3d.nn.conv4d import conv4d

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

TINY = list_models("*_tiny")
STEPS = ["--set", "max_steps=6", "--set", "batch_size=16", "--set", "save_every=2", "--set", "log_every=1"]


@pytest.fixture(autouse=True)
def exact_products():
    """Without TF32, which rounds inputs to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def clips_for(student):
    units = (student.clip.units,) if student.clip.units > 1 else ()
    return torch.randn(2, *units, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", TINY)
def test_a_student_answers_and_learns_as_on_the_cpu(name):
    answers, gradients = [], []
    for device in ("cpu", "cuda"):
        student = create_model(name, num_classes=5).to(device).train()
        logits = student(clips_for(student).to(device))
        torch.nn.functional.cross_entropy(logits, torch.tensor([1, 3], device=device)).backward()
        answers.append(logits.detach().cpu())
        head = student.head.weight.grad
        assert head is not None
        gradients.append(head.cpu())
    torch.testing.assert_close(*answers, rtol=2e-3, atol=2e-4)
    torch.testing.assert_close(*gradients, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("kernel", [(3, 1, 1, 1), (3, 3, 1, 1), (3, 3, 3, 3)])
def test_conv4d_is_equation_1(kernel):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 4, 5, 6, dtype=torch.float64, generator=random)
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64, generator=random)
    padding = [extent // 2 for extent in reversed(kernel) for _ in range(2)]
    padded = torch.nn.functional.pad(x, padding)
    wanted = torch.zeros(2, 4, 4, 4, 5, 6, dtype=torch.float64)
    for tap in itertools.product(*map(range, kernel)):
        window = padded[(..., *(slice(at, at + size) for at, size in zip(tap, x.shape[2:], strict=True)))]
        wanted += torch.einsum("oc,bcuthw->bouthw", weight[(..., *tap)], window)
    torch.testing.assert_close(conv4d(x.cuda(), weight.cuda()).cpu(), wanted, rtol=0, atol=1e-11)


KILL_IN_STEP_4 = f"""
import signal, sys
sys.path.append({str(Path(__file__).parents[1])!r})
from pair import signal_in_step
signal_in_step(4, signal.SIGKILL)
"""


def command(*arguments, gpu=True, before=""):
    """Runs a command in a process of its own, behind other Python code."""
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"} | ({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})
    code = f"{before}\nfrom transfer3d.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True, timeout=200,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def run(*arguments, gpu=True):
    done = command(*arguments, gpu=gpu)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits_folder):
    """Correspondence, then labels, by the commands and on the GPU."""
    root, data = tmp_path_factory.mktemp("gpu"), digits_folder / "shards"
    options = ["--data", data, "--seed", 1, *STEPS]
    run(
        "correspond", "--recipe", "demo/tiny-correspond", "--weights", "none", "-o", root / "taught", *options
    )
    taught = root / "taught" / "model.safetensors"
    run("finetune", taught, "--recipe", "demo/tiny-finetune", "-o", root / "tuned", *options)
    return root, data


def test_both_trainings_log_finite_losses(trained):
    root, _ = trained
    for name in ("taught", "tuned"):
        rows = [json.loads(line) for line in (root / name / "metrics.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in rows if "loss" in row]
        assert len(losses) >= 6
        assert torch.tensor(losses).isfinite().all()


def test_evaluation_gives_the_scores_of_the_cpu(trained):
    root, data = trained
    student, model = transfer3d.load(root / "tuned" / "model.safetensors"), root / "sure.safetensors"
    student.head.weight.data *= 40  # after six steps all videos have nearly the same scores
    transfer3d.save(student, model, class_names=json.loads((data / "index.json").read_text())["classes"])
    scores = []
    for gpu in (True, False):
        out = root / f"report-{gpu}.json"
        run("evaluate", model, "--data", data, "--clips", 2, "--precision", "fp32", "-o", out, gpu=gpu)
        scores.append(load_file(out.with_suffix(".scores.safetensors"))["views"])
    assert scores[0].std(0).mean() > 0.01  # another video's would not do
    torch.testing.assert_close(*scores, rtol=1e-2, atol=1e-3)


def test_a_killed_run_goes_on_near_to_where_an_undisturbed_one_ends(trained, tmp_path):
    _, data = trained
    options = ["--recipe", "demo/tiny-finetune", "--data", data, "--seed", 1, "--precision", "fp32", *STEPS]
    run("finetune", "p3d_tiny", *options, "-o", tmp_path / "straight")
    killed = command("finetune", "p3d_tiny", *options, "-o", tmp_path / "killed", before=KILL_IN_STEP_4)
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    assert not (tmp_path / "killed" / "finished.json").exists()
    said = run("finetune", "p3d_tiny", *options, "-o", tmp_path / "killed", "--resume")
    assert "resuming at step 2" in said
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-2, atol=1e-3, msg=name)


def some_batches(count):
    random = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (count, 4, 3, 8, 32, 32), dtype=torch.uint8, generator=random)
    return [ClipBatch(clips_u8, torch.arange(4), [*"abcd"], [*"abcd"]) for clips_u8 in clips]


def test_prefetched_batches_are_those_that_were_given():
    given, found = some_batches(5), []
    for batch in prefetched(iter(given), torch.device("cuda")):
        assert batch.clips.is_cuda
        found.append(batch.clips.clone())
        torch.mm(*torch.randn(2, 2048, 2048, device="cuda"))  # work, while the next one is copied
    for clips, batch in zip(found, given, strict=True):
        assert torch.equal(clips.cpu(), batch.clips)


def test_a_run_with_every_switch_learns_as_one_with_none():
    ends = []
    for gpu in (GpuConfig(), GpuConfig(convolutions="2d", prefetch=True, fused_optimizer=True)):
        student = create_model("p3d_tiny", num_classes=4, seed=1)
        config = transfer3d.TrainerConfig(steps=3, lr=0.01, precision="fp32", gpu=gpu)
        objective, batches = transfer3d.Classification(student), some_batches(3)
        transfer3d.Trainer(objective, lambda first, batches=batches: batches[first:], config).run()
        ends.append({name: value.cpu() for name, value in student.state_dict().items()})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=2e-3, atol=2e-4, msg=name)
