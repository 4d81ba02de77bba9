"""Image-video correspondence: do these frames and this clip come from the same video?

Temporal 3D ConvNets (Diba et al. 2017, arXiv:1711.08200), sections 3.2 and 4.5. A frozen image model
sees the frames, the student sees the clip; their features are concatenated and pass fc 512, fc 128 and a
2-way softmax. Only the student and this head are trained.

Beyond the paper: with `pairs="in-batch"` the B clips and B frame sets of an optimiser step, over all
processes and accumulation steps, make B positives and up to B(B - 1) negatives. Further weighted loss terms
use the same two features: a contrastive loss (`infonce`), regression onto the teacher's feature (`feature`),
and distillation of its class scores (`kd`); one more uses the feature maps (`dense`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transfer3d.batch import ClipBatch
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.bank import FeatureBank
from transfer3d.objectives.class_attention import class_attention
from transfer3d.objectives.config import CorrespondenceConfig, Pairs
from transfer3d.objectives.dense import DenseHead, spread_layers
from transfer3d.objectives.diagnostics import effective_rank, recall, relative_std, shuffled_clip_accuracy
from transfer3d.objectives.feature_cache import FeatureCache
from transfer3d.objectives.frames import spread_frames
from transfer3d.objectives.heads import FeatureHead, PairHead, SimilarityHead
from transfer3d.objectives.losses import distillation, infonce, matching
from transfer3d.objectives.objective import Embeddings, LossReport, PairwiseObjective
from transfer3d.objectives.pairs import choose_negatives, different_sources, source_ids
from transfer3d.objectives.teacher import FrozenTeacher

RECALLS = (1, 5)


class Correspondence(PairwiseObjective):
    """T3D's objective: a student learns whether its clip and the teacher's frames come from the same video.

    Only the student and the heads of terms with a nonzero weight are trained. They are saved together with
    the bank, which is filled only in training mode.

    Example:
        >>> objective = Correspondence(FrozenTeacher(timm.create_model("resnet50")), student)
        >>> report = objective(batch)
        >>> report.total.backward()

    Args:
        teacher: frozen.
        student: a `VideoStudent`, or any module that maps normalised clips to features B D.
        config: terms, pairs and head.
        clip: the student's input; by default its own `clip`.
        num_features: D; by default the student's own `num_features`.
        seed: for the heads' initial weights.
        cache: used instead of the teacher for batches with `teacher_view_keys`.

    Raises:
        UsageError: kd with different numbers of classes, a student without `clip` or `num_features`, more
            teacher frames than a clip has, or dense without feature maps or class attention.
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
        clip = clip or getattr(student, "clip", None)
        num_features = num_features or getattr(student, "num_features", 0)
        if clip is None or not num_features:
            raise UsageError(f"{type(student).__name__} has no clip or no num_features: pass both.")
        classes = getattr(student, "num_classes", 0)
        if config.kd and not 0 < classes == teacher.num_classes:
            raise UsageError(
                f"kd needs one label space: teacher {teacher.name} has {teacher.num_classes} classes, "
                f"the student {classes or 'none'}. Choose another of the two, or set correspondence.kd=0."
            )
        _check_frames(teacher, config.teacher_frames, clip)
        self.teacher, self.student, self.clip, self.cache = teacher, student, clip, cache
        self._clip_layers, self._frame_layers = list[int](), list[int]()
        widths = teacher.num_features, config.student_fc or num_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.student_fc = nn.Linear(num_features, config.student_fc) if config.student_fc else None
            self.head = (
                PairHead(*widths, config.hidden, standardise=config.standardise) if config.match else None
            )
            self.similarity = SimilarityHead(*widths) if config.infonce else None
            self.feature = FeatureHead(*widths) if config.feature else None
            self.dense = self._dense_head() if config.dense else None
        self.bank = FeatureBank(config.bank, teacher.num_features) if config.bank else None

    @property
    def teacher_view(self) -> str:
        """The teacher view that batches must contain: "none", "independent" or "centre"."""
        views = {"same": "none", "native": "centre"}
        return views.get(self.config.teacher_view, self.config.teacher_view)

    @property
    def teacher_clip(self) -> ClipSpec:
        """Size and crop of the teacher's view."""
        return self.teacher.own_view(self.clip) if self.config.teacher_view == "native" else self.clip

    def embed(self, batch: ClipBatch) -> Embeddings:
        """Runs teacher and student on the clips of a batch."""
        teacher_clips = batch.clips if batch.teacher_clips is None else batch.teacher_clips
        teacher_clips = spread_frames(teacher_clips, self.config.teacher_frames)
        if self.cache is None or batch.teacher_view_keys is None:
            attention = self.dense is not None and self.config.dense_weights == "class"
            teacher_output = self.teacher(
                teacher_clips, self._frame_layers, attention=attention, logits=bool(self.config.kd)
            )
        else:
            teacher_output = self.cache(teacher_clips, batch.teacher_view_keys)
        clips = normalise(batch.clips, self.clip.mean, self.clip.std)
        logits = dense = None
        if isinstance(self.student, VideoStudent):
            maps, layers = self._student_maps(self.student, clips)
            features = self.student.forward_head(maps, pre_logits=True)
            dense = self.dense and self.dense(teacher_output.maps, layers, teacher_output.attention)
            logits = self.student.head(features) if self.config.kd else None
        else:
            features = self.student(clips).flatten(1)
        sources = source_ids(batch.sources, features.device)
        return Embeddings(
            features,
            teacher_output.features,
            sources,
            logits,
            teacher_output.logits if self.config.kd else None,
            dense,
        )

    def _dense_head(self) -> DenseHead:
        """Selects the pairs of layers, and builds the regressions between them."""
        teacher, student, pairs = self.teacher, self.student, self.config.dense_layers
        if not isinstance(student, VideoStudent):
            raise UsageError(
                f"dense: {type(student).__name__} has no feature maps. Use a VideoStudent, or set dense=0."
            )
        channels = [layer["num_chs"] for layer in student.feature_info], teacher.layer_features
        if not channels[1]:
            raise UsageError(
                f"dense: teacher {teacher.name} has no feature maps (no forward_intermediates). Set dense=0."
            )
        if pairs > (fewest := min(map(len, channels))):
            raise UsageError(
                f"dense_layers={pairs}: student and teacher have {len(channels[0])} and {len(channels[1])} "
                f"layers. Set at most {fewest}."
            )
        if self.config.dense_weights == "class":
            with class_attention(teacher.network, teacher.name):
                pass
        self._clip_layers, self._frame_layers = (spread_layers(len(each), pairs) for each in channels)
        clip_features, frame_features = (
            [each[index] for index in layers]
            for each, layers in zip(channels, (self._clip_layers, self._frame_layers), strict=True)
        )
        return DenseHead(frame_features, clip_features)

    def _student_maps(self, student: VideoStudent, clips: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the final feature maps, and those of the layers that dense compares."""
        if self.dense is None:
            return student.forward_features(clips), []
        final, maps = student.forward_intermediates(clips, self._clip_layers)
        if student.trunk.gives_tokens:
            maps[-1] = student.trunk.patch_maps(final, *maps[-1].shape[-2:])
        return final, maps

    def compare(self, embeddings: Embeddings) -> LossReport:
        """Returns the weighted sum of the terms, with each term, accuracies and recalls (0..1) as parts."""
        config, features = self.config, embeddings.features
        clips = features if self.student_fc is None else self.student_fc(features)
        frames, sources = embeddings.teacher_features, embeddings.sources
        if self.bank is not None:
            frames, sources = self.bank.join(frames, sources)
        different_MB = different_sources(embeddings.sources, sources)
        match_MB2 = self.head and self.head(frames, clips)
        similarity_MB = self.similarity and self.similarity(frames, clips)
        feature_error = self.feature and self.feature(embeddings.teacher_features, clips)
        terms: dict[str, tuple[float, Tensor]] = {}
        metrics: dict[str, Tensor] = {}
        if similarity_MB is not None:
            terms["infonce"] = (config.infonce, infonce(similarity_MB, different_MB, config.temperature))
            metrics |= _recalls(similarity_MB, different_MB)
        if match_MB2 is not None:
            loss, matching_metrics = _match(match_MB2, different_MB, config.pairs)
            terms["match"] = (config.match, loss)
            metrics |= matching_metrics
        if feature_error is not None:
            terms["feature"] = (config.feature, feature_error)
        if embeddings.dense is not None:
            terms["dense"] = (config.dense, embeddings.dense.mean())
        if embeddings.logits is not None and embeddings.teacher_logits is not None:
            kd = distillation(embeddings.logits, embeddings.teacher_logits, config.kd_temperature)
            terms["kd"] = (config.kd, kd)
        total = torch.stack([weight * loss.float() for weight, loss in terms.values()]).sum()
        metrics["feature_directions"] = effective_rank(features)
        metrics["feature_spread"] = relative_std(features)
        losses = {f"{name}_loss": loss.detach() for name, (_, loss) in terms.items()}
        if self.bank is not None and self.training:
            self.bank.add(embeddings.teacher_features, embeddings.sources)
        return LossReport(total, {"loss": total.detach(), **(losses if len(losses) > 1 else {}), **metrics})


def _check_frames(teacher: FrozenTeacher, frames: int | None, clip: ClipSpec) -> None:
    if frames is None:
        return
    if teacher.sees_time:
        raise UsageError(
            f"teacher_frames={frames}: {teacher.name} is a video model and needs whole clips. Leave it out."
        )
    if frames > clip.frames:
        raise UsageError(
            f"teacher_frames={frames}: the student's clip has {clip.frames}. Set at most as many."
        )


def _match(logits_MB2: Tensor, different_MB: Tensor, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the matching loss, and accuracies over all pairs of the batch, whatever `pairs` is."""
    match_logits_MB = (logits_MB2[..., 1] - logits_MB2[..., 0]).detach()
    negatives_MB = choose_negatives(different_MB, match_logits_MB, pairs)
    loss = matching(logits_MB2, negatives_MB).loss
    if pairs == "hard":
        # At first the hardest negatives look like matches: trained on them alone, a head stays at chance.
        loss = (loss + matching(logits_MB2, different_MB).loss) / 2
    clips = different_MB.shape[1]
    batch = matching(logits_MB2[:clips].detach(), different_MB[:clips])
    metrics = {"matched_accuracy": batch.matched}
    if batch.mismatched is not None and batch.balanced is not None:
        metrics |= {"mismatched_accuracy": batch.mismatched, "balanced_accuracy": batch.balanced}
        metrics["shuffled_accuracy"] = shuffled_clip_accuracy(match_logits_MB, negatives_MB, different_MB)
    return loss, metrics | _recalls(match_logits_MB, different_MB)


def _recalls(match_logits_MB: Tensor, different_MB: Tensor) -> dict[str, Tensor]:
    """Recalls among the clips of the batch."""
    clips = different_MB.shape[1]
    logits_BB, different_BB = match_logits_MB[:clips].detach(), different_MB[:clips]
    return {f"recall_at_{k}": recall(logits_BB, different_BB, k) for k in RECALLS}
