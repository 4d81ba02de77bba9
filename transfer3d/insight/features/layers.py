"""Reads the layers of a student by name, each averaged to one vector per clip.

`pool5` is the pooled feature before the classifier, `prob` the class probabilities (P3D, section 5). The
others are layers of the trunk: `stem`, `res2` .. `res5` and their blocks `res5.0`, which the papers call
`res5a`, `res5b` or, in deep stages, `res4b35`; `blocks.0` and `transitions.0` of a DenseNet, `inception4c` of
a GoogLeNet; the stages of a timm network under timm's names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.timm3d import Timm3d

POOLED, SCORES = "pool5", "prob"
PAPER_BLOCK = re.compile(r"(res\d)(?:b(\d+)|([a-z]))")


@dataclass(frozen=True)
class _Layer:
    label: str
    name: str
    cells: int


class LayerReader:
    """Computes the vectors of the requested layers.

    Args:
        student: in eval mode.
        names: layer names. `res5@7` is averaged over time and within 7 x 7 cells of the frame, and has 49
            times as many values as `res5`, which is averaged over the whole frame.

    Raises:
        UsageError: there is no such layer, or no classifier for `prob`.
    """

    def __init__(self, student: VideoStudent, names: Sequence[str]) -> None:
        self.student = student
        known = list(student.trunk.layers())
        self._layers = [_parse(student, name, known) for name in dict.fromkeys(names)]

    @torch.no_grad()
    def read(self, clips: Tensor) -> dict[str, Tensor]:
        """Returns for each layer float32 `B D`, averaged over T, H and W, and over the units of a video.

        Args:
            clips: float, normalised, `B C T H W`, or `B U C T H W` for the video-level families.
        """
        layers = [layer for layer in self._layers if layer.name not in (POOLED, SCORES)]
        final, maps = self.student.forward_intermediates(clips, [layer.name for layer in layers])
        pooled = self.student.forward_head(final, pre_logits=True)
        vectors = {POOLED: pooled.float()}
        if any(layer.name == SCORES for layer in self._layers):
            vectors[SCORES] = self.student.probabilities(self.student.head(pooled).float())
        for layer, layer_maps in zip(layers, maps, strict=True):
            vectors[layer.label] = self._average(layer_maps, layer.cells)
        return {layer.label: vectors[layer.label] for layer in self._layers}

    def _average(self, maps: Tensor, cells: int) -> Tensor:
        """Averages `B D T H W` over time within a unit, within cells of the frame, then over units: `B D'`.

        The frames of a timm network are treated as units, since it processes single frames.
        """
        frames = isinstance(self.student.trunk, Timm3d)
        units = maps.shape[2] if frames else self.student.clip.units
        parts = maps.unflatten(2, (units, -1)).transpose(1, 2).flatten(0, 1).float().mean(2)
        return F.adaptive_avg_pool2d(parts, cells).flatten(1).unflatten(0, (-1, units)).mean(1)


def _parse(student: VideoStudent, label: str, known: Collection[str]) -> _Layer:
    name, at, cells = label.partition("@")
    if at and (not cells.isdecimal() or int(cells) < 1 or name in (POOLED, SCORES)):
        raise UsageError(f"layer '{label}': @ needs a number of cells per side, as in res5@7.")
    if name == SCORES and student.num_classes == 0:
        raise UsageError(
            f"{student.model_name} has no classifier, so it has no '{SCORES}'. Leave it out of --layers."
        )
    if name in (POOLED, SCORES):
        return _Layer(label, name, 1)
    block = _block_name(name)
    if block not in known:
        near = did_you_mean(name, [POOLED, SCORES, *known])
        # Blocks within a stage are not listed: a ResNet-152 has 50.
        listed = [POOLED, SCORES, *(other for other in known if other.rpartition(".")[0] not in known)]
        raise UsageError(f"{student.model_name} has no layer '{name}'{near}: it has {', '.join(listed)}.")
    return _Layer(label, block, int(cells or 1))


def _block_name(name: str) -> str:
    """Returns the trunk's name of a block that a paper names by letters."""
    if (match := PAPER_BLOCK.fullmatch(name)) is None:
        return name
    stage, number, letter = match.groups()
    return f"{stage}.{int(number) if number else ord(letter) - ord('a')}"
