"""A correspondence step against one written from the paper's text, and against other halves of a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from transfer3d.batch import ClipBatch
from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.paired import Run
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import bf16_is_fast, make_accelerator
from transfer3d.engine.trainer import Trainer
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.config import CorrespondenceConfig
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.objectives.feature_cache import FeatureCache
from transfer3d.objectives.teacher import FrozenTeacher, TeacherOutput

TEACHER, STUDENT = "densenet121", "p3d63"
CLIP = ClipSpec(frames=16, stride=2, size=112, crop=128)
CLIPS, STEPS = 8, 2
FEW = 4


@dataclass(frozen=True, kw_only=True)
class TeacherHalf:
    """How our side gets the teacher's features, and the ratio expected to a teacher as it was given.

    Attributes:
        ours: what is done.
        own_size: whether the teacher sees frames of its own size, on both sides.
        frames: how many of a clip's frames it sees; None = all.
        cached: whether its features are read and not computed: no teacher could be faster.
        at_least: see `Case`.
    """

    ours: str
    own_size: bool = False
    frames: int | None = None
    cached: bool = False
    at_least: float | None = None


HALVES = (
    TeacherHalf(ours="norms folded, no scores", at_least=1.0),
    TeacherHalf(ours=f"the same, {FEW} frames a clip", frames=FEW, at_least=1.15),
    TeacherHalf(ours="features cached: no teacher at all", cached=True, at_least=1.25),
    TeacherHalf(ours="norms folded, no scores", own_size=True, at_least=1.0),
    TeacherHalf(ours=f"the same, {FEW} frames a clip", own_size=True, frames=FEW, at_least=1.5),
    TeacherHalf(ours="features cached: no teacher at all", own_size=True, cached=True, at_least=2.0),
)


def correspondence_cases(scratch: Path) -> Iterator[Case]:
    """Yields the cases; ours and the baseline process the same number of clips.

    In the first two, ours pairs each clip with the frames of every clip, the plain step with its own and one
    other's. In the others both sides are our step; the baseline's teacher computes as it was given.

    Args:
        scratch: folder for the cache of teacher outputs.
    """
    name = f"correspond, {TEACHER} -> {STUDENT}, {CLIPS} clips of 16x{CLIP.size}x{CLIP.size}"
    for ours, at_least, cached in (("all pairs", 4.0, False), ("all pairs, features cached", 6.0, True)):
        yield Case(
            name=name,
            phase="step",
            ours=ours,
            baseline="plain fp32 code, a pass for each pair set",
            at_least=at_least,
            build=_against_plain(scratch / "teacher" if cached else None),
            counts={"clips": (STEPS * CLIPS, STEPS * CLIPS), "pairs": (STEPS * CLIPS**2, STEPS * 2 * CLIPS)},
        )
    for number, half in enumerate(HALVES):
        yield Case(
            name=f"teacher's half of {name}" + (", at its own size" if half.own_size else ""),
            phase="step",
            ours=half.ours,
            baseline="a teacher as given, all frames",
            at_least=half.at_least,
            build=_against_given(half, scratch / f"half{number}"),
        )


class GivenTeacher(FrozenTeacher):
    """Computes as a user would: the network as it is, features and class scores of every frame."""

    @torch.no_grad()
    def forward(
        self, clips: Tensor, layers: Sequence[int] = (), *, attention: bool = False, logits: bool = True
    ) -> TeacherOutput:
        """See the base class; neither maps nor attention."""
        frames = normalise(clips.transpose(1, 2).flatten(0, 1), self.mean, self.std)
        network = cast(Any, self.network)
        maps = network.forward_features(frames.contiguous(memory_format=torch.channels_last))
        features, scores = (network.forward_head(maps, pre_logits=only) for only in (True, False))
        of_clips = (rows.float().unflatten(0, (len(clips), -1)).mean(1) for rows in (features, scores))
        return TeacherOutput(*of_clips)


def _against_given(half: TeacherHalf, folder: Path) -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        given = GivenTeacher(create_image_model(TEACHER, "none")).to(device)
        teacher = FrozenTeacher(given.network)
        batch = _batch(device, teacher.own_view(CLIP).size if half.own_size else CLIP.size)
        cache = FeatureCache(teacher, folder, scope="bench") if half.cached else None
        return Comparison(
            ours=_steps(teacher, batch, cache, CorrespondenceConfig(teacher_frames=half.frames)),
            baseline=_steps(given, batch),
        )

    return build


def _batch(device: torch.device, teacher_size: int) -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    clips_u8, teacher_u8 = (
        torch.randint(
            0, 256, replace(CLIP, size=size, crop=size).shape(CLIPS), dtype=torch.uint8, generator=generator
        ).to(device)
        for size in (CLIP.size, teacher_size)
    )
    names = [str(number) for number in range(CLIPS)]
    return ClipBatch(clips_u8, torch.full((CLIPS,), -1, device=device), names, names, None, teacher_u8, names)


def _steps(
    teacher: FrozenTeacher,
    batch: ClipBatch,
    cache: FeatureCache | None = None,
    config: CorrespondenceConfig | None = None,
) -> Run:
    """Returns a function that takes `STEPS` steps of the trainer on one batch."""
    student = create_model(STUDENT, num_classes=0, clip=CLIP)
    trainer = Trainer(
        Correspondence(teacher, student, config, cache=cache),
        lambda _: repeat(batch),
        TrainerConfig(steps=STEPS, lr=1e-3, log_every=STEPS),
        accelerator=make_accelerator("bf16" if bf16_is_fast() else "fp32"),
    )

    def run() -> None:
        trainer.step = 0
        trainer.run()

    return run


def _against_plain(folder: Path | None) -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        teacher = FrozenTeacher(create_image_model(TEACHER, "none")).to(device)
        cache = None if folder is None else FeatureCache(teacher, folder, scope="bench")
        batch = _batch(device, CLIP.size)
        plain_student = load_baseline("p3d_plain").PlainP3D63(1)
        features = (teacher.num_features, plain_student.fc.in_features)
        plain_student.fc = torch.nn.Identity()
        plain_teacher = create_image_model(TEACHER, "none")
        plain = load_baseline("correspond_plain").PlainCorrespondence(plain_teacher, plain_student, features)
        for network in (plain_teacher, plain_student, plain.head):
            network.to(device)

        def baseline() -> None:
            for _ in range(STEPS):
                plain.step(batch.clips, (teacher.mean, teacher.std), (CLIP.mean, CLIP.std))

        return Comparison(ours=_steps(teacher, batch, cache), baseline=baseline)

    return build
