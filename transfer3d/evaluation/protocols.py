"""The papers' test protocols: the views of a video, and the pooling of their scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from transfer3d.data.peers import Peer
from transfer3d.data.views import Crops, FrameOrder, ViewPlan
from transfer3d.errors import UsageError, did_you_mean
from transfer3d.evaluation.pooling import Pooling
from transfer3d.layout import ClipSpec
from transfer3d.models.registry import family_of
from transfer3d.models.student import VideoStudent


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A test protocol.

    Attributes:
        name: as in `transfer3d evaluate --protocol NAME`.
        source: paper and section.
        plan: the views.
        pooling: pooling of the views' scores; see `pooling`.
        combinations: whether a video-level student scores every combination of units (V4D, algorithm 1),
            instead of all units in one pass.
        full_size: whether crops are as large as the resized frame's short side, instead of the student's own
            size (fully convolutional testing).
    """

    name: str
    source: str
    plan: ViewPlan
    pooling: Pooling = "mean"
    combinations: bool = False
    full_size: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the views and pooling, JSON-able."""
        plan = {**asdict(self.plan), "orders": list(self.plan.orders)}
        return {"name": self.name, **plan, "pooling": self.pooling}

    def clip_for(self, clip: ClipSpec) -> ClipSpec:
        """Returns the clip spec of this protocol's views, for a student with `clip`."""
        short = clip.crop if isinstance(clip.crop, int) else min(clip.crop)
        return replace(clip, size=short, crop=short) if self.full_size else clip


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="dense", source="--clips x --crops, evenly; by default the centre", plan=ViewPlan()),
        Protocol(name="p3d", source="P3D section 4: 20 random clips, centre crop, mean",
                 plan=ViewPlan(places="random", count=20)),
        Protocol(name="t3d", source="T3D section 4.4: all clips that do not overlap, centre crop, mean",
                 plan=ViewPlan(places="cover")),
        Protocol(name="tsn", source="T3D section 4.6, T3D+TSN: 5 clips, scores averaged before the softmax",
                 plan=ViewPlan(places="units", count=5), pooling="consensus"),
        Protocol(name="v4d", source="V4D section 4.2: 10 units x 3 full crops, algorithm 1",
                 plan=ViewPlan(places="units", count=10, crops=3), combinations=True, full_size=True),
        Protocol(name="f4d", source="F4D section 4.3: 10 units x 3 crops, all units in one pass",
                 plan=ViewPlan(places="units", count=10, crops=3)),
        Protocol(name="windows", source="V4D appendix A.1: TSN's multi-scale windows of untrimmed videos",
                 plan=ViewPlan(places="windows"), pooling="windows"),
        Protocol(name="slowfast-10x3", source="SlowFast's test: 10 clips x 3 full crops, mean",
                 plan=ViewPlan(places="slowfast", count=10, crops=3, three="slowfast"), full_size=True),
        Protocol(name="mmaction2-10x3", source="mmaction2's: its starts, ThreeCrop, average_clips='prob'",
                 plan=ViewPlan(places="mmaction2", count=10, crops=3, three="mmaction2"), full_size=True),
        Protocol(name="pytorchvideo-10x3", source="pytorchvideo's: constant clips, uniform crops, mean",
                 plan=ViewPlan(places="pytorchvideo", count=10, crops=3, three="slowfast"), full_size=True),
    )
}  # fmt: skip

CENTRE = PROTOCOLS["dense"]

REVERSALS: dict[str, FrameOrder] = {"frames": "frames_reversed", "units": "units_reversed"}
"""Reversible axes, as in `transfer3d evaluate --reverse NAME`."""


def named_protocol(
    name: str,
    *,
    clips: int | None = None,
    crops: int | None = None,
    reverse: str | None = None,
    seed: int = 0,
) -> Protocol:
    """Returns a protocol of the table.

    Args:
        name: name of the protocol.
        clips: per video, for "dense" only.
        crops: per clip, 1, 3 or 10, for "dense" only.
        reverse: see `REVERSALS`.
        seed: for random clips.

    Raises:
        UsageError: no such protocol, or one that does not support these options.
    """
    if name not in PROTOCOLS:
        near = did_you_mean(name, PROTOCOLS)
        raise UsageError(f"no protocol '{name}'{near}: must be one of {', '.join(PROTOCOLS)}.")
    protocol = PROTOCOLS[name]
    if name != "dense" and (clips is not None or crops is not None):
        raise UsageError(f"--protocol {name} has its own clips and crops. Choose them with --protocol dense.")
    plan = replace(protocol.plan, seed=seed)
    if clips is not None:
        plan = replace(plan, count=clips)
    if crops is not None:
        if crops not in get_args(Crops):
            raise UsageError(f"--crops {crops}: must be 1, 3 or 10.")
        plan = replace(plan, crops=crops)
    if reverse is not None:
        if reverse not in REVERSALS:
            raise UsageError(f"--reverse {reverse}: must be {' or '.join(REVERSALS)}.")
        plan = replace(plan, orders=(REVERSALS[reverse],))
    return replace(protocol, plan=plan)


def check_protocol(protocol: Protocol, student: VideoStudent) -> None:
    """Raises UsageError if a student does not support a protocol."""
    if student.clip.units == 1 and any(order.startswith("units") for order in protocol.plan.orders):
        raise UsageError(f"{student.model_name} takes single clips: it has no units to reorder.")
    if student.clip.units > 1 and protocol.plan.places in get_args(Peer):
        raise UsageError(
            f"{student.model_name} takes several units together, which --protocol {protocol.name} does not "
            "support. Use v4d or f4d."
        )
    if protocol.combinations and family_of(student.model_name).name == "f4d":
        raise UsageError(f"{student.model_name} takes all units in one pass: use --protocol f4d.")
