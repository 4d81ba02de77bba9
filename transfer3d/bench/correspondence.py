"""A correspondence training step against one written from the paper's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import torch

from transfer3d.batch import ClipBatch
from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import bf16_is_fast, make_accelerator
from transfer3d.engine.trainer import Trainer
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.objectives.feature_cache import FeatureCache
from transfer3d.objectives.teacher import FrozenTeacher

TEACHER, STUDENT = "densenet121", "p3d63"
CLIP = ClipSpec(frames=16, stride=2, size=112, crop=128)
CLIPS, STEPS = 8, 2


def correspondence_cases(scratch: Path) -> Iterator[Case]:
    """Yields the cases; ours and the baseline process the same number of clips.

    Ours pairs each clip with the frames of every clip, the plain step with its own and one other's.

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
            build=_comparison(scratch / "teacher" if cached else None),
            counts={"clips": (STEPS * CLIPS, STEPS * CLIPS), "pairs": (STEPS * CLIPS**2, STEPS * 2 * CLIPS)},
        )


def _comparison(folder: Path | None) -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        teacher = FrozenTeacher(create_image_model(TEACHER, "none")).to(device)
        student = create_model(STUDENT, num_classes=0, clip=CLIP)
        cache = None if folder is None else FeatureCache(teacher, folder, scope="bench")
        objective = Correspondence(teacher, student, cache=cache)
        shape = (CLIPS, 3, CLIP.frames, CLIP.size, CLIP.size)
        generator = torch.Generator().manual_seed(0)
        clips_u8 = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
        names = [str(number) for number in range(CLIPS)]
        labels = torch.full((CLIPS,), -1, device=device)
        batch = ClipBatch(clips_u8, labels, names, names, None, clips_u8, names)
        trainer = Trainer(
            objective,
            lambda _: repeat(batch),
            TrainerConfig(steps=STEPS, lr=1e-3, log_every=STEPS),
            accelerator=make_accelerator("bf16" if bf16_is_fast() else "fp32"),
        )

        def ours() -> None:
            trainer.step = 0
            trainer.run()

        plain_student = load_baseline("p3d_plain").PlainP3D63(1)
        plain_student.fc = torch.nn.Identity()
        plain_teacher = create_image_model(TEACHER, "none")
        plain = load_baseline("correspond_plain").PlainCorrespondence(
            plain_teacher, plain_student, (teacher.num_features, student.num_features)
        )
        for network in (plain_teacher, plain_student, plain.head):
            network.to(device)

        def baseline() -> None:
            for _ in range(STEPS):
                plain.step(clips_u8, (teacher.mean, teacher.std), (CLIP.mean, CLIP.std))

        return Comparison(ours=ours, baseline=baseline)

    return build
