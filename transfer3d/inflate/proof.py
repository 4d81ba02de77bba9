"""The still-clip proof: on one frame repeated, an inflated student answers what the 2D network answers."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import WeightsError
from transfer3d.inflate.rules import TemporalInit
from transfer3d.models.student import VideoStudent

TOLERANCE = 1e-5
IMAGES = 2
PROOF_SIZE = 64

Verdict = Literal["proved", "failed", "nothing proved"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the comparison of both networks says.

    Attributes:
        verdict: proved, failed, or nothing proved (random kernels).
        difference: the larger of the two below; None when nothing is compared.
        logits_difference: norm(student - 2D) / norm(2D) over the logits; None when the classifiers differ.
        features_difference: the same over the pooled features.
        tolerance: what the difference may be.
        values: how many numbers were compared.
        temporal_padding: of the run: `zeros`, the student's own, or `replicate` (mean kernels).
        zero_padding_difference: for mean kernels, the difference under the student's own padding.
    """

    verdict: Verdict
    difference: float | None = None
    logits_difference: float | None = None
    features_difference: float | None = None
    tolerance: float = TOLERANCE
    values: int = 0
    temporal_padding: Literal["zeros", "replicate"] = "zeros"
    zero_padding_difference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return asdict(self)

    def __str__(self) -> str:
        """The proof as one sentence."""
        if self.difference is None:
            return "Nothing is proved: the temporal kernels are random."
        text = f"Still clips: largest relative difference to the 2D net {self.difference:.1e}"
        text += f" (tolerance {self.tolerance:.0e}, {self.values} values): {self.verdict}."
        if self.zero_padding_difference is not None:
            text += (
                f" Time was padded by repetition; with zeros, as in use, {self.zero_padding_difference:.1e}."
            )
        return text


def prove(
    image_model: nn.Module,
    student: VideoStudent,
    *,
    temporal_init: TemporalInit = "center",
    same_head: bool = True,
    size: int = PROOF_SIZE,
    seed: int = 0,
) -> Proof:
    """Compares both networks on still clips of random images, in fp32 and eval mode; changes neither.

    Args:
        image_model: the 2D network.
        student: inflated from it.
        temporal_init: `mean` kernels are compared with time padded by repetition, where they are exact;
            `random` ones are not compared.
        same_head: whether both have the same classifier; else the features alone are compared.
        size: H and W of the images.
        seed: of the images.

    Raises:
        WeightsError: there is nothing to compare: no values, zero, or not finite.
    """
    if temporal_init == "random":
        return Proof(verdict="nothing proved")
    reference = copy.deepcopy(image_model).cpu().float().eval()
    video = copy.deepcopy(student).cpu().float().eval()
    clip = student.clip
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(IMAGES, len(clip.mean), size, size, generator=generator)
    clips = images[:, :, None].expand(-1, -1, clip.frames, -1, -1)
    if clip.units > 1:
        clips = clips[:, None].expand(-1, clip.units, -1, -1, -1, -1)
    zeros = None
    if temporal_init == "mean":
        zeros = max(
            part for part in _compare(reference, video, images, clips, same_head)[:2] if part is not None
        )
        _pad_time_by_repetition(video)
    features, logits, values = _compare(reference, video, images, clips, same_head)
    difference = max(part for part in (features, logits) if part is not None)
    return Proof(
        verdict="proved" if difference <= TOLERANCE else "failed",
        difference=difference,
        logits_difference=logits,
        features_difference=features,
        values=values,
        temporal_padding="zeros" if zeros is None else "replicate",
        zero_padding_difference=zeros,
    )


@torch.no_grad()
def _compare(
    reference: nn.Module, student: VideoStudent, images: Tensor, clips: Tensor, same_head: bool
) -> tuple[float, float | None, int]:
    """Returns the differences of pooled features and logits, and how many values they are over."""
    net = cast(Any, reference)
    wanted = net.forward_head(net.forward_features(images), pre_logits=True)
    maps = student.forward_features(clips)
    features = relative_difference(student.forward_head(maps, pre_logits=True), wanted)
    values = wanted.numel()
    if not same_head:
        return features, None, values
    wanted = reference(images)
    return features, relative_difference(student.forward_head(maps), wanted), values + wanted.numel()


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Returns norm(found - wanted) / norm(wanted).

    Raises:
        WeightsError: no values, all zero, or not finite: a comparison that would prove nothing.
    """
    if found.shape != wanted.shape:
        raise WeightsError(
            "E441", f"the student answers {tuple(found.shape)}, the 2D net {tuple(wanted.shape)}."
        )
    norm = wanted.double().norm().item() if wanted.numel() else 0.0
    if not 0 < norm < float("inf"):
        raise WeightsError(
            "E442",
            f"the image model's {wanted.numel()} outputs have norm {norm}: nothing to compare with.",
        )
    return (found.double() - wanted.double()).norm().item() / norm


class _RepeatedPadding(nn.Module):
    """A convolution whose temporal padding repeats the first and the last frame."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        reach = (conv.kernel_size[0] - 1) * conv.dilation[0]
        x = F.pad(x, (0, 0, 0, 0, reach // 2, reach - reach // 2), mode="replicate")
        _, height, width = (int(pad) for pad in conv.padding)
        return F.conv3d(
            x, conv.weight, conv.bias, conv.stride, (0, height, width), conv.dilation, conv.groups
        )


def _pad_time_by_repetition(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv3d):
            if child.kernel_size[0] > 1:
                setattr(module, name, _RepeatedPadding(child))
        else:
            _pad_time_by_repetition(child)
