"""The model card of a Hub folder: front matter for the hub, and text for readers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from timm.models import get_pretrained_cfg

from transfer3d.models.registry import family_of
from transfer3d.weights.hub import HUB_PREFIX
from transfer3d.weights.metadata import CheckpointMetadata
from transfer3d.weights.provenance import image_source

METRICS = {
    "video_top1": ("accuracy", "Top-1"),
    "video_top5": ("accuracy", "Top-5"),
    "mean_class_accuracy": ("accuracy", "Mean class accuracy"),
    "mean_ap": ("mAP", "Mean average precision"),
}
"""Metrics of a checkpoint, with their type and name on the hub."""

UNKNOWN_LICENCE = "unknown"
OWN_VIDEOS = "own videos"


@dataclass(frozen=True, kw_only=True)
class CardInfo:
    """Entries of a model card that are not in the checkpoint.

    Attributes:
        license: its hub identifier ("apache-2.0"); "" = that of the image model, if timm knows it.
        datasets: the datasets of training and testing, by their hub names.
    """

    license: str = ""
    datasets: tuple[str, ...] = ()


NO_INFO = CardInfo()


def model_card(metadata: CheckpointMetadata, parameters: int, info: CardInfo = NO_INFO) -> str:
    """Returns the README: front matter, a description of the student, its usage and its provenance."""
    base, licence = _origin(metadata.provenance)
    results = _results(metadata, info)
    front = ModelCardData(
        library_name="transfer3d",
        license=info.license or licence,
        base_model=base,
        datasets=list(info.datasets) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=metadata.model,
        eval_results=results or None,
        pipeline_tag="video-classification" if metadata.num_classes else "feature-extraction",
        tags=["transfer3d", "video", family_of(metadata.model).name],
    )
    clip = metadata.clip
    units = f"{clip.units} units of " if clip.units > 1 else ""
    shape = "B U C T H W" if clip.units > 1 else "B C T H W"
    lines = [
        f"---\n{front.to_yaml().strip()}\n---",
        f"# {metadata.model}",
        f"A video network ({family_of(metadata.model).paper}), made with transfer3d "
        f"{metadata.version}: {parameters:,} parameters, {metadata.num_classes} classes.",
        f"```python\n{_program(metadata, shape)}\n```",
        f"Its input is {units}{clip.frames} frames at stride {clip.stride}, resized to {clip.crop} and "
        f"cropped to {clip.size}x{clip.size}; mean {_numbers(clip.mean)}, std {_numbers(clip.std)}. "
        "`preprocess.json` has this in machine-readable form.",
        "Only transfer3d can load this folder: timm and transformers do not have this network, so "
        "`timm.create_model` and `AutoModelForVideoClassification` cannot load it.",
    ]
    if metadata.class_names is not None:
        several = " A video may have several: the sigmoid of each logit." if metadata.multi_label else ""
        lines.append("Classes: " + ", ".join(metadata.class_names) + f".{several}")
    if metadata.provenance:
        text = json.dumps(metadata.provenance, indent=2)
        lines.append(f"## Provenance\n\n```json\n{text}\n```")
    return "\n\n".join(lines) + "\n"


def _program(metadata: CheckpointMetadata, shape: str) -> str:
    """Returns the lines that load the student and use it."""
    clips = f"# {shape}: uint8, or floats normalised by mean and std"
    use = f"features = student(clips)  {clips}"
    if metadata.num_classes:
        predict = 'print(transfer3d.predict(student, ["video.mp4"]))'
        use = f"{predict}\nlogits = student(clips)  {clips}"
    load = 'student = transfer3d.load("hf_hub:user/name")  # or this folder\'s path'
    return f"import transfer3d\n\n{load}\n{use}"


def _origin(provenance: Mapping[str, Any]) -> tuple[str | None, str]:
    """Returns the hub name of the model that a student was made from, and that model's licence."""
    source, parent = image_source(provenance), provenance.get("parent")
    if source is not None and (cfg := get_pretrained_cfg(source)) is not None and cfg.hf_hub_id:
        name = f"{cfg.hf_hub_id}{source}" if cfg.hf_hub_id.endswith("/") else cfg.hf_hub_id
        return name, cfg.license or UNKNOWN_LICENCE
    checkpoint = parent.get("checkpoint") if isinstance(parent, Mapping) else None
    if isinstance(checkpoint, str) and checkpoint.startswith(HUB_PREFIX):
        return checkpoint.removeprefix(HUB_PREFIX).partition("@")[0], UNKNOWN_LICENCE
    return None, UNKNOWN_LICENCE


def _results(metadata: CheckpointMetadata, info: CardInfo) -> list[EvalResult]:
    """Returns the checkpoint's metrics in the hub's form, for the first named dataset or for own videos."""
    metrics = metadata.provenance.get("metrics")
    known = {key: metrics[key] for key in METRICS if key in metrics} if isinstance(metrics, Mapping) else {}
    name = info.datasets[0] if info.datasets else OWN_VIDEOS
    return [
        EvalResult(
            task_type="video-classification",
            dataset_type=re.sub(r"[^\w./-]+", "-", name),
            dataset_name=name,
            dataset_split="validation",  # a checkpoint records the scores of its training run
            metric_type=METRICS[key][0],
            metric_name=METRICS[key][1],
            metric_value=round(value, 4),
        )
        for key, value in known.items()
        if isinstance(value, int | float)
    ]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
