"""Writes a folder for the Hugging Face hub: weights, `config.json`, `preprocess.json`, `README.md`.

`transfer3d.load` reads only the self-describing weights file. The config repeats its metadata for other
programs. It has its own `model_type` and no `pretrained_cfg`, with which transformers would take it for a
timm image model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from transfer3d.export.model_card import NO_INFO, CardInfo, model_card
from transfer3d.export.preprocessing import SIDECAR_NAME, preprocessing
from transfer3d.files import atomic_path, write_text
from transfer3d.models.checkpoint import load
from transfer3d.models.measure import count_parameters
from transfer3d.weights.hub import WEIGHTS_NAME, locate
from transfer3d.weights.metadata import CheckpointMetadata, exported_strings, read_metadata
from transfer3d.weights.provenance import Provenance, public_provenance

MODEL_TYPE = "transfer3d"


def write_hub_folder(
    checkpoint: str | Path, folder: Path, *, provenance: Provenance = "short", info: CardInfo = NO_INFO
) -> list[Path]:
    """Writes a checkpoint as a folder ready for upload.

    Args:
        checkpoint: as for `load`; it is loaded first, so that a broken one raises before anything is written.
        folder: may exist; files of these names are replaced.
        provenance: "short" omits the recipe and every path, also in the weights' header.
        info: entries of the model card that are not in the checkpoint.

    Returns:
        The files written.

    Raises:
        WeightsError: the checkpoint is invalid.
    """
    student, metadata = load(checkpoint), read_metadata(checkpoint)
    if provenance == "short":
        metadata = metadata.model_copy(update={"provenance": public_provenance(metadata.provenance)})
    texts = {
        "config.json": json.dumps(hub_config(metadata, student.num_features), indent=2) + "\n",
        SIDECAR_NAME: json.dumps(preprocessing(metadata), indent=2) + "\n",
        "README.md": model_card(metadata, count_parameters(student), info),
    }
    with atomic_path(folder / WEIGHTS_NAME) as partial:
        strings = {"format": "pt", **exported_strings(checkpoint, provenance)}
        save_file(load_file(locate(checkpoint)), partial, metadata=strings)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in (WEIGHTS_NAME, *texts)]


def hub_config(metadata: CheckpointMetadata, num_features: int) -> dict[str, Any]:
    """Returns the config: a checkpoint's metadata under the keys of transformers' video models."""
    clip, names = metadata.clip, metadata.class_names
    config: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "library_name": "transfer3d",
        "library_version": metadata.version,
        "architecture": metadata.model,
        "model_args": metadata.model_args,
        "num_classes": metadata.num_classes,
        "num_features": num_features,
        "num_frames": clip.frames,
        "image_size": clip.size,
        "clip": clip.to_dict(),
        "provenance": metadata.provenance,
    }
    if metadata.multi_label:
        config["problem_type"] = "multi_label_classification"  # transformers' key for it
    if names is not None:
        config["label_names"] = names
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    return config
