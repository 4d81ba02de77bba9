"""Features of a dataset's videos in one self-describing safetensors file.

Tensors are named by layer, `N D` float32, row n for video n; `labels` is int64, `N`, or `N L` for videos with
several labels, padded with -1. The metadata have one entry, `transfer3d.features`: JSON with `keys`,
`sources`, `classes` and `facts`. Only safetensors is needed to read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, UsageError, did_you_mean
from transfer3d.files import atomic_path, why_no_file

ENTRY = "transfer3d.features"
LABELS = "labels"
NO_LABEL = -1
FOR_OTHERS = {b"PK\3\4": "npz", b"PAR1": "Parquet"}
"""Names of other formats, by their files' first bytes."""


class FeatureMetadata(BaseModel):
    """The provenance of features: all settings of the extraction.

    Attributes:
        checkpoint: path of the file, as given.
        checkpoint_sha256: sha256 of the checkpoint file.
        student: its registered name.
        data: path of the videos, as given.
        data_digest: sha256 of the set's content.
        split: split of the data.
        views: the views of a video that were averaged: their number (`count`) and positions (`places`).
        precision: "bf16" or "fp32".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str
    checkpoint_sha256: str
    student: str
    data: str
    data_digest: str
    split: str
    views: dict[str, str | int]
    precision: str


class _Header(BaseModel):
    """The content of the metadata: a single entry, so that equal features have equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["transfer3d-features-1"] = "transfer3d-features-1"
    keys: tuple[str, ...]
    sources: tuple[str, ...]
    classes: tuple[str, ...]
    facts: FeatureMetadata


@dataclass(frozen=True)
class FeatureSet:
    """Features of every video of a set, in the set's order.

    Attributes:
        keys: one per video, unique.
        label_sets: all labels of each video; may be empty.
        sources: the original video from which each was cut.
        classes: names, by label.
        layers: features by name, float32 `N D`; D depends on the layer.
        metadata: checkpoint, data and views of the extraction.
    """

    keys: Sequence[str]
    label_sets: Sequence[tuple[int, ...]]
    sources: Sequence[str]
    classes: Sequence[str]
    layers: Mapping[str, Tensor]
    metadata: FeatureMetadata

    @classmethod
    def of(cls, videos: VideoSet, layers: Mapping[str, Tensor], metadata: FeatureMetadata) -> Self:
        """Returns the features of a set of videos."""
        return cls(videos.keys, videos.label_sets, videos.sources, videos.classes, layers, metadata)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels_N(self) -> Tensor:
        """The first label of each video, -1 if unlabelled; int64."""
        return torch.tensor([labels[0] if labels else NO_LABEL for labels in self.label_sets])

    def layer(self, name: str) -> Tensor:
        """Returns one layer's features, float32 `N D`.

        Raises:
            UsageError: there is no such layer.
        """
        if name not in self.layers:
            near = did_you_mean(name, self.layers)
            raise UsageError(f"no layer '{name}'{near} in these features: {', '.join(self.layers)}.")
        return self.layers[name]


def save_features(features: FeatureSet, path: Path) -> None:
    """Writes features atomically.

    Raises:
        SetupError: the file cannot be written.
    """
    longest = max(1, *map(len, features.label_sets))
    labels = [(*row, *[NO_LABEL] * (longest - len(row))) for row in features.label_sets]
    labels_NL = torch.tensor(labels, dtype=torch.int64)
    labels_N_or_NL = labels_NL[:, 0].contiguous() if longest == 1 else labels_NL
    tensors = {name: tensor.contiguous() for name, tensor in features.layers.items()}
    header = _Header(
        keys=tuple(features.keys),
        sources=tuple(features.sources),
        classes=tuple(features.classes),
        facts=features.metadata,
    )
    with atomic_path(path) as partial:
        save_file({**tensors, LABELS: labels_N_or_NL}, partial, metadata={ENTRY: header.model_dump_json()})


def header_of(path: Path) -> tuple[list[str], FeatureMetadata]:
    """Returns the layers and the metadata of a file written by `save_features`, reading only its header.

    Raises:
        SafetensorError, ValueError, KeyError, TypeError: it was not written by `save_features`.
    """
    with safe_open(path, framework="pt") as file:
        layers = [name for name in file.keys() if name != LABELS]  # noqa: SIM118 - no mapping
        return layers, _Header.model_validate_json(file.metadata()[ENTRY]).facts


def load_features(path: Path) -> FeatureSet:
    """Reads a file written by `save_features`.

    Raises:
        UsageError: it is in a format for other programs.
        DataError: it does not exist, is not a file of features, is damaged, or has values that are not
            finite.
    """
    if not path.is_file():
        raise DataError(f"{path}: {why_no_file(path)}. `transfer3d features` writes a file of features.")
    with path.open("rb") as opened:
        other = FOR_OTHERS.get(opened.read(4))
    if other is not None:
        raise UsageError(
            f"{path} is {other}, which `transfer3d features` writes for other programs. "
            "This command needs a .safetensors file: extract the features with -o NAME.safetensors."
        )
    try:
        with safe_open(path, framework="pt") as file:
            strings = file.metadata() or {}
            if ENTRY not in strings:
                raise DataError(
                    f"{path}: a safetensors file, but not of features. `transfer3d features` writes those."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        header = _Header.model_validate_json(strings[ENTRY])
        labels = tensors.pop(LABELS)
        if labels.dtype != torch.int64 or labels.ndim not in (1, 2):
            raise ValueError(f"labels of {labels.dtype} with {labels.ndim} dimensions")
        labels_NL = labels.reshape(len(labels), labels.shape[1] if labels.ndim == 2 else 1)
    except DataError:  # a ValueError too
        raise
    except (SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a file of features, or damaged ({reason}). Extract it again."
        ) from error
    features = FeatureSet(
        keys=header.keys,
        label_sets=[tuple(label for label in row if label >= 0) for row in labels_NL.tolist()],
        sources=header.sources,
        classes=header.classes,
        layers=dict(sorted(tensors.items())),
        metadata=header.facts,
    )
    if problem := _problem(features):
        raise DataError(f"{path}: damaged, {problem}. Extract the features again.")
    return features


def _problem(features: FeatureSet) -> str | None:
    """Describes an inconsistency of the content; None if there is none."""
    counts = {len(features), len(features.label_sets), len(features.sources)}
    if len(counts | {len(tensor) for tensor in features.layers.values()}) > 1:
        return "its parts are not of the same videos"
    if len(set(features.keys)) < len(features):
        return "a key appears twice"
    if not features.keys or not features.layers:
        return "it holds no features"
    if any(label >= len(features.classes) for labels in features.label_sets for label in labels):
        return "a label has no class"
    for name, tensor in features.layers.items():
        is_matrix = tensor.ndim == 2 and tensor.shape[1] > 0 and tensor.dtype == torch.float32
        if not is_matrix or not tensor.isfinite().all():
            return f"layer '{name}' is not a matrix of finite float32 numbers"
    return None
