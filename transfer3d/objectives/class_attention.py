"""Attention of a vision transformer's class token to each patch, as in DINO (arXiv:2104.14294)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from transfer3d.errors import UsageError


@contextmanager
def class_attention(network: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Collects the class token's attention in the last block, for each forward pass within the context.

    Each entry is the mean over heads, `N L` for L patches. That block computes its attention unfused, since
    fused attention does not return weights.

    Args:
        network: a timm network with attention blocks and a class token.
        name: name of the network, for messages.

    Raises:
        UsageError: the network has no class token, or another kind of attention.
    """
    parts = cast(Any, network)
    blocks = getattr(parts, "blocks", None)
    is_list = isinstance(blocks, nn.Sequential | nn.ModuleList)
    attention: Any = getattr(blocks[-1], "attn", None) if is_list else None
    if getattr(parts, "cls_token", None) is None or not hasattr(attention, "attn_drop"):
        raise UsageError(
            f"dense_weights: {name} is not one of timm's ViTs with a class token, whose attention gives the "
            "weights. Leave dense_weights out."
        )
    prefix, collected = parts.num_prefix_tokens, list[Tensor]()

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        collected.append(inputs[0][:, :, 0, prefix:].float().mean(1))

    fused, attention.fused_attn = attention.fused_attn, False
    handle = attention.attn_drop.register_forward_pre_hook(keep)
    try:
        yield collected
    finally:
        handle.remove()
        attention.fused_attn = fused
