"""slow_r50 of pytorchvideo's model zoo and its deeper variants: I3D-S with other tensor names."""

from __future__ import annotations

from collections.abc import Mapping

from transfer3d.inflation.importers.kind import Kind, Released, Shapes, channels, classes
from transfer3d.inflation.importers.resnet_names import BOTTLENECKS, block_modules, read_spec
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=8, stride=8, size=224, crop=256, mean=(0.45,) * 3, std=(0.225,) * 3)
"""The zoo's "8x8", with its mean and standard deviation.

Its head averages windows of 7x7 before the softmax: at 224 pixels that is the whole map, as here.
"""

STEM, CLASSIFIER = "blocks.0.conv", "blocks.5.proj"


def read(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a file."""
    pattern = r"blocks\.(?P<stage>\d)\.res_blocks\.(?P<block>\d+)\."
    spec = read_spec(shapes, pattern, BOTTLENECKS, counts_from=1)
    units = {
        f"units.{unit}": (f"branch2.conv_{letter}", f"branch2.norm_{letter}")
        for unit, letter in enumerate("abc")
    }
    return Released(
        family="i3ds",
        spec=spec,
        model_args=channels(shapes, STEM),
        num_classes=classes(shapes, CLASSIFIER),
        clip=CLIP,
        modules={
            "trunk.stem.0.conv": STEM,
            "trunk.stem.0.norm": "blocks.0.norm",
            "head": CLASSIFIER,
            **block_modules(
                spec,
                block=lambda site: f"blocks.{site.stage - 1}.res_blocks.{site.index}",
                units=lambda site: units,
                projection=("branch1_conv", "branch1_norm"),
            ),
        },
    )


PYTORCHVIDEO_SLOW = Kind(
    name="pytorchvideo-slow",
    what="slow_r50 of pytorchvideo",
    signature=f"{STEM}.weight",
    options={},
    read=read,
)
