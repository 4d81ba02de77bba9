"""Exports a student by torch.export, with dynamic batch size and, if the family allows it, dynamic T."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from transfer3d.errors import UsageError, WeightsError
from transfer3d.export.agreement import Agreement, compare, random_clips
from transfer3d.files import atomic_path
from transfer3d.models.student import VideoStudent
from transfer3d.scratch import scratch_folder

MAX_DYNAMIC_SIZE = 4096
SUFFIX = ".pt2"
METADATA_NAME = "transfer3d.json"

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
"""A script that runs the file without importing transfer3d."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A traced student.

    Attributes:
        program: maps clips to logits.
        open_axes: the input axes with dynamic size, by name.
    """

    program: ExportedProgram
    open_axes: dict[int, str]


@torch.no_grad()
def trace(student: VideoStudent) -> Graph:
    """Traces a student in eval mode.

    The batch size is dynamic, and T too if the student never strides it and has no temporal positions: layers
    that halve T are traced for one length only.
    """
    clips = random_clips(student.eval(), batch=2)
    frames_axis = clips.ndim - 3
    open_axes = {0: "batch"}
    steps = student.forward_features(clips).shape[2]
    if student.trunk.exports_any_length and steps == clips.shape[frames_axis] * student.clip.units:
        open_axes[frames_axis] = "frames"
    shapes = {
        axis: Dim(name, min=1 if axis == 0 else 2, max=MAX_DYNAMIC_SIZE) for axis, name in open_axes.items()
    }
    program = torch.export.export(student, (clips,), dynamic_shapes=(shapes,), strict=False)
    _forget_source_lines(program.graph_module)
    return Graph(program=program, open_axes=open_axes)


def _forget_source_lines(module: GraphModule) -> None:
    """Removes the paths of local source files, which torch records for every operation."""
    for part in module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)


def write_program(student: VideoStudent, path: Path, metadata: Mapping[str, str]) -> Agreement:
    """Writes a student for `torch.export.load`, after checking its outputs in a process without transfer3d.

    Args:
        student: on the CPU, in fp32.
        path: path of the file, which ends in `.pt2`.
        metadata: strings to store in the file as `transfer3d.json`.

    Raises:
        UsageError: the file does not end in `.pt2`.
        WeightsError: the outputs differ, or the program fails; no file is written.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: torch.export only reads file names that end in {SUFFIX}: use such a name.")
    graph = trace(student)
    with atomic_path(path) as partial:
        buffer, extra = io.BytesIO(), {METADATA_NAME: json.dumps(dict(metadata))}
        torch.export.save(graph.program, buffer, extra_files=extra)
        partial.write_bytes(buffer.getbuffer())  # on a full disk torch raises RuntimeError, not OSError
        return compare(student, lambda clips: _run_alone(partial, clips), open_axes=graph.open_axes)


def _run_alone(file: Path, clips: list[Tensor]) -> list[Tensor]:
    with scratch_folder() as folder:
        inputs, outputs = folder / "clips.safetensors", folder / "logits.safetensors"
        save_file({str(index): tensor for index, tensor in enumerate(clips)}, inputs)
        command = [sys.executable, "-I", "-c", RUN_ALONE, str(file), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise WeightsError(f"the exported program does not run by itself: {lines[-1]}.")
        logits = load_file(outputs)
        return [logits[str(index)] for index in range(len(clips))]
