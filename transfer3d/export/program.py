"""torch.export: a student as one graph, with the batch left open, and the frames where the family allows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.export import Dim, ExportedProgram

from transfer3d.errors import UsageError, WeightsError
from transfer3d.export.agreement import Agreement, compare, random_clips
from transfer3d.files import atomic_path
from transfer3d.models.student import VideoStudent

MOST = 4096
SUFFIX = ".pt2"
FACTS_NAME = "transfer3d.json"

RUN_ALONE = """
import sys
import torch
from safetensors.torch import load_file, save_file

program = torch.export.load(sys.argv[1]).module()
clips = load_file(sys.argv[2])
with torch.no_grad():
    save_file({name: program(tensor).contiguous() for name, tensor in clips.items()}, sys.argv[3])
assert not any(name.split(".")[0] == "transfer3d" for name in sys.modules)
"""
"""What another program does with the file: nothing of ours is imported."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A traced student.

    Attributes:
        program: takes clips, gives logits.
        open_axes: axes of the input that may have any size, by name.
    """

    program: ExportedProgram
    open_axes: dict[int, str]


@torch.no_grad()
def trace(student: VideoStudent) -> Graph:
    """Traces a student in eval mode.

    The batch is left open, and T where the student never strides it: elsewhere the layers that halve T are
    others for other lengths.
    """
    clips = random_clips(student, batch=2)
    frames_axis = clips.ndim - 3
    open_axes = {0: "batch"}
    if student.forward_features(clips).shape[2] == clips.shape[frames_axis] * student.clip.units:
        open_axes[frames_axis] = "frames"
    shapes = {axis: Dim(name, min=1 if axis == 0 else 2, max=MOST) for axis, name in open_axes.items()}
    program = torch.export.export(student.eval(), (clips,), dynamic_shapes=(shapes,), strict=False)
    return Graph(program=program, open_axes=open_axes)


def write_program(student: VideoStudent, path: Path, facts: Mapping[str, str]) -> Agreement:
    """Writes a student for `torch.export.load`, once a process without transfer3d gets the same answers.

    Args:
        student: on the CPU, in fp32.
        path: of the file, which ends in `.pt2`.
        facts: strings that the file is to hold, as `transfer3d.json`.

    Raises:
        UsageError: the file has another ending.
        WeightsError: the answers differ, or there are none; no file is written.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: torch.export reads and writes files that end in {SUFFIX}: name it so.")
    graph = trace(student)
    with atomic_path(path) as partial:
        whole, extra = io.BytesIO(), {FACTS_NAME: json.dumps(dict(facts))}
        torch.export.save(graph.program, whole, extra_files=extra)
        partial.write_bytes(whole.getbuffer())  # torch itself says of a full disk that it is a RuntimeError
        return compare(student, lambda clips: _run_alone(partial, clips), open_axes=graph.open_axes)


def _run_alone(file: Path, clips: list[Tensor]) -> list[Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder) / "clips.safetensors", Path(folder) / "logits.safetensors"
        save_file({str(index): tensor for index, tensor in enumerate(clips)}, given)
        command = [sys.executable, "-I", "-c", RUN_ALONE, str(file), str(given), str(got)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise WeightsError(f"the exported program does not run by itself: {said[-1:]}.")
        found = load_file(got)
        return [found[str(index)] for index in range(len(clips))]
