"""Exports a student to ONNX, for onnxruntime and other readers (needs the `export` extra)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfer3d.export.agreement import Agreement, Runner, compare
from transfer3d.export.extras import import_extra
from transfer3d.export.program import trace
from transfer3d.files import atomic_path
from transfer3d.models.student import VideoStudent


def write_onnx(student: VideoStudent, path: Path, metadata: Mapping[str, str]) -> Agreement:
    """Writes a student as one ONNX file, after checking onnxruntime's outputs.

    The graph's input is `clips`, its output `logits`. onnxruntime's `quantize_dynamic` accepts the file.

    Args:
        student: on the CPU, in fp32.
        path: path of the file.
        metadata: strings for the file's metadata.

    Raises:
        SetupError: the `export` extra is not installed.
        WeightsError: the outputs differ; no file is written.
    """
    import_extra("onnxruntime", "ONNX", "export")
    with atomic_path(path) as partial:
        open_axes = save_graph(student, partial, metadata)
        return compare(student, onnxruntime_runner(partial), open_axes=open_axes)


def save_graph(student: VideoStudent, path: Path, metadata: Mapping[str, str]) -> dict[int, str]:
    """Writes a student as one ONNX file, unchecked, and returns the input axes with dynamic size, by name.

    Raises:
        SetupError: the `export` extra is not installed.
    """
    onnx = import_extra("onnx", "ONNX", "export")
    import_extra("onnxscript", "ONNX", "export")  # torch's exporter needs it; its own message is less clear
    graph = trace(student)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own internal calls
        onnx_program = torch.onnx.export(
            graph.program,
            (),
            input_names=["clips"],
            output_names=["logits"],
            dynamic_shapes=(dict(graph.open_axes),),
            dynamo=True,
            verbose=False,
        )
    if onnx_program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    onnx_program.model.metadata_props.update(metadata)
    model = onnx_program.model_proto
    _drop_shapes_of_initialisers(model.graph)
    onnx.save(model, path)
    return graph.open_axes


def onnxruntime_runner(path: Path) -> Runner:
    """Returns a function that runs a file with onnxruntime on the CPU."""
    onnxruntime = import_extra("onnxruntime", "ONNX", "export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(clips: list[Tensor]) -> list[Tensor]:
        return [torch.from_numpy(session.run(None, {"clips": tensor.numpy()})[0]) for tensor in clips]

    return run


def _drop_shapes_of_initialisers(graph: Any) -> None:
    """Removes the recorded shapes of the graph's initialisers.

    onnxruntime's quantisation transposes some initialisers but keeps their old recorded shapes.
    """
    named = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in named]
    del graph.value_info[:]
    graph.value_info.extend(kept)
