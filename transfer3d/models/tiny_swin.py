"""`test_swin`: a tiny Swin transformer, as timm's `test_vit` is a tiny ViT. Importing registers it."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer

default_cfgs = generate_default_cfgs(
    {
        "test_swin.untrained": {
            "input_size": (3, 160, 160),
            "pool_size": (10, 10),
            "fixed_input_size": True,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "patch_embed.proj",
            "classifier": "head.fc",
            "num_classes": 1000,
        }
    }
)


@register_model
def test_swin(pretrained: bool = False, **kwargs: Any) -> SwinTransformer:  # noqa: PT028 - no test
    """Builds the 2D network that the tiny Swin student is inflated from; there are no pretrained weights."""
    shape = {"img_size": 160, "embed_dim": 24, "depths": (2, 2, 2), "num_heads": (2, 4, 8), "window_size": 4}
    return build_model_with_cfg(
        SwinTransformer,
        "test_swin",
        pretrained,
        feature_cfg={"flatten_sequential": True},
        **{**shape, **kwargs},
    )
