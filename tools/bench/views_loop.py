"""Testing view by view, as a script is first written: decode a clip, cut a crop, ask the network, next."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional


@torch.no_grad()
def views_loop(
    network: nn.Module,
    path: Path,
    starts: Sequence[int],
    *,
    frames: int,
    stride: int,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    again: bool = True,
) -> Tensor:
    """Returns the mean probabilities [K] of all clips in three crops.

    Args:
        network: `1 C T H W` to logits, in eval mode.
        path: of the video.
        starts: first frame of each clip; all clips lie in the video.
        frames: of a clip.
        stride: between them.
        size: of the three squares along the longer side; the short side is resized to it.
        mean: of the channels, 0..1.
        std: of the channels, 0..1.
        again: decode the video for each view; else once for all.
    """
    clips = [[start + number * stride for number in range(frames)] for start in starts]
    video = {} if again else decode(path, {number for clip in clips for number in clip})
    scores = []
    for clip in clips:
        for crop in range(3):
            shown = decode(path, set(clip)) if again else video
            pixels = torch.from_numpy(np.stack([shown[number] for number in clip])).permute(0, 3, 1, 2)
            resized = functional.resize(pixels, [size], antialias=True)
            room = max(resized.shape[-2:]) - size
            first = (0, room // 2, room)[crop]
            rows, columns = (first, 0) if resized.shape[-2] > resized.shape[-1] else (0, first)
            cut = resized[..., rows : rows + size, columns : columns + size].float().div(255)
            view = functional.normalize(cut, list(mean), list(std)).transpose(0, 1)
            scores.append(network(view[None])[0].float().softmax(-1))
    return torch.stack(scores).mean(0)


def decode(path: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    """Returns some frames [H, W, 3] by number; decoding starts at the video's start and ends at the last."""
    found = {}
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if len(found) == len(wanted):
                break
    return found
