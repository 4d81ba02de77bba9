"""The parity check: on a still clip (one repeated frame), an inflated student has the 2D network's output."""

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
from transfer3d.models.image import image_model_info
from transfer3d.models.student import VideoStudent
from transfer3d.nn.convolution import Conv3d
from transfer3d.nn.failing_module import failing_module

TOLERANCE = 1e-5
IMAGES = 2
PARITY_SIZE = 64

Verdict = Literal["proved", "failed", "nothing proved"]


@dataclass(frozen=True, kw_only=True)
class ParityCheck:
    """The result of comparing both networks.

    Attributes:
        verdict: proved, failed, or nothing proved (random kernels).
        difference: the larger of the two differences below; None if nothing was compared.
        logits_difference: norm(student - 2D) / norm(2D) over the logits; None if the classifiers differ.
        features_difference: the same for the pooled features.
        tolerance: the largest difference that counts as proved.
        values: number of values compared.
        temporal_padding: `zeros`, the student's own, or `replicate`, for mean kernels.
        zero_padding_difference: for mean kernels, the difference with the student's own zero padding.
        precision: fp32, or fp64 if the 2D network's rounding error in fp32 exceeds the tolerance.
        rounding: relative difference between the 2D network in fp32 and in fp64, if measured.
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
        """Summarises the result in one or two sentences."""
        if self.difference is None:
            return "Nothing is proved: the temporal kernels are random."
        text = f"Still clips: largest relative difference to the 2D net {self.difference:.1e}"
        text += f" (tolerance {self.tolerance:.0e}, {self.values} values): {self.verdict}."
        if self.zero_padding_difference is not None:
            text += (
                f" Time was padded by replication; with zeros, as in use: {self.zero_padding_difference:.1e}."
            )
        if self.precision == "fp64":
            text += f" Compared in fp64: in fp32 the 2D net has a rounding error of {self.rounding:.1e}."
        return text


def check_parity(
    image_model: nn.Module,
    student: VideoStudent,
    *,
    temporal_init: TemporalInit = "center",
    same_head: bool = True,
    size: int = PARITY_SIZE,
    seed: int = 0,
) -> ParityCheck:
    """Compares both networks on still clips of random images, in eval mode and on copies.

    The comparison runs in fp32. If it fails and the 2D network's rounding error exceeds the tolerance (with
    random weights a network can amplify it), the comparison is repeated in fp64.

    Args:
        image_model: the 2D network.
        student: inflated from it.
        temporal_init: `mean` kernels are compared with replicate padding in time, for which they are exact;
            `random` ones are not compared.
        same_head: whether both have the same classifier; if not, only the features are compared.
        size: H and W of the images.
        seed: for the images.

    Raises:
        WeightsError: the outputs cannot be compared: no values, all zero, or not finite.
        UsageError: a network fails on images of this size.
    """
    if temporal_init == "random":
        return ParityCheck(verdict="nothing proved")
    reference = copy.deepcopy(image_model).cpu().float().eval()
    video = copy.deepcopy(student).cpu().float().eval()
    channels, generator = student.clip.channels, torch.Generator().manual_seed(seed)
    images = torch.randn(IMAGES, channels, size, size, generator=generator)
    zeros = None
    if temporal_init == "mean" and _pads_time(video):
        zeros = _compare(reference, video, images, same_head).difference
        _pad_time_by_repetition(video)
    comparison, rounding = _compare(reference, video, images, same_head), None
    if comparison.difference > TOLERANCE:
        rounding = _rounding(reference, images)
        if rounding > TOLERANCE:
            comparison = _compare(reference.double(), video.double(), images.double(), same_head)
    return ParityCheck(
        verdict="proved" if comparison.difference <= TOLERANCE else "failed",
        difference=comparison.difference,
        logits_difference=comparison.logits,
        features_difference=comparison.features,
        values=comparison.values,
        temporal_padding="zeros" if zeros is None else "replicate",
        zero_padding_difference=zeros,
        precision="fp64" if rounding is not None and rounding > TOLERANCE else "fp32",
        rounding=rounding,
    )


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """Relative differences of logits (None: not compared) and pooled features, and the number of values."""

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
    name, size = image_model_info(reference).name, images.shape[-1]
    flat = _run(name, reference, size, lambda: net.forward_features(images))
    expected = net.forward_head(flat, pre_logits=True)
    maps = _run(f"the student of {name}", student, size, lambda: student.forward_features(clips))
    features = relative_difference(student.forward_head(maps, pre_logits=True), expected)
    values = expected.numel()
    if not same_head:
        return _Comparison(logits=None, features=features, values=values)
    expected = reference(images)
    logits = relative_difference(student.forward_head(maps), expected)
    return _Comparison(logits=logits, features=features, values=values + expected.numel())


def _run(name: str, net: nn.Module, size: int, forward: Callable[[], Tensor]) -> Tensor:
    """Runs a network; an error in its code becomes a UsageError that names the failing module."""
    try:
        return forward()
    except Exception as error:
        raise UsageError(f"{name} fails on {size}x{size} images: {failing_module(error, net)}.") from error


@torch.no_grad()
def _rounding(net: nn.Module, images: Tensor) -> float:
    return relative_difference(net(images), copy.deepcopy(net).double()(images.double()))


def relative_difference(output: Tensor, expected: Tensor) -> float:
    """Returns norm(output - expected) / norm(expected).

    Raises:
        WeightsError: no values, all zero, or not finite: the comparison would prove nothing.
    """
    if output.shape != expected.shape:
        raise WeightsError(
            f"the student's output is {tuple(output.shape)}, the 2D net's {tuple(expected.shape)}."
        )
    norm = expected.double().norm().item() if expected.numel() else 0.0
    if not 0 < norm < float("inf"):
        raise WeightsError(
            f"the image model's {expected.numel()} outputs have norm {norm}: nothing to compare with."
        )
    return (output.double() - expected.double()).norm().item() / norm


class _RepeatedPadding(nn.Module):
    """A convolution whose temporal padding repeats the first and the last frame."""

    def __init__(self, conv: Conv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        reach = (conv.kernel_size[0] - 1) * conv.dilation[0]
        x = F.pad(x, (0, 0, 0, 0, reach // 2, reach - reach // 2), mode="replicate")
        _, height, width = (int(pad) for pad in conv.padding)
        return F.conv3d(
            x, conv.kernel(), conv.bias, conv.stride, (0, height, width), conv.dilation, conv.groups
        )


def _pads_time(module: nn.Module) -> bool:
    """Whether a module pads the clip in time: a tubelet's convolution does not."""
    return any(isinstance(part, Conv3d) and part.kernel_size[0] > 1 for part in module.modules())


def _pad_time_by_repetition(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, Conv3d):  # a 2D network's own nn.Conv3d layers are not temporal
            if child.kernel_size[0] > 1:
                setattr(module, name, _RepeatedPadding(child))
        else:
            _pad_time_by_repetition(child)
