"""Writes a folder for the Hugging Face hub: weights, `config.json`, `preprocess.json`, `README.md`.

`transfer3d.load` reads the weights file alone, which describes the student. The config repeats its metadata
with the keys of timm and of transformers' video models, for other programs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from safetensors.torch import load_file, save_file

from transfer3d.export.preprocessing import SIDECAR_NAME, preprocessing
from transfer3d.files import atomic_path, write_text
from transfer3d.models.checkpoint import load
from transfer3d.models.measure import count_parameters
from transfer3d.models.registry import family_of
from transfer3d.weights.hub import WEIGHTS_NAME, locate
from transfer3d.weights.metadata import CheckpointMetadata, exported_strings, read_metadata
from transfer3d.weights.provenance import Provenance, public_provenance


def write_hub_folder(checkpoint: str | Path, folder: Path, *, provenance: Provenance = "short") -> list[Path]:
    """Writes a checkpoint as a folder ready for upload.

    Args:
        checkpoint: as for `load`; it is loaded first, so that a broken one raises before anything is written.
        folder: may exist; files of these names are replaced.
        provenance: "short" leaves out the recipe and every path, of the weights' header too.

    Returns:
        The files written.

    Raises:
        WeightsError: the checkpoint is refused.
    """
    student, metadata = load(checkpoint), read_metadata(checkpoint)
    if provenance == "short":
        metadata = metadata.model_copy(update={"provenance": public_provenance(metadata.provenance)})
    texts = {
        "config.json": json.dumps(hub_config(metadata, student.num_features), indent=2) + "\n",
        SIDECAR_NAME: json.dumps(preprocessing(metadata), indent=2) + "\n",
        "README.md": model_card(metadata, count_parameters(student)),
    }
    with atomic_path(folder / WEIGHTS_NAME) as partial:
        strings = {"format": "pt", **exported_strings(checkpoint, provenance)}
        save_file(load_file(locate(checkpoint)), partial, metadata=strings)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in (WEIGHTS_NAME, *texts)]


def hub_config(metadata: CheckpointMetadata, num_features: int) -> dict[str, Any]:
    """Returns the config: a checkpoint's metadata with the keys of timm and of transformers."""
    clip, names = metadata.clip, metadata.class_names
    short_side = clip.crop if isinstance(clip.crop, int) else min(clip.crop)
    config: dict[str, Any] = {
        "library_name": "transfer3d",
        "library_version": metadata.version,
        "architecture": metadata.model,
        "model_args": metadata.model_args,
        "num_classes": metadata.num_classes,
        "num_features": num_features,
        "num_frames": clip.frames,
        "image_size": clip.size,
        "clip": clip.to_dict(),
        "pretrained_cfg": {
            "input_size": [len(clip.mean), clip.frames, clip.size, clip.size],
            "interpolation": "bilinear",
            "crop_pct": clip.size / short_side,
            "mean": list(clip.mean),
            "std": list(clip.std),
        },
        "provenance": metadata.provenance,
    }
    if names is not None:
        config["label_names"] = names
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    return config


def model_card(metadata: CheckpointMetadata, parameters: int) -> str:
    """Returns the README: front matter, what the student is, how to use it, and its provenance."""
    front = ModelCardData(
        library_name="transfer3d",
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
        "```python\nimport transfer3d\n\n"
        'student = transfer3d.load("hf_hub:user/name")  # or this folder\'s path\n'
        f"logits = student(clips)  # {shape}, float, normalised by student.clip\n```",
        f"It sees {units}{clip.frames} frames at stride {clip.stride}, resized to {clip.crop} and cropped to "
        f"{clip.size}x{clip.size}; mean {_numbers(clip.mean)}, standard deviation {_numbers(clip.std)}.",
    ]
    if metadata.class_names is not None:
        lines.append("Classes: " + ", ".join(metadata.class_names) + ".")
    if metadata.provenance:
        text = json.dumps(metadata.provenance, indent=2)
        lines.append(f"## Provenance\n\n```json\n{text}\n```")
    return "\n\n".join(lines) + "\n"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
