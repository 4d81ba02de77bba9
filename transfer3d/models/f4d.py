"""F4D: I3D-S over the units of a whole video, with factorised 4D convolutions and attention between stages.

Paper: Al-Saad, Ramaswamy, Bhandarkar, "F4D: Factorized 4D Convolutional Neural Network for Efficient
Video-Level Representation Learning", 2024, section 3 and tables 1 to 5.

Differences from the paper, and choices where it is silent:

- The factors have 3/32 of a stage's channels (at least one), between a 1x1x1 reduction and a 1x1x1 expansion:
  at full width, as in section 3.3 (`width=None`), the net is several times larger than in table 1.
- BatchNorm: section 4.2 has it after all convolutions, section 3.4 after the block. Here one comes between
  the two factors, with the ReLU of section 3.3, and one after the expansion. The reduction, the temporal
  factor and the attention's convolutions have none. Convolutions have no bias, except SE's.
- A learnt per-channel scale of the branch starts at zero, so that a new block is the identity.
- The dropout rate is not given: 0 unless `block_drop_rate` sets it.
- Temporal attention: the two dilated paths are summed before the sigmoid; the paper does not say how.
- Channel attention: one map per unit. The average and the maximum over T, H and W each pass through the
  shared layers; equation (8) prints the maximum twice, and C/r x 1 x 1 x 1 x 1 could mean one map for all
  units. The hidden layer has C/16 channels, but at least 4.
- Spatio-temporal attention is computed from channel attention's output, which equation (12) multiplies; the
  text calls its input F', as channel attention's. Its spatial paths start as averages: with random signs,
  the ReLU after them could start, and stay, at zero.
- SE and CBAM (table 5) replace all three, after permuting back, as published: without the inner residual
  connections.
- All U units pass through in one forward pass, also when there are more than in training (section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.resnet3d import RESNET18, RESNET50, TEST_RESNET, BlockSite, ResNet3d, ResNetSpec
from transfer3d.models.trunks.slow_path import SlowPathPlan
from transfer3d.nn.factorised4d import FactorisedBlock
from transfer3d.nn.units import AcrossUnits

CLIP = ClipSpec(frames=8, stride=4, size=224, crop=256, units=4)
"""Section 4.3: 4 sections, in each a snippet of 32 frames, of which 8 are seen."""

PLACES = ("conv1", "conv2", "conv3", "conv4", "conv5")


class F4DPlan(SlowPathPlan):
    """The slow path with a block at the end of every stage in `stages`."""

    def __init__(self, stages: Sequence[str], make: Callable[[int], AcrossUnits]) -> None:
        self.stages = stages
        self.make = make

    def after_stem(self, channels: int) -> AcrossUnits | None:
        """The block of conv1."""
        return self._at("conv1", channels)

    def after_block(self, site: BlockSite) -> AcrossUnits | None:
        """The block of conv2 to conv5."""
        return self._at(f"conv{site.stage}", site.out_channels) if site.last else None

    def _at(self, place: str, channels: int) -> AcrossUnits | None:
        return self.make(channels) if place in self.stages else None


@register_family("f4d", paper="F4D, 2024 (ICAART)", clips={ResNetSpec: CLIP})
def f4d(
    spec: ResNetSpec,
    *,
    in_chans: int = 3,
    stages: Sequence[str] = PLACES[1:],
    width: float | None = 3 / 32,
    attention: str = "ta+ca+sta",
    block_drop_rate: float = 0.0,
) -> ResNet3d:
    """Builds an F4D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        stages: any of conv1 to conv5 (table 2).
        width: channels of the factors as a share of the stage's; None for all of them, as in section 3.3.
        attention: any of ta+ca+sta in this order (table 4), or se, cbam (table 5), none.
        block_drop_rate: dropout of the blocks; the paper gives no rate.
    """
    if unknown := sorted(set(stages) - set(PLACES)):
        raise ValueError(f"stages={list(stages)}: no place for a block {unknown}: known are {PLACES}")
    make = partial(FactorisedBlock, width=width, attention=attention, drop_rate=block_drop_rate)
    plan = F4DPlan(stages, make)
    return ResNet3d(spec, plan, in_chans=in_chans)


register_student("f4d_resnet18", "f4d", RESNET18, CLIP, source="resnet18")
register_student("f4d_resnet50", "f4d", RESNET50, CLIP, source="resnet50")
register_student("f4d_tiny", "f4d", TEST_RESNET, replace(TINY_CLIP, frames=4, units=4), source="test_resnet")
