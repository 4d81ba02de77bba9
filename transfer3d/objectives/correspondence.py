"""Image-video correspondence: do these frames and this clip belong together?

Temporal 3D ConvNets (Diba et al. 2017, arXiv:1711.08200), sections 3.2 and 4.5. A frozen image model
sees the frames, the student sees the clip; their features are concatenated and pass fc 512, fc 128 and a
2-way softmax. Only the student and this head learn.

Beyond the paper: with `pairs="in-batch"` the B clips and B frame sets of a batch make B positives and up
to B(B - 1) negatives, at the cost of one sum; and other ways to learn from the same two features, each with
a weight: contrast (`infonce`), regression onto the teacher's feature (`feature`), its classes (`kd`).
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from transfer3d.batch import ClipBatch
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.diagnostics import directions, recall, spread, without_student
from transfer3d.objectives.feature_cache import LessonCache
from transfer3d.objectives.heads import FeatureHead, PairHead, SimilarityHead
from transfer3d.objectives.losses import distillation, infonce, matching
from transfer3d.objectives.objective import LossReport
from transfer3d.objectives.pairs import Pairs, choose_negatives, different_sources
from transfer3d.objectives.teacher import FrozenTeacher, Lesson

NEAREST = (1, 5)


class CorrespondenceConfig(BaseModel):
    """What is learnt from the teacher, how frames and clips are paired, and the head that judges them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: Pairs = "in-batch"
    """in-batch: every frame set with every clip; one-to-one: one negative for each positive (the paper);
    hard: all of these, and as much again for those that the head is most mistaken about."""
    hidden: tuple[PositiveInt, PositiveInt] = (512, 128)
    """Widths of fc1 and fc2."""
    match: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Weight of the matching task (the paper's)."""
    infonce: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the contrast between all frame sets and clips of a batch."""
    feature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the regression onto the teacher's feature."""
    kd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the teacher's class scores; the student gets its classes."""
    temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Of infonce."""
    kd_temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Of kd."""
    teacher_view: Literal["same", "independent", "centre"] = "same"
    """What the teacher sees of the clip's frames: the student's own pixels; crop, mirror and colours drawn
    once more, so that no border and no tint gives the pair away; or the centre, unvaried."""
    cache: str | None = None
    """Folder that keeps the teacher's features, for this run and later ones; with teacher_view "centre"."""

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if not any((self.match, self.infonce, self.feature, self.kd)):
            raise ValueError("every weight is 0: give match, infonce, feature or kd one")
        if self.cache is not None and self.teacher_view != "centre":
            raise ValueError('a cache needs teacher_view = "centre": other views never come again')
        return self


class CorrespondenceStudent(nn.Module):
    """What learns: the student and the heads of the terms that have a weight, wrapped as one module."""

    def __init__(
        self, student: nn.Module, student_features: int, teacher_features: int, config: CorrespondenceConfig
    ) -> None:
        super().__init__()
        self.student = student
        self.with_logits = config.kd > 0
        widths = (teacher_features, student_features)
        self.head = PairHead(*widths, config.hidden) if config.match else None
        self.similarity = SimilarityHead(*widths) if config.infonce else None
        self.feature = FeatureHead(*widths) if config.feature else None

    def forward(self, clips: Tensor, frames_BD: Tensor) -> dict[str, Tensor]:
        """Compares clips with the teacher's features of the same number of frame sets.

        Args:
            clips: normalised floats.
            frames_BD: the teacher's.

        Returns:
            "features" B D of the student and, for each term that has a weight: "match" B x B x 2,
            "similarity" B x B (rows = frames), "feature_error", "logits" B K.
        """
        if isinstance(self.student, VideoStudent):
            maps = self.student.forward_features(clips)
            features_BD = self.student.forward_head(maps, pre_logits=True)
        else:
            maps, features_BD = None, self.student(clips).flatten(1)
        found = {"features": features_BD}
        if self.head is not None:
            found["match"] = self.head(frames_BD, features_BD)
        if self.similarity is not None:
            found["similarity"] = self.similarity(frames_BD, features_BD)
        if self.feature is not None:
            found["feature_error"] = self.feature(frames_BD, features_BD)
        if self.with_logits and maps is not None and isinstance(self.student, VideoStudent):
            found["logits"] = self.student.forward_head(maps)
        return found


class Correspondence:
    """The objective of T3D: a student learns to match a frozen teacher's view of the same frames.

    Args:
        teacher: frozen, outside of everything that is optimised or saved.
        student: a `VideoStudent`, or any module that turns normalised clips into features.
        config: what is learnt, pairing and head.
        clip: what the student sees; a `VideoStudent` says it by itself.
        num_features: of the student; a `VideoStudent` says it by itself.
        seed: of the heads' weights.
        cache: asked instead of the teacher, where the batch's second views have names.

    Raises:
        UsageError: kd is wanted, and the label spaces do not meet.
        ValueError: a student that does not say what it takes or gives, without `clip` or `num_features`.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        student: nn.Module,
        config: CorrespondenceConfig | None = None,
        *,
        clip: ClipSpec | None = None,
        num_features: int | None = None,
        seed: int = 0,
        cache: LessonCache | None = None,
    ) -> None:
        self.config = config or CorrespondenceConfig()
        if isinstance(student, VideoStudent):
            clip, num_features = clip or student.clip, num_features or student.num_features
        if clip is None or num_features is None:
            raise ValueError("this student does not say its clip and num_features: give both")
        if self.config.kd:
            classes = student.num_classes if isinstance(student, VideoStudent) else None
            if not teacher.num_classes or classes != teacher.num_classes:
                raise UsageError(
                    f"kd needs one label space: teacher {teacher.name} has {teacher.num_classes} classes, "
                    f"the student {classes or 'none'}. Take another of the two, or set correspondence.kd=0.",
                )
        self.teacher, self.clip, self.cache = teacher, clip, cache
        widths = num_features, teacher.num_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trainable = CorrespondenceStudent(student, *widths, self.config)

    def loss(self, trainable: nn.Module, batch: ClipBatch) -> LossReport:
        """Returns the weighted sum of the terms, each term, accuracies and recalls (0..1; 0.5 is chance)."""
        seen_u8 = batch.clips if batch.teacher_clips is None else batch.teacher_clips
        if self.cache is None or batch.teacher_view_keys is None:
            lesson = self.teacher.look(seen_u8)
        else:
            lesson = self.cache.look(seen_u8, batch.teacher_view_keys)
        clips = normalise(batch.clips, self.clip.mean, self.clip.std)
        return self.judge(trainable(clips, lesson.features_BD), lesson, different_of(batch))

    def judge(self, found: dict[str, Tensor], lesson: Lesson, different_BB: Tensor) -> LossReport:
        """Turns what the student and its heads answered into a loss.

        Args:
            found: of `CorrespondenceStudent`.
            lesson: the teacher's.
            different_BB: which pairs come from different videos.
        """
        config, terms, signs = self.config, dict[str, tuple[float, Tensor]](), dict[str, Tensor]()
        if "similarity" in found:
            terms["infonce"] = (
                config.infonce,
                infonce(found["similarity"], different_BB, config.temperature),
            )
            signs |= _recalls(found["similarity"], different_BB)
        if "match" in found:
            loss, matched = _match(found["match"], different_BB, config.pairs)
            terms["match"] = (config.match, loss)
            signs |= matched
        if "feature_error" in found:
            terms["feature"] = (config.feature, found["feature_error"])
        if "logits" in found and lesson.logits_BK is not None:
            terms["kd"] = (config.kd, distillation(found["logits"], lesson.logits_BK, config.kd_temperature))
        total = torch.stack([weight * loss.float() for weight, loss in terms.values()]).sum()
        signs["feature_directions"] = directions(found["features"])
        signs["feature_spread"] = spread(found["features"])
        losses = {f"{name}_loss": loss.detach() for name, (_, loss) in terms.items()}
        return LossReport(total, {"loss": total.detach(), **(losses if len(losses) > 1 else {}), **signs})


def different_of(batch: ClipBatch) -> Tensor:
    """Returns `different_sources` of a batch, on its device."""
    return different_sources(batch.sources, batch.clips.device)


def _match(logits_BB2: Tensor, different_BB: Tensor, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
    belief_BB = (logits_BB2[..., 1] - logits_BB2[..., 0]).detach()
    negatives_BB = choose_negatives(different_BB, belief_BB, pairs)
    loss = matching(logits_BB2, negatives_BB).loss
    told = matching(logits_BB2, different_BB)  # of all pairs, so that every choice is measured alike
    if pairs == "hard":
        # The hardest alone look like matched ones at first: a head that sees no others stays at chance.
        loss = (loss + told.loss) / 2
    signs = {"matched_accuracy": told.matched}
    if told.mismatched is not None and told.balanced is not None:
        signs |= {"mismatched_accuracy": told.mismatched, "balanced_accuracy": told.balanced}
        signs["shuffled_accuracy"] = without_student(belief_BB, negatives_BB, different_BB)
    return loss, signs | _recalls(belief_BB, different_BB)


def _recalls(belief_BB: Tensor, different_BB: Tensor) -> dict[str, Tensor]:
    return {f"recall_at_{k}": recall(belief_BB.detach(), different_BB, k) for k in NEAREST}
