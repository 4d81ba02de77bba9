"""The still-clip proof: on one frame repeated, an inflated student answers what the 2D network answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import UsageError, WeightsError
from transfer3d.inflation.rules import TemporalInit
from transfer3d.models.image import image_facts
from transfer3d.models.student import VideoStudent
from transfer3d.nn.convolution import Conv3d
from transfer3d.nn.failing_module import culprit

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
        precision: of the run: fp32; or fp64, where the 2D network itself rounds by more than the tolerance.
        rounding: that difference of the 2D network in fp32 from itself in fp64, where it was looked at.
    """

    verdict: Verdict
    difference: float | None = None
    logits_difference: float | None = None
    features_difference: float | None = None
    tolerance: float = TOLERANCE
    values: int = 0
    temporal_padding: Literal["zeros", "replicate"] = "zeros"
    zero_padding_difference: float | None = None
    precision: Literal["fp32", "fp64"] = "fp32"
    rounding: float | None = None

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
        if self.precision == "fp64":
            text += f" Compared in fp64: in fp32 the 2D net differs from itself by {self.rounding:.1e}."
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
    """Compares both networks on still clips of random images in eval mode; changes neither.

    They are compared in fp32. Where that fails, and the 2D network rounds by more than the tolerance (random
    weights can make one chaotic), fp32 cannot tell: then in fp64.

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
        UsageError: a network does not run on images of this size.
    """
    if temporal_init == "random":
        return Proof(verdict="nothing proved")
    reference = copy.deepcopy(image_model).cpu().float().eval()
    video = copy.deepcopy(student).cpu().float().eval()
    channels, generator = len(student.clip.mean), torch.Generator().manual_seed(seed)
    images = torch.randn(IMAGES, channels, size, size, generator=generator)
    zeros = None
    if temporal_init == "mean":
        zeros = _compare(reference, video, images, same_head).difference
        _pad_time_by_repetition(video)
    found, rounding = _compare(reference, video, images, same_head), None
    if found.difference > TOLERANCE:
        rounding = _rounding(reference, images)
        if rounding > TOLERANCE:
            found = _compare(reference.double(), video.double(), images.double(), same_head)
    return Proof(
        verdict="proved" if found.difference <= TOLERANCE else "failed",
        difference=found.difference,
        logits_difference=found.logits,
        features_difference=found.features,
        values=found.values,
        temporal_padding="zeros" if zeros is None else "replicate",
        zero_padding_difference=zeros,
        precision="fp64" if rounding is not None and rounding > TOLERANCE else "fp32",
        rounding=rounding,
    )


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """Differences of logits (None: not compared) and pooled features, over so many values."""

    logits: float | None
    features: float
    values: int

    @property
    def difference(self) -> float:
        return max(self.features, self.logits or 0.0)


@torch.no_grad()
def _compare(reference: nn.Module, student: VideoStudent, images: Tensor, same_head: bool) -> _Comparison:
    net, clip = cast(Any, reference), student.clip
    clips = images[:, :, None].expand(-1, -1, clip.frames, -1, -1)
    if clip.units > 1:
        clips = clips[:, None].expand(-1, clip.units, -1, -1, -1, -1)
    name, size = image_facts(reference).name, images.shape[-1]
    flat = _run(name, reference, size, lambda: net.forward_features(images))
    wanted = net.forward_head(flat, pre_logits=True)
    maps = _run(f"the student of {name}", student, size, lambda: student.forward_features(clips))
    features = relative_difference(student.forward_head(maps, pre_logits=True), wanted)
    values = wanted.numel()
    if not same_head:
        return _Comparison(logits=None, features=features, values=values)
    wanted = reference(images)
    logits = relative_difference(student.forward_head(maps), wanted)
    return _Comparison(logits=logits, features=features, values=values + wanted.numel())


def _run(name: str, net: nn.Module, size: int, forward: Callable[[], Tensor]) -> Tensor:
    """Runs a network whose code may be anybody's."""
    try:
        return forward()
    except Exception as error:
        raise UsageError(f"{name} does not take {size}x{size} images: {culprit(error, net)}.") from error


@torch.no_grad()
def _rounding(net: nn.Module, images: Tensor) -> float:
    return relative_difference(net(images), copy.deepcopy(net).double()(images.double()))


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Returns norm(found - wanted) / norm(wanted).

    Raises:
        WeightsError: no values, all zero, or not finite: a comparison that would prove nothing.
    """
    if found.shape != wanted.shape:
        raise WeightsError(f"the student answers {tuple(found.shape)}, the 2D net {tuple(wanted.shape)}.")
    norm = wanted.double().norm().item() if wanted.numel() else 0.0
    if not 0 < norm < float("inf"):
        raise WeightsError(
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
        if isinstance(child, Conv3d):  # a 2D network's own 3D convolution is not over time
            if child.kernel_size[0] > 1:
                setattr(module, name, _RepeatedPadding(child))
        else:
            _pad_time_by_repetition(child)
