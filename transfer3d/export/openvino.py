"""Exports a student to OpenVINO, in fp32 or in int8 (needs the `openvino` extra)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfer3d.errors import UsageError
from transfer3d.export.agreement import Agreement, Runner, compare
from transfer3d.export.extras import import_extra
from transfer3d.export.onnx import save_graph
from transfer3d.files import atomic_path
from transfer3d.models.student import VideoStudent
from transfer3d.scratch import scratch_folder

SUFFIX = ".xml"
WEIGHTS_SUFFIX = ".bin"
EXTRA = "openvino"


def write_openvino(
    student: VideoStudent, path: Path, metadata: Mapping[str, str], *, calibration: Sequence[Tensor] = ()
) -> Agreement:
    """Writes a student for OpenVINO: the graph as `.xml`, the weights beside it as `.bin`.

    The fp32 graph must have the student's outputs. With `calibration` it is then quantised to int8 by NNCF's
    post-training quantisation, which changes them: see `quantisation_loss`.

    Args:
        student: on the CPU, in fp32.
        path: path of the graph, which ends in `.xml`.
        metadata: strings, stored as `rt_info` under their keys.
        calibration: normalised clips `1 C T H W` (or `1 U C T H W`) to determine int8's ranges; empty for
            fp32.

    Raises:
        UsageError: the file does not end in `.xml`.
        SetupError: the `openvino` extra is not installed.
        WeightsError: the outputs differ; no file is written.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: OpenVINO only reads file names that end in {SUFFIX}: use such a name.")
    openvino = import_extra("openvino", "OpenVINO", EXTRA)
    model, open_axes = convert(student)
    with ExitStack() as files:
        weights = files.enter_context(atomic_path(path.with_suffix(WEIGHTS_SUFFIX)))
        graph = files.enter_context(atomic_path(path))

        def save(network: Any) -> None:
            for key, value in metadata.items():
                network.set_rt_info(value, key)
            openvino.serialize(network, graph, weights)

        save(model)
        agreement = compare(student, openvino_runner(graph, weights), open_axes=open_axes)
        if calibration:
            save(quantise(model, calibration))
        return agreement


def convert(student: VideoStudent) -> tuple[Any, dict[int, str]]:
    """Returns a student as OpenVINO's model, and the input axes with dynamic size, by name."""
    openvino = import_extra("openvino", "OpenVINO", EXTRA)
    with scratch_folder() as folder:
        open_axes = save_graph(student, folder / "model.onnx", {})
        model = openvino.convert_model(folder / "model.onnx")
        return model, open_axes


def quantise(model: Any, clips: Sequence[Tensor]) -> Any:
    """Quantises a model's weights and activations to int8, with ranges from clips.

    Args:
        model: OpenVINO's.
        clips: normalised, `1 C T H W` or `1 U C T H W` each.
    """
    nncf = import_extra("nncf", "int8", EXTRA)
    dataset = nncf.Dataset([{"clips": clip.numpy()} for clip in clips])
    with redirect_stdout(sys.stderr):  # NNCF prints its progress to stdout
        return nncf.quantize(model, dataset, subset_size=len(clips))


def openvino_runner(graph: Path, weights: Path | None = None) -> Runner:
    """Returns a function that runs a file with OpenVINO on the CPU, in fp32.

    Args:
        graph: the `.xml`.
        weights: the `.bin`; None = beside the graph.
    """
    openvino = import_extra("openvino", "OpenVINO", EXTRA)
    model = openvino.Core().read_model(graph, weights or graph.with_suffix(WEIGHTS_SUFFIX))
    return compiled(model, precision="f32")


def compiled(model: Any, *, precision: str) -> Runner:
    """Returns a function that runs a model with OpenVINO on the CPU, with torch's number of threads.

    Args:
        model: OpenVINO's.
        precision: "f32", or "auto" for the CPU's fastest.
    """
    openvino = import_extra("openvino", "OpenVINO", EXTRA)
    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    if precision != "auto":
        options["INFERENCE_PRECISION_HINT"] = precision
    network = openvino.Core().compile_model(model, "CPU", options)

    def run(clips: list[Tensor]) -> list[Tensor]:
        return [torch.from_numpy(network({"clips": clip.numpy()})[0].copy()) for clip in clips]

    return run
