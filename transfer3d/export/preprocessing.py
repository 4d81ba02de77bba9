"""The preprocessing of a video for an exported network, for programs without transfer3d."""

from __future__ import annotations

from typing import Any

from transfer3d.layout import FLOW_CHANNELS, RGB_CHANNELS
from transfer3d.weights.metadata import CheckpointMetadata

SIDECAR_NAME = "preprocess.json"
METADATA_KEY = "transfer3d.preprocess"
FORMAT = "transfer3d-preprocess-1"

FIRST_FRAME = "max((N - span) // 2, 0)"
FIRST_FRAME_OF_UNIT = (
    "int((u + 0.5) * N / units - span / 2 + 0.5) if span * units <= N "
    "else int((u + 0.5) * (max(N - span, 0) + 1) / units)"
)
COLOURS = {RGB_CHANNELS: "RGB", FLOW_CHANNELS: "optical flow: x, y"}


def preprocessing(metadata: CheckpointMetadata) -> dict[str, Any]:
    """Returns the preprocessing of `predict --clips 1`, JSON-able.

    The formulas are Python expressions of the other entries, of N, the number of frames of the video, and of
    u, the index of the unit. They agree with `sampling`, `pixels` and `augment` of `transfer3d.data`.

    Args:
        metadata: metadata of the checkpoint.
    """
    clip = metadata.clip
    resized: dict[str, int]
    if isinstance(clip.crop, int):
        resized, decoded = {"short_side": clip.crop}, clip.crop
    else:
        resized, decoded = {"height": clip.crop[0], "width": clip.crop[1]}, max(clip.crop)
    several = clip.units > 1
    activation = "sigmoid" if metadata.multi_label else "softmax"
    return {
        "format": FORMAT,
        "model": metadata.model,
        "input": {"name": "clips", "axes": "B U C T H W" if several else "B C T H W", "dtype": "float32"},
        "output": {
            "name": "logits",
            "axes": "B K",
            "activation": activation,
            "note": f"output is logits; {activation} gives probabilities",
        },
        "colour": COLOURS.get(clip.channels, f"{clip.channels} channels"),
        "rotation": "frames are turned upright first, as the file's display matrix says",
        "frames": clip.frames,
        "stride": clip.stride,
        "span": clip.window,
        "units": clip.units,
        "first_frame": FIRST_FRAME_OF_UNIT if several else FIRST_FRAME,
        "short_videos": "numbers past the end repeat the last frame",
        "resize": {
            **resized,
            "filter": "bilinear",
            "antialias": True,
            "scaled_down": f"to a short side of {decoded}, before the conversion to RGB, if it is larger",
        },
        "crop": {"size": clip.size, "top": "round((height - size) / 2)", "left": "round((width - size) / 2)"},
        "normalise": "(pixel / 255 - mean) / std",
        "mean": list(clip.mean),
        "std": list(clip.std),
        "num_classes": metadata.num_classes,
        "class_names": metadata.class_names,
    }
