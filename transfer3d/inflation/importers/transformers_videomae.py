"""VideoMAE classifiers in the format of Hugging Face's transformers.

Paper: Tong et al., "VideoMAE", NeurIPS 2022 (arXiv:2203.12602). It is ViViT's model 1 without a class token:
joint attention, sinusoidal positions, the mean over all tokens, then a norm. Its keys have no bias; the
student's is 0, and stays 0, since softmax is invariant to it. The sinusoids, which are not in the file, are
computed here; in the student they are trainable, in VideoMAE fixed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.kind import Kind, Released, Shapes
from transfer3d.inflation.importers.transformers_vits import (
    channels_of,
    clip_of,
    join_attention,
    network_modules,
    option_number,
    vit_spec,
)
from transfer3d.layout import ClipSpec

ROOT = "videomae"
PATCHES = f"{ROOT}.embeddings.patch_embeddings.projection"
POSITIONS = f"{ROOT}.embeddings.sinusoids"
"""Our name for the sinusoids, which the file lacks."""
CLIP = ClipSpec(frames=16, stride=4, size=224, crop=256)
"""Table 8 of the paper: 16 frames at stride 4 on Kinetics."""


def sinusoids(count: int, width: int) -> Tensor:
    """Returns positions `1 count width`: sines in even, cosines in odd channels (arXiv:1706.03762, 3.5)."""
    channels = torch.arange(width, dtype=torch.float64)
    rates = 10000 ** -(2 * (channels // 2) / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    return torch.where(channels % 2 == 0, angles.sin(), angles.cos()).float()[None]


def prepare(state: Mapping[str, Tensor], options: Mapping[str, str]) -> dict[str, Tensor]:
    """Adds the positions and the keys' bias of 0, and joins queries, keys and values.

    Files name the biases `q_bias` and `v_bias`, or after their layers, as newer versions do.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in state.items():
        attention, _, part = name.rpartition(".attention.attention.")
        part = {"q_bias": "query.bias", "v_bias": "value.bias"}.get(part, part) if attention else part
        renamed = f"{attention}.attention.attention.{part}" if attention else name
        whole[renamed] = tensor
        if attention and part == "query.bias":
            whole[renamed.replace(".query.", ".key.")] = torch.zeros_like(tensor)
    kernel = state.get(f"{PATCHES}.weight")
    if kernel is not None and kernel.ndim == 5:
        rows = option_number(options, "size") // kernel.shape[-1]
        count = option_number(options, "frames") // kernel.shape[2] * rows**2
        whole[POSITIONS] = sinusoids(count, kernel.shape[0])
    return join_attention(whole, options)


def read(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a file."""
    if "fc_norm.weight" not in shapes:
        raise WeightsError("it has no fc_norm: only classifiers that average all tokens can be imported.")
    kernel = shapes[f"{PATCHES}.weight"]
    tubelet, frames, size = kernel[2], option_number(options, "frames"), option_number(options, "size")
    spec = vit_spec(
        shapes, options, ROOT, kernel[-1], (size // kernel[-1]) ** 2,
        class_token=False, global_pool="avg", fc_norm=True,
    )  # fmt: skip
    return Released(
        family="vivit",
        spec=spec,
        model_args={"positions": "joint", "frames": frames, "tubelet": tubelet, **channels_of(shapes, ROOT)},
        num_classes=shapes["classifier.bias"][0],
        clip=clip_of(CLIP, frames, spec),
        modules={**network_modules(shapes, ROOT), "trunk.net.fc_norm": "fc_norm"},
        tensors={"trunk.net.pos_embed": POSITIONS},
    )


TRANSFORMERS_VIDEOMAE = Kind(
    name="transformers-videomae",
    what="VideoMAEForVideoClassification of transformers",
    signature=f"{PATCHES}.weight",
    options={"heads": "12", "frames": "16", "size": "224"},
    read=read,
    prepare=prepare,
)
