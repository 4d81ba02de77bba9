"""r3d_18, mc3_18 and r2plus1d_18 of torchvision, and deeper nets built with its VideoResNet."""

from __future__ import annotations

from collections.abc import Mapping

from transfer3d.inflation.importers.kind import Kind, Released, Shapes, channels, classes
from transfer3d.inflation.importers.resnet_names import BASICS, BOTTLENECKS, Units, block_modules, read_spec
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
    deep = any(".conv3." in name for name in shapes)
    known = BOTTLENECKS if deep else BASICS
    spec = read_spec(shapes, r"layer(?P<stage>\d)\.(?P<block>\d+)\.", known, counts_from=1)
    convolutions = _convolutions(shapes)
    units = _units(convolutions, deep)
    stem = {"trunk.stem.0.conv": STEM, "trunk.stem.0.norm": "stem.1"}
    if convolutions == "2plus1d":
        parts = {"0.conv": STEM, "0.norm": "stem.1", "1.conv": "stem.3", "1.norm": "stem.4"}
        stem = {f"trunk.stem.0.{ours}": theirs for ours, theirs in parts.items()}
    return Released(
        family="r3d",
        spec=spec,
        model_args={
            "stem_pool": False,
            **({} if convolutions == "3d" else {"convolutions": convolutions}),
            **channels(shapes, STEM),
        },
        num_classes=classes(shapes, "fc"),
        clip=CLIP,
        modules={
            **stem,
            "head": "fc",
            **block_modules(
                spec,
                block=lambda site: f"layer{site.stage - 1}.{site.index}",
                units=lambda site: units,
                projection=("downsample.0", "downsample.1"),
            ),
        },
    )


def _convolutions(shapes: Shapes) -> str:
    """Returns the student's `convolutions`, recognised by the names and the kernels of res3."""
    if "stem.3.weight" in shapes:
        return "2plus1d"
    wide = [
        kernel for name, kernel in shapes.items() if name.startswith("layer2.0.conv2.0") and len(kernel) == 5
    ]
    return "mc3" if wide and wide[0][2] == 1 else "3d"


def _units(convolutions: str, deep: bool) -> Units:
    """Returns a block's convolutions; in R(2+1)D a 3x3x3 is a Sequential of four layers in the file."""
    units: Units = {}
    for unit in range(3 if deep else 2):
        theirs = f"conv{unit + 1}"
        if convolutions == "2plus1d" and not (deep and unit != 1):
            units[f"units.{unit}.0"] = (f"{theirs}.0.0", f"{theirs}.0.1")
            units[f"units.{unit}.1"] = (f"{theirs}.0.3", f"{theirs}.1")
        else:
            units[f"units.{unit}"] = (f"{theirs}.0", f"{theirs}.1")
    return units


TORCHVISION_VIDEO = Kind(
    name="torchvision-video",
    what="r3d_18, mc3_18, r2plus1d_18 of torchvision",
    signature=f"{STEM}.weight",
    options={},
    read=read,
)
