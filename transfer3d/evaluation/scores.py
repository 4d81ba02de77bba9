"""Scores of a dataset's videos, in memory and on disk beside their report, for metrics and fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer3d.errors import DataError, UsageError
from transfer3d.evaluation.pooling import Pooling, pooled
from transfer3d.files import atomic_path, read_regular, write_text

FORMAT = "transfer3d-scores-1"
ROUNDING = 1e-3
"""Tolerance by which a probability may exceed 1."""
MAX_JSON_BYTES = 1 << 30


@dataclass(frozen=True)
class Scores:
    """Probabilities of every view of every video, in the dataset's order.

    Attributes:
        keys: one per video.
        label_sets: all labels of each video; may be empty.
        views_VK: for each video, float32 probabilities of its views.
        scale_V: for each video, the window length of each view.
        pooling: pooling of the views' probabilities to a video's score.
        multi_label: whether probabilities are sigmoids of each class, not a softmax.
    """

    keys: Sequence[str]
    label_sets: Sequence[tuple[int, ...]]
    views_VK: Sequence[Tensor]
    scale_V: Sequence[Tensor] = field(default=())
    pooling: Pooling = "mean"
    multi_label: bool = False

    @property
    def scales(self) -> Sequence[Tensor]:
        """`scale_V`, or one window length for all views."""
        return self.scale_V or [torch.zeros(len(views), dtype=torch.int64) for views in self.views_VK]

    @cached_property
    def videos_NK(self) -> Tensor:
        """The scores of each video, N K."""
        rows = zip(self.views_VK, self.scales, strict=True)
        return torch.stack(
            [pooled(views_VK, scale_V, self.pooling, self.multi_label) for views_VK, scale_V in rows]
        )


class ScoreMetadata(BaseModel):
    """`REPORT.scores.json`, the metadata of `REPORT.scores.safetensors`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    keys: tuple[str, ...]
    label_sets: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    split: str
    protocol: str
    pooling: Pooling
    multi_label: bool = False


def save_scores(scores: Scores, report: Path, *, classes: Sequence[str], split: str, protocol: str) -> None:
    """Writes `REPORT.scores.safetensors` and `REPORT.scores.json` beside `REPORT.json`.

    Args:
        scores: to write.
        report: path of the report.
        classes: names, by label.
        split: split of the data.
        protocol: its name.

    Raises:
        SetupError: the files cannot be written.
    """
    tensors_file, metadata_file = _places(report)
    counts = torch.tensor([len(views) for views in scores.views_VK])
    with atomic_path(tensors_file) as partial:
        tensors = {
            "views": torch.cat(list(scores.views_VK)),
            "scale": torch.cat(list(scores.scales)),
            "views_of": counts,
        }
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    metadata = ScoreMetadata(
        keys=tuple(scores.keys),
        label_sets=tuple(scores.label_sets),
        classes=tuple(classes),
        split=split,
        protocol=protocol,
        pooling=scores.pooling,
        multi_label=scores.multi_label,
    )
    write_text(metadata_file, metadata.model_dump_json() + "\n")


def load_scores(report: Path) -> tuple[Scores, ScoreMetadata]:
    """Reads the scores beside a report.

    Raises:
        UsageError: the files do not exist.
        DataError: the files are damaged.
    """
    tensors_file, metadata_file = _places(report)
    for path in (tensors_file, metadata_file):
        if not path.is_file():
            raise UsageError(
                f"{report}: no scores beside it ({path.name}). `transfer3d evaluate -o` writes them."
            )
    try:
        metadata = ScoreMetadata.model_validate_json(read_regular(metadata_file, MAX_JSON_BYTES))
        tensors = load_file(tensors_file)
        views_MK, scale_M, counts_N = (tensors[name] for name in ("views", "scale", "views_of"))
    except (ValueError, SafetensorError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{metadata_file}: damaged scores ({reason}). Evaluate again.") from error
    if not (_are_of(metadata, counts_N) and _are_scores(views_MK, scale_M, counts_N, len(metadata.classes))):
        raise DataError(f"{metadata_file}: scores and names do not match. Evaluate again.")
    views, scales = (tensor.split(counts_N.tolist()) for tensor in (views_MK, scale_M))
    scores = Scores(metadata.keys, metadata.label_sets, views, scales, metadata.pooling, metadata.multi_label)
    return scores, metadata


def _are_of(metadata: ScoreMetadata, counts_N: Tensor) -> bool:
    """Whether the metadata name this number of distinct videos, with labels that are valid classes."""
    labels = {label for label_set in metadata.label_sets for label in label_set}
    return (
        metadata.format == FORMAT
        and len(metadata.keys) == len(set(metadata.keys)) == len(metadata.label_sets) == counts_N.numel() > 0
        and all(0 <= label < len(metadata.classes) for label in labels)
    )


def _are_scores(views_MK: Tensor, scale_M: Tensor, counts_N: Tensor, classes: int) -> bool:
    """Whether the tensors hold probabilities of views, with at least one view per video."""
    return (
        counts_N.dtype == scale_M.dtype == torch.int64
        and views_MK.dtype == torch.float32
        and (counts_N.ndim, scale_M.ndim, views_MK.ndim) == (1, 1, 2)
        and int(counts_N.min()) > 0
        and int(counts_N.max()) <= len(views_MK) == len(scale_M) == int(counts_N.sum())
        and views_MK.shape[1] == classes
        and bool(((views_MK >= 0) & (views_MK <= 1 + ROUNDING)).all())
    )


def _places(report: Path) -> tuple[Path, Path]:
    stem = report.with_suffix("").name
    return report.with_name(f"{stem}.scores.safetensors"), report.with_name(f"{stem}.scores.json")
