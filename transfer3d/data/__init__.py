"""Loads videos from disk as batches of clips. Names in `__all__` are public and imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer3d.data.augment_config import AugmentConfig
    from transfer3d.data.clips import clip_of_file
    from transfer3d.data.dataset import VideoDataset
    from transfer3d.data.decode import Video
    from transfer3d.data.epoch_sampler import make_epoch_sampler
    from transfer3d.data.moving_digits import SynthConfig, synthesise
    from transfer3d.data.source import open_files, open_videos
    from transfer3d.data.subset import share_of, split_off
    from transfer3d.data.training_clips import ClipSample, ClipSampler, collate_clips
    from transfer3d.data.video_list import VideoList
    from transfer3d.data.videoset import VideoSet

__all__ = [
    "AugmentConfig",
    "ClipSample",
    "ClipSampler",
    "SynthConfig",
    "Video",
    "VideoDataset",
    "VideoList",
    "VideoSet",
    "clip_of_file",
    "collate_clips",
    "make_epoch_sampler",
    "open_files",
    "open_videos",
    "share_of",
    "split_off",
    "synthesise",
]

_MODULES = {
    "AugmentConfig": "augment_config",
    "ClipSample": "training_clips",
    "ClipSampler": "training_clips",
    "SynthConfig": "moving_digits",
    "Video": "decode",
    "VideoDataset": "dataset",
    "VideoList": "video_list",
    "VideoSet": "videoset",
    "clip_of_file": "clips",
    "collate_clips": "training_clips",
    "make_epoch_sampler": "epoch_sampler",
    "open_files": "source",
    "open_videos": "source",
    "share_of": "subset",
    "split_off": "subset",
    "synthesise": "moving_digits",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"transfer3d.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'transfer3d.data' has no attribute '{name}'")
