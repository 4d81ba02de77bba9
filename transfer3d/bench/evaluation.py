"""`transfer3d evaluate` with 10 x 3 views against a loop over the views, at equal precision.

The scores differ only because frames are resized in the decoder or after it; random weights amplify this
difference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison, relative_difference
from transfer3d.bench.videos import bench_videos
from transfer3d.data.decode import Video
from transfer3d.data.sampling import even_clips
from transfer3d.data.source import open_files
from transfer3d.engine.distributed import make_accelerator
from transfer3d.evaluation.protocols import named_protocol
from transfer3d.evaluation.scoring import score_videos
from transfer3d.models.factory import create_model

CLIPS, CROPS = 10, 3
STUDENT = "p3d_resnet18"
SIZE, CLASSES = 112, 101
VIDEOS = 1


def evaluation_cases(folder: Path | None, scratch: Path) -> Iterator[Case]:
    """Yields the cases.

    Args:
        folder: with the user's videos; None = generated ones.
        scratch: folder for generated videos.
    """
    for baseline, at_least, again in (
        ("a loop that decodes each view", 1.3, True),
        ("a loop over the views of decoded videos", None, False),
    ):
        yield Case(
            name=f"evaluate {STUDENT} 16x{SIZE}x{SIZE}, {CLIPS} x {CROPS} views of a video",
            phase="evaluate",
            ours="transfer3d evaluate, fp32",
            baseline=f"{baseline} and resizes whole frames, fp32",
            at_least=at_least,
            build=partial(_comparison, folder, scratch, again),
        )


def _comparison(folder: Path | None, scratch: Path, again: bool, device: torch.device) -> Comparison:
    paths = bench_videos(folder, scratch)[:VIDEOS]
    student = create_model(STUDENT, num_classes=CLASSES).eval()
    student.clip = replace(student.clip, size=SIZE, crop=SIZE)
    clip = student.clip
    accelerator = make_accelerator("fp32")
    plain, videos = copy.deepcopy(student).to(device), open_files(paths)
    protocol = named_protocol("dense", clips=CLIPS, crops=CROPS)
    loop: Callable[..., Tensor] = load_baseline("views_loop").views_loop

    def ours() -> Tensor:
        return score_videos(student, videos, accelerator, protocol).videos_NK

    def baseline() -> Tensor:
        rows = []
        for path in paths:
            with Video(path) as video:
                frames = video.frames
            starts = even_clips(frames, length=clip.frames, stride=clip.stride, count=CLIPS)[:, 0].tolist()
            rows.append(
                loop(
                    lambda clip: plain(clip.to(device)).cpu(),
                    path,
                    starts,
                    frames=clip.frames,
                    stride=clip.stride,
                    size=SIZE,
                    mean=clip.mean,
                    std=clip.std,
                    again=again,
                )
            )
        return torch.stack(rows)

    return Comparison(
        ours=ours, baseline=baseline, difference=lambda: relative_difference(ours(), baseline())
    )
