"""Grad-CAM of vision transformers: the patch tokens of every time step are the positions.

Paper: Selvaraju et al., "Grad-CAM", ICCV 2017, equations (1) and (2). If only the class token is classified,
the scores do not depend on the patch tokens after the last block, whose gradients are 0. The default layer is
therefore the deepest one whose patch tokens affect the scores.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.vit import VideoViT


def token_evidence(
    student: VideoStudent, trunk: VideoViT, clips: Tensor, target: int, layer: str | None
) -> tuple[Tensor, str]:
    """Returns the evidence `U T' H' W'` for a class, and the layer whose patch tokens were weighted.

    Args:
        student: with a classifier, in eval mode.
        trunk: trunk of this student.
        clips: one clip, normalised, with its axis B.
        target: the class.
        layer: a block, by its name in `Trunk.layers`; None = the deepest one that affects the scores.

    Raises:
        UsageError: there is no such layer, or its patch tokens do not affect the scores.
    """
    layers = {name: module for name, (_, module) in trunk.layers().items()}
    if layer is not None and layer not in layers:
        raise UsageError(f"{student.model_name} has no layer '{layer}'{did_you_mean(layer, layers)}.")
    tokens: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            tokens.setdefault(name, output)  # a recomputed block calls the hook twice

        return hook

    with ExitStack() as hooks, torch.enable_grad():
        for name, module in layers.items():
            hooks.callback(module.register_forward_hook(keep(name)).remove)
        final, maps = student.forward_intermediates(clips.detach().requires_grad_(), 1)
        score = student.forward_head(final)[0, target]
        gradients = torch.autograd.grad(score, list(tokens.values()), materialize_grads=True)
    height, width = maps[0].shape[-2:]

    def patches(of_block: Tensor) -> Tensor:
        """Returns `U T' D H' W'` of a block's tokens."""
        maps = trunk.patch_maps(trunk.token_maps(of_block), height, width)
        return maps.transpose(1, 2).flatten(0, 1).unflatten(0, (student.clip.units, -1))

    slopes = {name: patches(gradient) for name, gradient in zip(tokens, gradients, strict=True)}
    reaching = [name for name, slope in slopes.items() if slope.any()]
    if layer is None:
        layer = [*layers, *reaching][-1]
    elif reaching and layer not in reaching:
        raise UsageError(
            f"{student.model_name}: the scores do not depend on the patch tokens of layer '{layer}', only on "
            f"its class token. Use {reaching[-1]} or an earlier layer."
        )
    weights = slopes[layer].mean((1, 3, 4), keepdim=True)
    return (patches(tokens[layer]) * weights).sum(2), layer
