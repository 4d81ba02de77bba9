"""A 4D convolution as released codes write it: padded units, a loop over units and taps, sums in place."""

import torch
import torch.nn.functional as F
from torch import Tensor


def conv4d_loop(x: Tensor, weight: Tensor) -> Tensor:
    """`B C U T H W` with `C' C ku kt kh kw`, stride 1, zeros around the input: `B C' U T H W`."""
    batch, channels, units, frames, height, width = x.shape
    taps = weight.shape[2]
    reach = taps // 2
    padding = (weight.shape[3] // 2, weight.shape[4] // 2, weight.shape[5] // 2)
    by_unit = x.permute(2, 0, 1, 3, 4, 5).contiguous()
    zeros = x.new_zeros(reach, batch, channels, frames, height, width)
    padded = torch.cat([zeros, by_unit, zeros])
    out = x.new_zeros(units, batch, weight.shape[0], frames, height, width)
    for unit in range(units):
        for tap in range(taps):
            out[unit] += F.conv3d(padded[unit + tap], weight[:, :, tap].contiguous(), padding=padding)
    return out.permute(1, 2, 0, 3, 4, 5).contiguous()
