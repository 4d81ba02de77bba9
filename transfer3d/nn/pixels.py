"""Normalises stored pixels with a network's mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FRAME_NDIM = 4  # N C H W; tensors with more axes end in C T H W


def normalise(
    pixels_u8: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Returns (pixels / 255 - mean) / std.

    Args:
        pixels_u8: uint8, 0..255: frames `N C H W`, or clips `[...] C T H W`.
        mean: per channel, on a 0..1 scale.
        std: per channel, on a 0..1 scale.
        dtype: dtype of the result; the arithmetic is fp32.

    Raises:
        TypeError: pixels are not uint8; float pixels would be scaled twice.
        ValueError: the number of channels differs from that of `mean` and `std`.
    """
    if pixels_u8.dtype != torch.uint8:
        raise TypeError(f"pixels are {pixels_u8.dtype}, not uint8: are they normalised already?")
    axis = -3 if pixels_u8.ndim == FRAME_NDIM else -4
    if not pixels_u8.shape[axis] == len(mean) == len(std):
        raise ValueError(
            f"{pixels_u8.shape[axis]} channels, but {len(mean)} means and {len(std)} standard deviations"
        )
    shape = (-1, *(1,) * (-axis - 1))
    mean_C = torch.tensor(mean, device=pixels_u8.device, dtype=torch.float32).view(shape)
    std_C = torch.tensor(std, device=pixels_u8.device, dtype=torch.float32).view(shape)
    return ((pixels_u8.float() / 255 - mean_C) / std_C).to(dtype)
