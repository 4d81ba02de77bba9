"""`test_densenet`: a tiny DenseNet, the counterpart of timm's `test_resnet`. Importing registers it."""

from __future__ import annotations

from typing import Any

from timm.models import DenseNet, build_model_with_cfg, generate_default_cfgs, register_model

default_cfgs = generate_default_cfgs(
    {
        "test_densenet.untrained": {
            "input_size": (3, 160, 160),
            "pool_size": (5, 5),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "features.conv0",
            "classifier": "classifier",
            "num_classes": 1000,
        }
    }
)


@register_model
def test_densenet(pretrained: bool = False, **kwargs: Any) -> DenseNet:  # noqa: PT028 - no test
    """Builds the 2D network that the tiny dense students are inflated from; it has no pretrained weights."""
    shape = {"growth_rate": 16, "block_config": (3, 3, 3, 3)}
    return build_model_with_cfg(DenseNet, "test_densenet", pretrained, **{**shape, **kwargs})
