"""ViViT and TimeSformer classifiers in the format of Hugging Face's transformers.

ViViT has one class token and one table of positions: `positions="joint"` of the family `vivit`. Its queries,
keys and values are three layers in the file and one in timm's attention.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.kind import Kind, Released, Shapes
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.timm_spec import ViTSpec

ARCHITECTURE = "vit_base_patch16_224"
DEFAULTS = {"depth": 12, "embed_dim": 768, "num_heads": 12, "patch_size": 16, "mlp_ratio": 4.0}
"""Arguments of `ARCHITECTURE` that a spec overrides when they differ."""
SEPARATE = re.compile(r"(.*\.attention\.attention)\.query\.(weight|bias)")

VIVIT_CLIP = ClipSpec(frames=32, stride=2, size=224, crop=256, mean=(0.5,) * 3, std=(0.5,) * 3)
"""Mean and standard deviation that scale pixels to -1..1."""
TIMESFORMER_CLIP = ClipSpec(frames=8, stride=32, size=224, crop=256, mean=(0.45,) * 3, std=(0.225,) * 3)


def shared_modules(block: str) -> dict[str, str]:
    """Returns the modules that have the same names in all kinds of blocks; `block` is our prefix."""
    return {
        f"{block}norm1": "layernorm_before",
        f"{block}norm2": "layernorm_after",
        f"{block}mlp.fc1": "intermediate.dense",
        f"{block}mlp.fc2": "output.dense",
    }


JOINT_BLOCKS = {
    "attn.qkv": "attention.attention.{query,key,value}",
    "attn.proj": "attention.output.dense",
    **shared_modules(""),
}
"""The modules of a block of ViViT and VideoMAE."""


def join_attention(state: Mapping[str, Tensor], options: Mapping[str, str]) -> dict[str, Tensor]:
    """Joins the separate layers of queries, keys and values into `...{query,key,value}.weight` and bias."""
    joined = dict(state)
    for name in state:
        if (match := SEPARATE.fullmatch(name)) is None:
            continue
        names = [f"{match[1]}.{part}.{match[2]}" for part in ("query", "key", "value")]
        if all(part in joined for part in names):
            fused = torch.cat([joined.pop(part) for part in names])
            joined[f"{match[1]}.{{query,key,value}}.{match[2]}"] = fused
    return joined


def read_timesformer(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a TimeSformer's file."""
    root, layers = "timesformer", "timesformer.encoder.layer"
    if f"{layers}.0.temporal_dense.weight" not in shapes:
        raise WeightsError("its attention is not divided: that form of TimeSformer cannot be imported.")
    patch = shapes[f"{root}.embeddings.patch_embeddings.projection.weight"][-1]
    spec = vit_spec(shapes, options, root, patch, shapes[f"{root}.embeddings.position_embeddings"][1] - 1)
    frames = shapes[f"{root}.embeddings.time_embeddings"][1]
    blocks = {
        "temporal.norm": "temporal_layernorm",
        "temporal.attn.qkv": "temporal_attention.attention.qkv",
        "temporal.attn.proj": "temporal_attention.output.dense",
        "temporal.fc": "temporal_dense",
        "spatial.attn.spatial.qkv": "attention.attention.qkv",
        "spatial.attn.spatial.proj": "attention.output.dense",
        **shared_modules("spatial."),
    }
    return Released(
        family="timesformer",
        spec=spec,
        model_args={"frames": frames, **channels_of(shapes, root)},
        num_classes=shapes["classifier.bias"][0],
        clip=clip_of(TIMESFORMER_CLIP, frames, spec),
        modules={**network_modules(shapes, root, blocks), "trunk.net.norm": f"{root}.layernorm"},
        tensors={**_tokens(root), "trunk.net.norm_pre.temporal.weight": f"{root}.embeddings.time_embeddings"},
        fits={"trunk.net.norm_pre.temporal": lambda tensor, ndim: tensor[0]},
    )


def read_vivit(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a ViViT's file."""
    root = "vivit"
    kernel = shapes[f"{root}.embeddings.patch_embeddings.projection.weight"]
    tubelet, patch = kernel[2], kernel[-1]
    frames = option_number(options, "frames")
    positions = shapes[f"{root}.embeddings.position_embeddings"][1] - 1
    spec = vit_spec(
        shapes, options, root, patch, positions // max(1, frames // tubelet), act_layer="gelu_tanh"
    )
    return Released(
        family="vivit",
        spec=spec,
        model_args={"positions": "joint", "frames": frames, "tubelet": tubelet, **channels_of(shapes, root)},
        num_classes=shapes["classifier.bias"][0],
        clip=clip_of(VIVIT_CLIP, frames, spec),
        modules={**network_modules(shapes, root), "trunk.net.norm": f"{root}.layernorm"},
        tensors=_tokens(root),
    )


def vit_spec(
    shapes: Shapes, options: Mapping[str, str], root: str, patch: int, patches: int, **overrides: Any
) -> ViTSpec:
    """Returns the 2D architecture, for `patches` per frame; `overrides` has what shapes do not show."""
    dense = shapes[f"{root}.encoder.layer.0.intermediate.dense.weight"]
    hidden, dim = dense[0], dense[-1]
    values = {
        "depth": depth_of(shapes, root),
        "embed_dim": dim,
        "num_heads": option_number(options, "heads"),
        "patch_size": patch,
        "mlp_ratio": hidden / dim,
    }
    overrides |= {name: value for name, value in values.items() if value != DEFAULTS[name]}
    return ViTSpec(architecture=ARCHITECTURE, img_size=math.isqrt(patches) * patch, overrides=overrides)


def option_number(options: Mapping[str, str], name: str) -> int:
    """Returns a numeric option.

    Raises:
        WeightsError: it is not a number, or out of range.
    """
    if not options[name].isdecimal() or not 0 < int(options[name]) <= 4096:
        raise WeightsError(f"{name}={options[name]}: must be a number from 1 to 4096.")
    return int(options[name])


def depth_of(shapes: Shapes, root: str) -> int:
    """Returns the number of blocks."""
    return sum(name.endswith(".layernorm_before.bias") and name.startswith(f"{root}.") for name in shapes)


def channels_of(shapes: Shapes, root: str) -> dict[str, int]:
    """Returns `in_chans` for `create_model` if the frames are not RGB."""
    channels = shapes[f"{root}.embeddings.patch_embeddings.projection.weight"][1]
    return {} if channels == 3 else {"in_chans": channels}


def clip_of(clip: ClipSpec, frames: int, spec: ViTSpec) -> ClipSpec:
    """Returns the released kind's clip, adapted to this network's frames and image size."""
    crop = round(spec.img_size * 256 / 224)
    return replace(clip, frames=frames, size=spec.img_size, crop=crop)


def network_modules(shapes: Shapes, root: str, blocks: Mapping[str, str] = JOINT_BLOCKS) -> dict[str, str]:
    """Maps the student's modules to those of the file, all but the last norm.

    Args:
        shapes: shapes of the file's tensors.
        root: prefix of the network in the file.
        blocks: maps the modules of a block.
    """
    return {
        "trunk.net.patch_embed.proj.conv": f"{root}.embeddings.patch_embeddings.projection",
        "head": "classifier",
        **{
            f"trunk.net.blocks.{index}.{ours}": f"{root}.encoder.layer.{index}.{theirs}"
            for index in range(depth_of(shapes, root))
            for ours, theirs in blocks.items()
        },
    }


def _tokens(root: str) -> dict[str, str]:
    return {
        "trunk.net.cls_token": f"{root}.embeddings.cls_token",
        "trunk.net.pos_embed": f"{root}.embeddings.position_embeddings",
    }


TRANSFORMERS_VIVIT = Kind(
    name="transformers-vivit",
    what="VivitForVideoClassification of transformers",
    signature="vivit.embeddings.cls_token",
    options={"heads": "12", "frames": "32"},
    read=read_vivit,
    prepare=join_attention,
)
TRANSFORMERS_TIMESFORMER = Kind(
    name="transformers-timesformer",
    what="TimesformerForVideoClassification of transformers, divided",
    signature="timesformer.embeddings.cls_token",
    options={"heads": "12"},
    read=read_timesformer,
)
