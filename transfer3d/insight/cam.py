"""3D class activation maps: where and when a clip contains evidence for a class.

Papers: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, section 2; in 3D as
in Zhang et al., "V4D", ICLR 2020, appendix A.2; for layers before the last one Selvaraju et al., "Grad-CAM",
ICCV 2017, equations (1) and (2), by captum; for vision transformers see `insight/token_cam.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import NonFiniteError, SetupError, UsageError, did_you_mean
from transfer3d.insight.token_cam import token_evidence
from transfer3d.layout import Triple
from transfer3d.models.student import UNITS_NDIM, VideoStudent
from transfer3d.models.trunks.trunk import CLIP_NDIM
from transfer3d.models.trunks.vit import VideoViT

Method = Literal["auto", "classifier", "gradcam"]
FRAMES_NDIM = 4  # N C H W: the layers of a timm network process the frames of clips as a batch
LAST = "last"
"""Name for the layer whose feature maps are pooled."""
FINE_SPACE, FINE_TIME = 4, 2
"""Minimum resolution of informative maps, in positions and time steps."""


@dataclass(frozen=True)
class ClassMap:
    """The class activation map of one clip.

    Attributes:
        evidence: float32 [T' H' W'], or [U T' H' W'] for a video-level student, at the layer's resolution;
            negative values are evidence against the class. With "classifier" its mean and the classifier's
            bias add up to the class's logit.
        heat: float32 [T H W] or [U T H W], 0..1: the positive evidence, upsampled to the clip's size and
            divided by its highest value. All 0 if there is no positive evidence.
        scores_K: probabilities of the classes, float32.
        target: the explained class.
        method: "classifier" or "gradcam".
        layer: the layer of the feature maps.
    """

    evidence: Tensor
    heat: Tensor
    scores_K: Tensor
    target: int
    method: Method
    layer: str

    @property
    def predicted(self) -> int:
        """The class with the highest score."""
        return int(self.scores_K.argmax())

    @property
    def has_evidence(self) -> bool:
        """Whether there is positive evidence for the class; if not, the heat map is 0 everywhere."""
        return bool((self.evidence > 0).any())

    @property
    def cells(self) -> int:
        """The number of cells of the layer's feature maps, positions times time steps, per unit."""
        return math.prod(self.evidence.shape[-3:])

    def headline(self, classes: Sequence[str], true: str | None = None) -> str:
        """Returns a title with the true class, the predicted class and the class of the heat map."""
        parts = [] if true is None else [f"true {true}"]
        parts += [f"predicted {classes[self.predicted]} ({self.scores_K[self.predicted]:.1%})"]
        if self.target != self.predicted:
            parts += [f"heat for {classes[self.target]} ({self.scores_K[self.target]:.1%})"]
        if not self.has_evidence:
            parts += [f"no evidence for {classes[self.target]} in the clip"]
        if self.cells == 1:
            parts += ["the layer has a single cell: no resolution in space or time"]
        return ", ".join(parts)


def class_map(
    student: VideoStudent,
    clip_u8: Tensor,
    *,
    target: int | None = None,
    method: Method = "auto",
    layer: str | None = None,
) -> ClassMap:
    """Computes the class activation map of a clip.

    Args:
        student: with a classifier, on any device; run in eval mode; its mode is restored.
        clip_u8: one clip, uint8 C T H W, or U C T H W for a video-level student, of any supported size.
        target: the class; None = the one with the highest score.
        method: "classifier" weights the last feature maps by the classifier's weights (Zhou et al.),
            "gradcam" those of `layer` by their mean gradients, per unit (Selvaraju et al.). "auto" chooses
            the deepest layer with at least 4x4 positions and 2 time steps, and the classifier if that is the
            last layer.
        layer: a layer of the trunk (`Trunk.layers`), or "last"; None = chosen by `method`. For
            a vision transformer the last is the deepest block on whose patch tokens the scores depend.

    Raises:
        UsageError: no classifier, no such class or layer, or a layer without feature maps; "classifier" for a
            student whose pooling is not an average, such as every vision transformer.
        SetupError: Grad-CAM without captum (the `cam` extra).
        NonFiniteError: a score is NaN or infinite.
    """
    if student.num_classes == 0:
        raise UsageError(f"{student.model_name} has no classifier, so there is no class to explain.")
    if target is not None and not 0 <= target < student.num_classes:
        raise UsageError(f"no class {target}: the student has {student.num_classes}, numbered from 0.")
    was_training = student.training
    student.eval()
    try:
        device = next(student.parameters()).device
        clips = student.normalise(clip_u8[None].to(device))
        with torch.no_grad():
            maps = student.forward_features(clips)
            logits_K = student.forward_head(maps)[0].float()
        if not logits_K.isfinite().all():
            raise NonFiniteError(f"{student.model_name}: the clip's scores are not finite.")
        chosen = int(logits_K.argmax()) if target is None else target
        trunk = student.trunk
        if isinstance(trunk, VideoViT) and method != "classifier":
            method = "gradcam"
            block = None if layer == LAST else layer
            evidence, layer = token_evidence(student, trunk, clips, chosen, block)
        else:
            if method == "auto":
                layer = layer or _deepest_fine(student, clips)
                method = "classifier" if layer == LAST and _averages(student) else "gradcam"
            layer = layer or LAST
            if method == "classifier":
                evidence = _by_classifier(student, maps, chosen, layer)
            else:
                evidence = _by_gradients(student, clips, chosen, layer)
    finally:
        student.train(was_training)
    evidence = evidence.detach().float().cpu()
    return ClassMap(
        evidence if student.clip.units > 1 else evidence[0],
        _heat(evidence, clip_u8),
        student.probabilities(logits_K).cpu(),
        chosen,
        method,
        layer,
    )


def layer_sizes(student: VideoStudent, clips: Tensor) -> dict[str, Triple]:
    """Returns (T', H', W') of the feature maps at each layer, in the order of execution.

    Args:
        student: in eval mode.
        clips: one clip, normalised, with its axis B.
    """
    names = list(student.trunk.layers())
    with torch.no_grad():
        last, maps = student.forward_intermediates(clips, names)
    sized = {**dict(zip(names, maps, strict=True)), LAST: last}
    return {
        name: (layer.shape[2] // student.clip.units, layer.shape[3], layer.shape[4])
        for name, layer in sized.items()
    }


def _deepest_fine(student: VideoStudent, clips: Tensor) -> str:
    """Returns the deepest layer whose maps have the minimum resolution."""
    times = min(FINE_TIME, clips.shape[-3])
    sizes = layer_sizes(student, clips)
    fine = [name for name, (t, h, w) in sizes.items() if t >= times and min(h, w) >= FINE_SPACE]
    return fine[-1] if fine else LAST


def _averages(student: VideoStudent) -> bool:
    """Whether a logit is linear in the mean of the last feature maps."""
    return isinstance(student.head, nn.Linear) and student.trunk.pools_by_average


def _by_classifier(student: VideoStudent, maps: Tensor, target: int, layer: str) -> Tensor:
    """Returns [U T' H' W'] from feature maps `1 D U*T' H' W'`."""
    head = student.head
    if layer != LAST:
        raise UsageError(f"layer {layer}: the classifier only uses the last one. Use --method gradcam.")
    if not (_averages(student) and isinstance(head, nn.Linear)):
        raise UsageError(f"{student.model_name} does not pool by averaging. Use --method gradcam.")
    weighted = torch.einsum("dthw,d->thw", maps[0].float(), head.weight[target].float())
    return weighted.unflatten(0, (student.clip.units, -1) if student.clip.units > 1 else (1, -1))


def _by_gradients(student: VideoStudent, clips: Tensor, target: int, layer: str) -> Tensor:
    """Returns [U T' H' W'] by captum."""
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise SetupError("Grad-CAM needs captum: install it with `pip install 'transfer3d[cam]'`.") from error
    known = {name: module for name, (_, module) in student.trunk.layers().items()} | {LAST: student.trunk}
    if layer not in known:
        raise UsageError(f"{student.model_name} has no layer '{layer}'{did_you_mean(layer, known)}.")
    attribution = LayerGradCam(student, known[layer]).attribute(clips, target)
    if not isinstance(attribution, Tensor) or attribution.ndim not in (FRAMES_NDIM, CLIP_NDIM):
        raise UsageError(f"layer '{layer}' has no feature maps. Choose another.")
    return attribution[:, 0] if attribution.ndim == CLIP_NDIM else attribution[None, :, 0]


def _heat(evidence: Tensor, clip_u8: Tensor) -> Tensor:
    """Upsamples [U T' H' W'] to the clip's [T H W] or [U T H W], 0..1."""
    *_, frames, height, width = clip_u8.shape
    heat = enlarged(evidence, (frames, height, width)).clamp(min=0)
    heat = heat / heat.max().clamp(min=torch.finfo(torch.float32).tiny)
    return heat if clip_u8.ndim == UNITS_NDIM - 1 else heat[0]


def enlarged(evidence: Tensor, sizes: Triple) -> Tensor:
    """Returns evidence [U T' H' W'], interpolated to [U T H W] of a clip's sizes."""
    return F.interpolate(evidence[:, None], sizes, mode="trilinear")[:, 0]
