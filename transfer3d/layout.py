"""The tensor shapes and axis names that all modules share.

One alphabet for tensor axes, used as suffixes (`clips_BCTHW`) and in docstrings:

    B  clips in a batch          T  frames            K  classes
    U  action units of a video   H  pixel rows        D  embedding size
    C  channels                  W  pixel columns     N  B * U * T frames

Kernels and strides are written in the order (T, H, W), in 4D in the order (U, T, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RGB_CHANNELS, FLOW_CHANNELS = 3, 2
FLOW_MEAN = 0.5
"""Mean of both components of optical flow: 0.5 on a 0..1 scale means no motion."""
FLOW_STD = 0.226
"""The mean of RGB's standard deviations, as in TSN and the PyTorch port of P3D."""

Triple = tuple[int, int, int]


def section_bounds(length: int, sections: int) -> list[int]:
    """Returns the start of each of `sections` equal sections of `range(length)`, then `length`.

    Section i is `range(bounds[i], bounds[i + 1])`. A bound is round(i * length / sections), half to even: 10
    items in 4 sections give sizes 2, 3, 3, 2.
    """
    return [round(index * length / sections) for index in range(sections + 1)]


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """The input that a student expects.

    Attributes:
        frames: T, frames of one clip (of one action unit, for the video-level families).
        stride: distance between neighbouring frames, in frames of the source video.
        size: H and W of the input, pixels.
        crop: size to which a frame is resized before size x size is cropped: its short side, or (H, W);
            0 = `size`.
        units: U, action units of one video; 1 for clip-level families.
        mean: per channel, on a 0..1 scale.
        std: per channel, on a 0..1 scale.
    """

    frames: int
    stride: int = 1
    size: int
    crop: int | tuple[int, int] = 0
    units: int = 1
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.crop == 0:
            object.__setattr__(self, "crop", self.size)
        for name in ("frames", "stride", "size", "units"):
            if getattr(self, name) < 1:
                raise ValueError(f"clip {name}={getattr(self, name)}: need at least 1")
        if min(self.crop) < self.size if isinstance(self.crop, tuple) else self.crop < self.size:
            raise ValueError(f"clip crop={self.crop} is smaller than size={self.size}")
        if not self.mean:
            raise ValueError("clip mean has no channels")
        if len(self.mean) != len(self.std):
            raise ValueError(f"clip mean has {len(self.mean)} channels, std has {len(self.std)}")

    @property
    def channels(self) -> int:
        """C: 3 for RGB, 2 for optical flow."""
        return len(self.mean)

    @property
    def window(self) -> int:
        """Source frames that one clip (one unit) spans."""
        return (self.frames - 1) * self.stride + 1

    def shape(self, batch: int) -> tuple[int, ...]:
        """Returns the shape of `batch` clips: B C T H W, or B U C T H W with several units."""
        units = (self.units,) if self.units > 1 else ()
        return (batch, *units, self.channels, self.frames, self.size, self.size)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, stored as `transfer3d.clip` in a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Builds a spec from its JSON form, where tuples are lists."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


def per_channel(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation for another number of input channels than RGB's.

    Optical flow (2 channels) has its own values; other inputs get the average over RGB for every channel.
    """
    if channels == len(mean):
        return tuple(mean), tuple(std)
    if channels == FLOW_CHANNELS:
        return (FLOW_MEAN,) * channels, (FLOW_STD,) * channels
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
