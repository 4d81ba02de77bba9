"""DenseNet3D as released by T3D's authors: 3D kernels under the tensor names of torchvision's 2D DenseNet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from transfer3d.inflation.importers.kind import Kind, Released, Shapes, channels, classes
from transfer3d.inflation.importers.resnet_names import spec_with
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.densenet3d import (
    DENSENET121,
    DENSENET161,
    DENSENET169,
    DENSENET201,
    DenseNetSpec,
)

CLIP = ClipSpec(frames=32, stride=2, size=224, crop=256)
"""T3D, section 4.4: 32 frames at stride 2, which the net's five strides reduce to one."""

STEM, CLASSIFIER = "features.conv0", "classifier"
LAYER = re.compile(r"features\.denseblock(?P<block>\d+)\.denselayer(?P<layer>\d+)\.")
KNOWN = {121: DENSENET121, 161: DENSENET161, 169: DENSENET169, 201: DENSENET201}


def read(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a file."""
    spec = _spec(shapes)
    modules = {
        "trunk.stem.conv": STEM,
        "trunk.stem.norm": "features.norm0",
        "trunk.norm": "features.norm5",
        "head": CLASSIFIER,
    }
    for block, depth in enumerate(spec.depths):
        for layer in range(depth):
            theirs = f"features.denseblock{block + 1}.denselayer{layer + 1}"
            for part in ("norm", "conv"):
                for number in (1, 2):
                    modules[f"trunk.blocks.{block}.{layer}.{part}{number}"] = f"{theirs}.{part}.{number}"
        if block < len(spec.depths) - 1:
            for part in ("norm", "conv"):
                modules[f"trunk.transitions.{block}.{part}"] = f"features.transition{block + 1}.{part}"
    return Released(
        family="densenet3d",
        spec=spec,
        model_args={"stem_pool_t": 2, **channels(shapes, STEM)},
        num_classes=classes(shapes, CLASSIFIER),
        clip=CLIP,
        modules=modules,
    )


def _spec(shapes: Shapes) -> DenseNetSpec:
    last: dict[int, int] = {}
    for name in shapes:
        if match := LAYER.match(name):
            block, layer = int(match["block"]), int(match["layer"])
            last[block] = max(last.get(block, 0), layer)
    return spec_with(tuple(last[block] for block in sorted(last)), KNOWN, "dense blocks have {} layers")


T3D_DENSENET3D = Kind(
    name="t3d-densenet3d",
    what="DenseNet3D of T3D's authors",
    signature="features.denseblock1.denselayer1.conv.1.weight",
    options={},
    read=read,
)
