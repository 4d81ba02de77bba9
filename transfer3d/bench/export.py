"""Benchmarks of deployment: torch, ONNX and OpenVINO against plain torch in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfer3d.bench.case import Case, Comparison, relative_difference
from transfer3d.export.agreement import Runner, random_clips
from transfer3d.export.extras import import_extra
from transfer3d.export.onnx import onnxruntime_runner, write_onnx
from transfer3d.export.openvino import compiled, convert, quantise
from transfer3d.models.fuse import fuse
from transfer3d.models.student import VideoStudent
from transfer3d.nn.memory_format import to_channels_last

BASELINE = "torch, fp32"
CALIBRATION = 4
"""Number of random calibration clips: int8's speed does not depend on its ranges."""


class _Exports:
    """The files and graphs of one student, each created on first use.

    Args:
        student: in eval mode, on the CPU.
        folder: for the files.
    """

    def __init__(self, student: VideoStudent, folder: Path) -> None:
        self.student, self._folder = student, folder

    @cached_property
    def onnx(self) -> Path:
        path = self._folder / "model.onnx"
        write_onnx(self.student, path, {})
        return path

    @cached_property
    def dynamic_int8(self) -> Path:
        path = self._folder / "dynamic.onnx"
        import_extra("onnxruntime.quantization", "int8", "export").quantize_dynamic(self.onnx, path)
        return path

    @cached_property
    def openvino(self) -> Any:
        return convert(self.student)[0]

    @cached_property
    def openvino_int8(self) -> Any:
        clips = [random_clips(self.student, batch=1, seed=seed) for seed in range(CALIBRATION)]
        return quantise(self.openvino, clips)

    def fused_bf16(self) -> Runner:
        quick = fuse(self.student).bfloat16()
        to_channels_last(quick)

        def run(clips: list[Tensor]) -> list[Tensor]:
            return [quick(clip.bfloat16()).float() for clip in clips]

        return run


def export_cases(student: VideoStudent, folder: Path) -> Iterator[Case]:
    """Yields the cases: each runtime with one clip of a student, against torch in fp32.

    Args:
        student: in eval mode, on the CPU.
        folder: for the exported files.
    """
    exports = _Exports(student, folder)
    clip = random_clips(student, batch=1, seed=CALIBRATION)
    name = f"{student.model_name}, one clip of {'x'.join(map(str, clip.shape[1:]))}"
    ways: tuple[tuple[str, Callable[[], Runner]], ...] = (
        ("torch, fused, bf16", exports.fused_bf16),
        ("onnxruntime, fp32", lambda: onnxruntime_runner(exports.onnx)),
        ("onnxruntime, dynamic int8", lambda: onnxruntime_runner(exports.dynamic_int8)),
        ("openvino, fp32", lambda: compiled(exports.openvino, precision="f32")),
        ("openvino, the CPU's precision", lambda: compiled(exports.openvino, precision="auto")),
        ("openvino, int8", lambda: compiled(exports.openvino_int8, precision="auto")),
    )
    for ours, make in ways:
        yield Case(
            name=name,
            phase="forward",
            ours=ours,
            baseline=BASELINE,
            at_least=None,
            build=_comparison(student, clip, make),
        )


def _comparison(
    student: VideoStudent, clip: Tensor, make: Callable[[], Runner]
) -> Callable[[torch.device], Comparison]:
    def build(_: torch.device) -> Comparison:
        run = make()

        @torch.no_grad()
        def ours() -> Tensor:
            return run([clip])[0]

        @torch.no_grad()
        def baseline() -> Tensor:
            return student(clip)

        return Comparison(
            ours=ours, baseline=baseline, difference=lambda: relative_difference(ours(), baseline())
        )

    return build
