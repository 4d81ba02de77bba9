"""r3d_18 of torchvision, and deeper nets made by its VideoResNet with 3x3x3 convolutions.

mc3_18 has 1x3x3 convolutions in its last three stages; r2plus1d_18 replaces each convolution by a spatial and
a temporal one. No family here has these forms, so both are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.kind import Kind, Released, Shapes
from transfer3d.inflation.importers.resnet_names import (
    BASICS,
    BOTTLENECKS,
    block_modules,
    channels,
    classes,
    read_spec,
)
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(
    frames=16,
    stride=2,
    size=112,
    crop=(128, 171),
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)
"""From torchvision's weights: resized to 128x171, cropped to 112x112, 16 frames at 15 per second."""

STEM = "stem.0"


def read(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a file."""
    if "layer1.0.conv1.0.0.weight" in shapes or "stem.3.weight" in shapes:
        raise WeightsError("the file is an r2plus1d_18, which no family here has: r3d_18 can be imported.")
    if (kernel := shapes.get("layer2.0.conv2.0.weight")) and len(kernel) == 5 and kernel[2] == 1:
        raise WeightsError("the file is an mc3_18, which no family here has: r3d_18 can be imported.")
    deep = any(".conv3." in name for name in shapes)
    known = BOTTLENECKS if deep else BASICS
    spec = read_spec(shapes, r"layer(?P<stage>\d)\.(?P<block>\d+)\.", known, counts_from=1)
    units = {f"units.{unit}": (f"conv{unit + 1}.0", f"conv{unit + 1}.1") for unit in range(3 if deep else 2)}
    return Released(
        family="r3d",
        spec=spec,
        model_args={"stem_pool": False, **channels(shapes, STEM)},
        num_classes=classes(shapes, "fc"),
        clip=CLIP,
        modules={
            "trunk.stem.0.conv": STEM,
            "trunk.stem.0.norm": "stem.1",
            "head": "fc",
            **block_modules(
                spec,
                block=lambda site: f"layer{site.stage - 1}.{site.index}",
                units=lambda site: units,
                projection=("downsample.0", "downsample.1"),
            ),
        },
    )


TORCHVISION_VIDEO = Kind(
    name="torchvision-video",
    what="r3d_18 of torchvision",
    signature=f"{STEM}.weight",
    options={},
    read=read,
)
