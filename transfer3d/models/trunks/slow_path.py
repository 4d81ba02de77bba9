"""I3D-S, SlowFast's slow path: the temporal plan of I3D-S, V4D and F4D.

Papers: Feichtenhofer et al., "SlowFast Networks for Video Recognition", arXiv:1812.03982, table 1;
Zhang et al., "V4D", ICLR 2020, table 1.
"""

from __future__ import annotations

from transfer3d.models.trunks.resnet3d import ConvSite, TimePlan

FIRST_TEMPORAL_STAGE = 4


class SlowPathPlan(TimePlan):
    """In res4 and res5 every 3x3 of a basic block is 3x3x3, the first 1x1 of a bottleneck 3x1x1.

    T is never strided.
    """

    def depth(self, site: ConvSite) -> int:
        """3 where the paper's table 1 says so, else 1."""
        temporal = site.block.stage >= FIRST_TEMPORAL_STAGE
        return 3 if temporal and (site.block.kind == "basic" or site.index == 0) else 1
