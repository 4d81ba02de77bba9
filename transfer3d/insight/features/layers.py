"""The layers of a student under the names of its own modules, each as one vector for a clip.

`pool5` is the pooled feature in front of the classifier, `prob` the softmax (P3D, section 5). The others are
modules of the trunk: `stem`, `res2` .. `res5` and their blocks `res5.0`, which the papers count as `res5a`,
`res5b` or, in deep stages, `res4b35`; `blocks.0` and `transitions.0` of a DenseNet, `inception4c` of a
GoogLeNet; the stages that timm names of its own networks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.models.student import CLIP_NDIM, FRAMES_NDIM, VideoStudent
from transfer3d.models.trunks.resnet3d import Stage
from transfer3d.models.trunks.timm3d import Timm3d

POOLED, SCORES = "pool5", "prob"
PAPER_BLOCK = re.compile(r"(res\d)(?:b(\d+)|([a-z]))")


def trunk_layers(student: VideoStudent) -> dict[str, nn.Module]:
    """Returns the modules of a student's trunk that have a name as a layer, in the trunk's order."""
    trunk = student.trunk
    if isinstance(trunk, Timm3d):
        return {entry["module"]: trunk.net.get_submodule(entry["module"]) for entry in trunk.net.feature_info}
    found: dict[str, nn.Module] = {}
    for name, module in trunk.named_children():
        if not isinstance(module, nn.ModuleList):
            found[name] = module
        if isinstance(module, nn.ModuleList | Stage):
            found |= {f"{name}.{part}": inner for part, inner in module.named_children()}
    return found


@dataclass(frozen=True)
class _Layer:
    name: str
    module: nn.Module | None  # None for the pooled feature and the scores
    cells: int


class LayerReader:
    """Looks at clips, and returns the vectors of the layers that were asked for.

    Args:
        student: in eval mode.
        names: of layers. `res5@7` is averaged over time and over 7 x 7 cells of the picture, and has 49 times
            as many numbers as `res5`, which is averaged over all of it.

    Raises:
        UsageError: there is no such layer, or no classifier for the scores.
    """

    def __init__(self, student: VideoStudent, names: Sequence[str]) -> None:
        self.student = student
        known = trunk_layers(student)
        self._layers = [_parse(student, name, known) for name in dict.fromkeys(names)]

    @torch.no_grad()
    def read(self, clips: Tensor) -> dict[str, Tensor]:
        """Returns for each layer float32 `B D`, averaged over T, H and W, and over the units of a video.

        Args:
            clips: float, normalised, `B C T H W`, or `B U C T H W` for the video-level families.

        Raises:
            UsageError: the output of a module is no feature maps.
        """
        vectors: dict[str, Tensor] = {}

        def hook(layer: _Layer) -> Any:
            def record(module: nn.Module, inputs: Any, output: Any) -> None:
                # Taken at once: a ReLU that works in place may follow.
                vectors[layer.name] = _averaged(output, layer, len(clips))

            return record

        handles = [
            layer.module.register_forward_hook(hook(layer))
            for layer in self._layers
            if layer.module is not None
        ]
        try:
            maps = self.student.forward_features(clips)
        finally:
            for handle in handles:
                handle.remove()
        pooled = self.student.forward_head(maps, pre_logits=True)
        vectors[POOLED] = pooled.float()
        if any(layer.name == SCORES for layer in self._layers):
            vectors[SCORES] = self.student.head(pooled).float().softmax(-1)
        return {layer.name: vectors[layer.name] for layer in self._layers}


def _parse(student: VideoStudent, text: str, known: dict[str, nn.Module]) -> _Layer:
    name, at, cells = text.partition("@")
    if at and (not cells.isdecimal() or int(cells) < 1 or name in (POOLED, SCORES)):
        raise UsageError(f"layer '{text}': behind @ stands a number of cells, of feature maps as res5@7.")
    if name == SCORES and student.num_classes == 0:
        raise UsageError(
            f"{student.model_name} has no classifier, so no '{SCORES}'. Leave it out of --layers."
        )
    if name in (POOLED, SCORES):
        return _Layer(name, None, 1)
    module = known.get(_block_name(name))
    if module is None:
        near = did_you_mean(name, [POOLED, SCORES, *known])
        # What is inside another layer is not listed: a ResNet-152 has 50 blocks.
        listed = [POOLED, SCORES, *(other for other in known if other.rpartition(".")[0] not in known)]
        raise UsageError(f"{student.model_name} has no layer '{name}'{near}: there are {', '.join(listed)}.")
    return _Layer(text, module, int(cells or 1))


def _block_name(name: str) -> str:
    """Returns the trunk's name of a block that a paper counts by letters."""
    if (match := PAPER_BLOCK.fullmatch(name)) is None:
        return name
    stage, number, letter = match.groups()
    return f"{stage}.{int(number) if number else ord(letter) - ord('a')}"


def _averaged(output: Any, layer: _Layer, batch: int) -> Tensor:
    """Averages maps over time, cells of the picture, and what else was folded into the batch: `B D`."""
    if not isinstance(output, Tensor) or output.ndim not in (FRAMES_NDIM, CLIP_NDIM):
        raise UsageError(f"layer '{layer.name}' gives no feature maps. Choose another.")
    maps = output.float()
    frames = maps.mean(2) if maps.ndim == CLIP_NDIM else maps
    cells = F.adaptive_avg_pool2d(frames, layer.cells).flatten(1)
    return cells.unflatten(0, (batch, -1)).mean(1)
