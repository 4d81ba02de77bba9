"""P3D63, P3D131 and P3D199 of the widely used PyTorch port (github.com/qijiezhao/pseudo-3d-pytorch).

Differs from the authors' release by `wiring="port"`. P3D-A, B, C and mixed nets have the same names and
shapes, so the option `blocks` tells them apart. Its res5 is 2D: the kernels have no temporal axis.
"""

from __future__ import annotations

from collections.abc import Mapping

from transfer3d.errors import UsageError
from transfer3d.inflation.importers.kind import Kind, Released, Shapes, channels, classes
from transfer3d.inflation.importers.resnet_names import BOTTLENECKS, Units, block_modules, read_spec
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.resnet3d import BlockSite

CLIP = ClipSpec(frames=16, stride=1, size=160, crop=(182, 242))
BLOCKS = ("ABC", "A", "B", "C")
STEM = "conv1_custom"
LAST_STAGE = 5


def read(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a file."""
    blocks = options["blocks"]
    if blocks not in BLOCKS:
        raise UsageError(f"blocks={blocks}: must be one of {', '.join(BLOCKS)}.")
    spec = read_spec(shapes, r"layer(?P<stage>\d)\.(?P<block>\d+)\.", BOTTLENECKS, counts_from=1)
    block_args = {} if blocks == "ABC" else {"blocks": blocks}
    return Released(
        family="p3d",
        spec=spec,
        model_args={"wiring": "port", **block_args, **channels(shapes, STEM)},
        num_classes=classes(shapes, "fc"),
        clip=CLIP,
        modules={
            "trunk.stem.0.conv": STEM,
            "trunk.stem.0.norm": "bn1",
            "head": "fc",
            **block_modules(
                spec,
                block=lambda site: f"layer{site.stage - 1}.{site.index}",
                units=_units,
                projection=("downsample.0", "downsample.1"),
            ),
        },
    )


def _units(site: BlockSite) -> Units:
    middle: Units = {"units.1.spatial": ("conv2", "bn2"), "units.1.temporal": ("conv3", "bn3")}
    if site.stage == LAST_STAGE:
        middle = {"units.1": ("conv_normal", "bn_normal")}
    return {"units.0": ("conv1", "bn1"), **middle, "units.2": ("conv4", "bn4")}


P3D_PYTORCH = Kind(
    name="p3d-pytorch",
    what="P3D63, P3D131, P3D199 of the PyTorch port",
    signature=f"{STEM}.weight",
    options={"blocks": "ABC"},
    read=read,
)
