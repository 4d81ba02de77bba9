"""The 2D GoogLeNet that I3D is inflated from, in timm's manners: timm has none. Importing registers it.

Its parts and their names are torchvision's, so torchvision's file of ImageNet weights fits: `--weights timm`
takes it from where torchvision does. The auxiliary classifiers in it are left out.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d, GoogLeNet_Weights, Inception

from transfer3d.models.trunks.googlenet3d import INCEPTIONS, GoogLeNetSpec

CFG = {
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    # torchvision's weights want these: with ImageNet's own, its network converts the input at its entrance.
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


class GoogLeNet(nn.Module):
    """GoogLeNet with BatchNorm.

    Attributes:
        spec: its shape.
        num_classes: K.
        in_chans: channels of its input.
        num_features: D, size of its pooled feature.

    Args:
        num_classes: see above.
        in_chans: see above.
        drop_rate: in front of the classifier.
        divisor: of every width.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0, divisor: int = 1
    ) -> None:
        super().__init__()
        self.spec = GoogLeNetSpec(divisor=divisor)
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = self.spec.num_features
        first, reduced, channels = self.spec.widths("stem")
        self.conv1 = BasicConv2d(in_chans, first, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(first, reduced, kernel_size=1)
        self.conv3 = BasicConv2d(reduced, channels, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name in INCEPTIONS:
            if name == "inception4a":
                self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
            if name == "inception5a":
                self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
            one, reduce3, three, reduce5, five, pooled = self.spec.widths(name)
            self.add_module(name, Inception(channels, one, reduce3, three, reduce5, five, pooled))
            channels = self.spec.joined(name)
        self.layers = list(self._modules)
        self.dropout = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """`B C H W` to feature maps `B D H/32 W/32`."""
        for name in self.layers:
            images = self.get_submodule(name)(images)
        return images

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `B K`, or with `pre_logits` the pooled features `B D`."""
        pooled = self.dropout(features.mean((2, 3)))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `B K`."""
        return self.forward_head(self.forward_features(images))

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new classifier in place of the old one; 0 classes for none."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def _without_auxiliary(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(("aux1.", "aux2."))}


@register_model
def googlenet(pretrained: bool = False, **kwargs: Any) -> GoogLeNet:
    """Makes the paper's net."""
    return build_model_with_cfg(
        GoogLeNet, "googlenet", pretrained, pretrained_filter_fn=_without_auxiliary, **kwargs
    )


@register_model
def test_googlenet(pretrained: bool = False, **kwargs: Any) -> GoogLeNet:  # noqa: PT028 - no test
    """Makes the net that the tiny I3D is inflated from; there are no pretrained weights."""
    return build_model_with_cfg(GoogLeNet, "test_googlenet", pretrained, **{"divisor": 8, **kwargs})
