"""The 2D GoogLeNet that I3D is inflated from: torchvision's, as a timm model. Importing registers it.

timm has no GoogLeNet. `--weights timm` downloads torchvision's ImageNet weights; their auxiliary classifiers
are left out.
"""

from __future__ import annotations

import warnings
from typing import Any

import torchvision
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d, GoogLeNet_Weights, Inception

from transfer3d.models.trunks.googlenet3d import GoogLeNetSpec

CFG = {
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    # torchvision's weights expect these: its network converts inputs normalised with ImageNet's statistics.
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "first_conv": "conv1.conv",
    "classifier": "fc",
    "num_classes": 1000,
}
default_cfgs = generate_default_cfgs(
    {
        "googlenet.tv_in1k": {**CFG, "url": GoogLeNet_Weights.IMAGENET1K_V1.url, "license": "bsd-3-clause"},
        "test_googlenet.untrained": CFG,
    }
)


class GoogLeNet(torchvision.models.GoogLeNet):
    """torchvision's network with timm's methods, and widths divided by `divisor`.

    Attributes:
        spec: its architecture.
        num_classes: K.
        in_chans: channels of its input.
        num_features: D, size of its pooled feature.

    Args:
        num_classes: see above.
        in_chans: see above.
        drop_rate: rate of the dropout before the classifier.
        divisor: divisor of all widths.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0, divisor: int = 1
    ) -> None:
        def conv(in_channels: int, out_channels: int, **kwargs: Any) -> BasicConv2d:
            channels = in_chans if in_channels == 3 else in_channels // divisor
            return BasicConv2d(channels, out_channels // divisor, **kwargs)

        def inception(*widths: int) -> Inception:
            scaled: Any = [width // divisor for width in widths]
            return Inception(*scaled)

        with warnings.catch_warnings(action="ignore"):  # the classifier has 0 classes at this point
            super().__init__(
                num_classes=0,
                aux_logits=False,
                init_weights=False,
                blocks=[conv, inception, nn.Identity],
                dropout=drop_rate,
            )
        self.spec = GoogLeNetSpec(divisor=divisor)
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = self.spec.num_features
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """`B C H W` to feature maps `B D H/32 W/32`."""
        for name, layer in self.named_children():
            if name == "avgpool":
                break
            images = layer(images)
        return images

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `B K`, or with `pre_logits` the pooled features `B D`."""
        pooled = self.dropout(features.mean((2, 3)))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns logits `B K`."""
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the classifier; 0 classes for none."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def _without_auxiliary(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(("aux1.", "aux2."))}


@register_model
def googlenet(pretrained: bool = False, **kwargs: Any) -> GoogLeNet:
    """Builds the paper's network."""
    return build_model_with_cfg(
        GoogLeNet, "googlenet", pretrained, pretrained_filter_fn=_without_auxiliary, **kwargs
    )


@register_model
def test_googlenet(pretrained: bool = False, **kwargs: Any) -> GoogLeNet:  # noqa: PT028 - no test
    """Builds the network that the tiny I3D is inflated from; there are no pretrained weights."""
    return build_model_with_cfg(GoogLeNet, "test_googlenet", pretrained, **{"divisor": 8, **kwargs})
