"""Image-video correspondence: do these frames and this clip belong together?

Temporal 3D ConvNets (Diba et al. 2017, arXiv:1711.08200), sections 3.2 and 4.5. A frozen image model
sees the frames, the student sees the clip; their features are concatenated and pass fc 512, fc 128 and a
2-way softmax. Only the student and this head learn.

Beyond the paper: with `pairs="in-batch"` the B clips and B frame sets of an optimiser step, over all
processes and parts, make B positives and up to B(B - 1) negatives. Further terms of the loss learn from the
same two features, each with a weight: contrast (`infonce`), regression onto the teacher's feature
(`feature`), and distillation of its class scores (`kd`).
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
from transfer3d.objectives.diagnostics import effective_rank, recall, relative_std, shuffled_clip_accuracy
from transfer3d.objectives.feature_cache import FeatureCache
from transfer3d.objectives.heads import FeatureHead, PairHead, SimilarityHead
from transfer3d.objectives.losses import distillation, infonce, matching
from transfer3d.objectives.objective import Embeddings, LossReport, PairwiseObjective
from transfer3d.objectives.pairs import Pairs, choose_negatives, different_sources, source_ids
from transfer3d.objectives.teacher import FrozenTeacher

RECALLS = (1, 5)


class CorrespondenceConfig(BaseModel):
    """The terms of the loss, how frames and clips are paired, and the matching head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: Pairs = "in-batch"
    """in-batch: every frame set with every clip; one-to-one: one negative for each positive (the paper);
    hard: all of these, and once more, with the same total weight, the head's worst mistakes."""
    hidden: tuple[PositiveInt, PositiveInt] = (512, 128)
    """Widths of fc1 and fc2."""
    standardise: bool = False
    """Whether BatchNorm without scale and shift standardises both features before fc1 (the paper: no)."""
    student_fc: PositiveInt | None = None
    """Width of a linear layer between the student's pooled feature and the heads (the paper's: 1024). It is
    trained with the heads and left behind with them; none by default."""
    match: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Weight of the matching task (the paper's)."""
    infonce: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of InfoNCE between all frame sets and clips of a batch."""
    feature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the regression onto the teacher's feature."""
    kd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of distilling the teacher's class scores; the student gets the teacher's classes."""
    temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Temperature of infonce."""
    kd_temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Temperature of kd."""
    teacher_view: Literal["same", "independent", "centre"] = "same"
    """How the teacher sees the clip's frames: same = the student's own pixels; independent = crop, flip and
    colours drawn again, so that no border and no tint gives the pair away; centre = the centre crop."""
    cache: str | None = None
    """Folder that keeps the teacher's features, for this run and later ones; with teacher_view "centre"."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not any((self.match, self.infonce, self.feature, self.kd)):
            raise ValueError("all weights are 0: set match, infonce, feature or kd above 0")
        if self.cache is not None and self.teacher_view != "centre":
            raise ValueError('a cache needs teacher_view = "centre": other views are random')
        return self


class Correspondence(PairwiseObjective):
    """T3D's objective: a student learns to match a frozen teacher's view of the same frames.

    Only the student and the heads of the terms that have a weight are trained and saved.

    Example:
        >>> objective = Correspondence(FrozenTeacher(timm.create_model("resnet50")), student)
        >>> report = objective(batch)
        >>> report.total.backward()

    Args:
        teacher: frozen.
        student: a `VideoStudent`, or any module that maps normalised clips to features B D.
        config: terms, pairs and head.
        clip: what the student sees; by default its own `clip`.
        num_features: D; by default the student's own `num_features`.
        seed: of the heads' initial weights.
        cache: asked instead of the teacher where the batch's teacher views have keys.

    Raises:
        UsageError: kd with different numbers of classes, or a student without `clip` or `num_features`.
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
        cache: FeatureCache | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or CorrespondenceConfig()
        clip, num_features = (
            clip or getattr(student, "clip", None),
            num_features or getattr(student, "num_features", 0),
        )
        if clip is None or not num_features:
            raise UsageError(f"{type(student).__name__} has no clip or no num_features: pass both.")
        classes = getattr(student, "num_classes", 0)
        if config.kd and not 0 < classes == teacher.num_classes:
            raise UsageError(
                f"kd needs one label space: teacher {teacher.name} has {teacher.num_classes} classes, "
                f"the student {classes or 'none'}. Choose another of the two, or set correspondence.kd=0."
            )
        self.teacher, self.student, self.clip, self.cache = teacher, student, clip, cache
        widths = teacher.num_features, config.student_fc or num_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.student_fc = nn.Linear(num_features, config.student_fc) if config.student_fc else None
            self.head = (
                PairHead(*widths, config.hidden, standardise=config.standardise) if config.match else None
            )
            self.similarity = SimilarityHead(*widths) if config.infonce else None
            self.feature = FeatureHead(*widths) if config.feature else None

    @property
    def teacher_view(self) -> str:
        """The second view that batches must bring: "none", "independent" or "centre"."""
        return "none" if self.config.teacher_view == "same" else self.config.teacher_view

    def embed(self, batch: ClipBatch) -> Embeddings:
        """Runs teacher and student on the clips of a batch."""
        teacher_clips = batch.clips if batch.teacher_clips is None else batch.teacher_clips
        if self.cache is None or batch.teacher_view_keys is None:
            taught = self.teacher(teacher_clips)
        else:
            taught = self.cache(teacher_clips, batch.teacher_view_keys)
        clips = normalise(batch.clips, self.clip.mean, self.clip.std)
        logits = None
        if isinstance(self.student, VideoStudent):
            features = self.student.forward_head(self.student.forward_features(clips), pre_logits=True)
            logits = self.student.head(features) if self.config.kd else None
        else:
            features = self.student(clips).flatten(1)
        sources = source_ids(batch.sources, features.device)
        return Embeddings(
            features, taught.features, sources, logits, taught.logits if self.config.kd else None
        )

    def compare(self, embeddings: Embeddings) -> LossReport:
        """Returns the weighted sum of the terms; each term, accuracies and recalls as parts (0..1)."""
        config, frames, features = self.config, embeddings.teacher_features, embeddings.features
        clips = features if self.student_fc is None else self.student_fc(features)
        different_BB = different_sources(embeddings.sources)
        match_BB2 = self.head and self.head(frames, clips)
        similarity_BB = self.similarity and self.similarity(frames, clips)
        feature_error = self.feature and self.feature(frames, clips)
        terms: dict[str, tuple[float, Tensor]] = {}
        metrics: dict[str, Tensor] = {}
        if similarity_BB is not None:
            terms["infonce"] = (config.infonce, infonce(similarity_BB, different_BB, config.temperature))
            metrics |= _recalls(similarity_BB, different_BB)
        if match_BB2 is not None:
            loss, matching_metrics = _match(match_BB2, different_BB, config.pairs)
            terms["match"] = (config.match, loss)
            metrics |= matching_metrics
        if feature_error is not None:
            terms["feature"] = (config.feature, feature_error)
        if embeddings.logits is not None and embeddings.teacher_logits is not None:
            kd = distillation(embeddings.logits, embeddings.teacher_logits, config.kd_temperature)
            terms["kd"] = (config.kd, kd)
        total = torch.stack([weight * loss.float() for weight, loss in terms.values()]).sum()
        metrics["feature_directions"] = effective_rank(features)
        metrics["feature_spread"] = relative_std(features)
        losses = {f"{name}_loss": loss.detach() for name, (_, loss) in terms.items()}
        return LossReport(total, {"loss": total.detach(), **(losses if len(losses) > 1 else {}), **metrics})


def _match(logits_BB2: Tensor, different_BB: Tensor, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the matching loss, and accuracies over all pairs, comparable between choices of pairs."""
    match_logits_BB = (logits_BB2[..., 1] - logits_BB2[..., 0]).detach()
    negatives_BB = choose_negatives(different_BB, match_logits_BB, pairs)
    loss, overall = matching(logits_BB2, negatives_BB).loss, matching(logits_BB2, different_BB)
    if pairs == "hard":
        # At first the hardest negatives look like matches: a head that sees no others stays at chance.
        loss = (loss + overall.loss) / 2
    metrics = {"matched_accuracy": overall.matched}
    if overall.mismatched is not None and overall.balanced is not None:
        metrics |= {"mismatched_accuracy": overall.mismatched, "balanced_accuracy": overall.balanced}
        metrics["shuffled_accuracy"] = shuffled_clip_accuracy(match_logits_BB, negatives_BB, different_BB)
    return loss, metrics | _recalls(match_logits_BB, different_BB)


def _recalls(match_logits_BB: Tensor, different_BB: Tensor) -> dict[str, Tensor]:
    return {f"recall_at_{k}": recall(match_logits_BB.detach(), different_BB, k) for k in RECALLS}
