"""Centre crops of frames, identical to torchvision's in every pixel.

Importing torchvision takes as long as importing torch; commands that only need centre crops avoid it.
"""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CentreCrop(nn.Module):
    """`v2.Resize(crop, antialias=True)`, then `v2.CenterCrop(size)`.

    Args:
        crop: short side of the resized frames, or their height and width.
        size: side of the square crop; at most the short side of `crop`.
    """

    def __init__(self, crop: int | tuple[int, int], size: int) -> None:
        super().__init__()
        self._crop, self._size = crop, size

    def forward(self, frames_u8: Tensor) -> Tensor:
        """[..., C, H, W] to [..., C, size, size], uint8."""
        frames_u8 = self._resize(frames_u8)
        top, left = (round((side - self._size) / 2) for side in frames_u8.shape[-2:])
        return frames_u8[..., top : top + self._size, left : left + self._size]

    def _resize(self, frames_u8: Tensor) -> Tensor:
        height, width = frames_u8.shape[-2:]
        if isinstance(self._crop, int):
            long = int(self._crop * max(height, width) / min(height, width))
            size = (self._crop, long) if height < width else (long, self._crop)
        else:
            size = self._crop
        if size == (height, width):
            return frames_u8
        pixels = frames_u8.flatten(0, -4)
        pixels = pixels if _resizes_bytes() else pixels.float()
        resized = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        resized = resized if resized.dtype == torch.uint8 else resized.round().to(torch.uint8)
        return resized.reshape(*frames_u8.shape[:-2], *size)


def _resizes_bytes() -> bool:
    """Whether torch's uint8 kernel is the fast one on this CPU; its rounding differs from float kernels."""
    fast = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return fast or platform.machine() in ("aarch64", "arm64")
