"""P3D-63 and DenseNet3D-121 against plain code of the same networks, V4D against its literal algorithm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison, relative_difference
from transfer3d.bench.paired import Run
from transfer3d.bench.subprocess_runner import in_subprocess_on_cpu
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.errors import SetupError
from transfer3d.models.combinations import combination_scores
from transfer3d.models.factory import create_model
from transfer3d.models.fuse import fuse
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.resnet3d import ResNet3d
from transfer3d.models.trunks.trunk import run
from transfer3d.nn.memory_format import to_channels_last
from transfer3d.nn.residual4d import Residual4d

CLASSES = 101
CLIPS = (4, 3, 16, 160, 160)
DENSE_CLIPS = (2, 3, 16, 112, 112)
PLAIN = "plain fp32 code"
UNITS, SECTIONS = 10, 4


def network_cases() -> Iterator[Case]:
    """Yields the cases."""
    for ours, phase, at_least, build in (
        ("fp32, channels last", "forward", 1.5, _inference("fp32")),
        ("bf16, channels last", "forward", 2.5, _inference("bf16")),
        ("bf16, fused, compiled", "forward", 3.3, _inference("compiled")),
        ("bf16, channels last, memory kept", "step", 2.8, _training(bf16=True)),
        ("fp32, channels last, memory kept", "step", 1.05, _training(bf16=False)),
    ):
        name = "P3D-63, 4 clips of 16x160x160"
        yield Case(name=name, phase=phase, ours=ours, baseline=PLAIN, at_least=at_least, build=build)
    yield Case(
        name="DenseNet3D-121, 2 clips of 16x112x112",
        phase="step",
        ours="fp32, channels last, memory kept",
        baseline=PLAIN,
        at_least=1.05,
        build=_training(bf16=False, name="densenet3d_densenet121"),
    )
    yield Case(
        name=f"Algorithm 1, V4D-18, {UNITS} units of 4x224x224, {SECTIONS} sections",
        phase="forward",
        ours="each neighbourhood once",
        baseline="one by one",
        at_least=1 / 0.6,
        build=_combinations,
    )


def plain_pair(device: torch.device, name: str = "p3d63") -> tuple[VideoStudent, nn.Module, Tensor]:
    """Returns P3D-63 or DenseNet3D-121, its plain form with the same weights, and clips."""
    ours = create_model(name, num_classes=CLASSES).to(device)
    if name == "p3d63":
        plain, shape = load_baseline("p3d_plain").PlainP3D63(CLASSES), CLIPS
    else:
        plain, shape = load_baseline("densenet3d_plain").PlainDenseNet3D121(CLASSES), DENSE_CLIPS
    plain = plain.to(device)
    values = ours.state_dict().values()
    plain.load_state_dict(dict(zip(plain.state_dict(), values, strict=True)), strict=True)
    return ours, plain, torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(0))


def _low(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16)


def _inference(how: str) -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        student, plain, contiguous = plain_pair(device)
        student.eval()
        plain.eval()
        clips = contiguous.to(memory_format=torch.channels_last_3d)
        net: Callable[[Tensor], Tensor] = student
        if how == "compiled":
            if device.type == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
                raise SetupError("torch.compile needs a C++ compiler: install g++ or clang++.")
            student = fuse(student).bfloat16()
            net = torch.compile(student, options={"freezing": True})
        to_channels_last(student)
        input_clips = clips.bfloat16() if how == "compiled" else clips

        @torch.no_grad()
        def ours() -> Tensor:
            with _low(device) if how == "bf16" else nullcontext():
                return net(input_clips)

        @torch.no_grad()
        def baseline() -> Tensor:
            return plain(contiguous)

        return Comparison(
            ours=ours, baseline=baseline, difference=lambda: relative_difference(ours().float(), baseline())
        )

    return build


def _training(*, bf16: bool, name: str = "p3d63") -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        student, _, clips = plain_pair(device, name)
        to_channels_last(student)
        keep_freed_memory()
        return Comparison(
            ours=training_step(student, clips.to(memory_format=torch.channels_last_3d), bf16=bf16),
            baseline=in_subprocess_on_cpu(device, _plain_training, device, name),
        )

    return build


def _plain_training(device: torch.device, name: str) -> Run:
    _, plain, clips = plain_pair(device, name)
    return training_step(plain, clips, bf16=False)


def training_step(net: nn.Module, clips: Tensor, *, bf16: bool) -> Run:
    """Returns a function that takes one step of SGD with momentum on `clips`."""
    net.train()
    labels = torch.arange(len(clips), device=clips.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with _low(clips.device) if bf16 else nullcontext():
            logits = net(clips)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def _combinations(device: torch.device) -> Comparison:
    student = create_model("v4d_resnet18").to(device).eval()
    for module in student.modules():
        if isinstance(module, Residual4d) and module.scale is not None:
            nn.init.ones_(module.scale.weight)  # as after training; a new block is the identity
    clip = student.clip
    shape = (UNITS, 3, clip.frames, clip.size, clip.size)
    units = torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(0))
    trunk = student.trunk
    assert isinstance(trunk, ResNet3d)
    steps = trunk.steps()
    first = next(index for index, (_, step) in enumerate(steps) if isinstance(step, Residual4d))

    def front(units: Tensor) -> Tensor:
        return run(units, steps[:first])

    def rest(maps: Tensor) -> Tensor:
        maps = run(maps, steps[first:], SECTIONS)
        return student.forward_head(maps.transpose(0, 1).flatten(1, 2)[None])

    loop = load_baseline("combinations_loop").combinations_loop

    def ours() -> Tensor:
        return combination_scores(student, units[None], train_units=SECTIONS)

    def baseline() -> Tensor:
        return loop(front, rest, units, SECTIONS)

    return Comparison(
        ours=ours, baseline=baseline, difference=lambda: relative_difference(ours(), baseline())
    )
