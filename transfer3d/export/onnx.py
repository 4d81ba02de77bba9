"""Exports a student to ONNX, for onnxruntime and other readers (needs the `export` extra)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfer3d.errors import SetupError
from transfer3d.export.agreement import Agreement, compare
from transfer3d.export.program import trace
from transfer3d.files import atomic_path
from transfer3d.models.student import VideoStudent


def write_onnx(student: VideoStudent, path: Path, metadata: Mapping[str, str]) -> Agreement:
    """Writes a student as one ONNX file, after onnxruntime has given the same outputs.

    The graph's input is `clips`, its output `logits`. onnxruntime's `quantize_dynamic` takes the file.

    Args:
        student: on the CPU, in fp32.
        path: of the file.
        metadata: strings for the file's metadata.

    Raises:
        SetupError: the `export` extra is not installed.
        WeightsError: the outputs differ; no file is written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - needed by torch's exporter, whose own message is less clear
    except ImportError as error:
        raise SetupError(
            f"ONNX needs {error.name}: install it with `pip install 'transfer3d[export]'`."
        ) from error
    graph = trace(student)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internal calls
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

    def run(clips: list[Tensor]) -> list[Tensor]:
        session = onnxruntime.InferenceSession(partial, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(session.run(None, {"clips": tensor.numpy()})[0]) for tensor in clips]

    with atomic_path(path) as partial:
        onnx.save(model, partial)
        return compare(student, run, open_axes=graph.open_axes)


def _drop_shapes_of_initialisers(graph: Any) -> None:
    """Drops what the graph says of its initialisers besides themselves.

    onnxruntime's quantisation transposes some and leaves these old shapes, which then contradict the new.
    """
    named = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in named]
    del graph.value_info[:]
    graph.value_info.extend(kept)
