"""The video student of every family: a trunk, an average over everything, dropout, one linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.nn.pixels import normalise

CLIP_NDIM = 5  # B C T H W
UNITS_NDIM = 6  # B U C T H W
FRAMES_NDIM = 4  # N C H W: layers of a 2D network see the frames of clips as a batch
HEAD_STD = 0.01


class Trunk(Protocol):
    """What a family provides: a module from clips `N C T H W` to feature maps `N D T' H' W'`.

    Video-level trunks also take `units`: how many units of one video lie one after the other in the batch.
    A trunk with layers behind its pooling has `pool_features(maps)`; else maps are averaged.
    """

    num_features: int


class VideoStudent(nn.Module):
    """A video network with timm's manners.

    Attributes:
        num_features: D, channels of the feature maps and size of the pooled feature.
        num_classes: K; 0 when there is no classifier.
        clip: what it wants to see.
        model_name: registered name (or family name, when `model_args` holds a shape of its own).
        model_args: JSON-able; `create_model(model_name, num_classes=num_classes, **model_args)` rebuilds it.
        class_names: in the order of the logits; None where they are not known.

    Args:
        trunk: see `Trunk`.
        num_classes: K.
        clip: see above; `units` > 1 makes the input `B U C T H W`.
        model_name: see above.
        model_args: see above.
        drop_rate: dropout in front of the classifier (P3D, section 3.3: 0.9 on UCF101).
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        num_classes: int,
        clip: ClipSpec,
        model_name: str,
        model_args: Mapping[str, Any],
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_features = int(trunk.num_features)  # pyright: ignore[reportArgumentType]
        self.num_classes = num_classes
        self.clip = clip
        self.model_name = model_name
        self.model_args = dict(model_args)
        self.class_names: Sequence[str] | None = None
        self.trunk = trunk
        self.dropout = nn.Dropout(drop_rate)
        self.head = _classifier(self.num_features, num_classes)

    def normalise(self, clips: Tensor) -> Tensor:
        """Returns uint8 clips as floats, by the student's own mean and standard deviation.

        Args:
            clips: uint8, 0..255, `[...] C T H W`.
        """
        return normalise(clips, self.clip.mean, self.clip.std, self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(self.parameters()).dtype

    def forward_features(self, clips: Tensor) -> Tensor:
        """Returns feature maps `B D T' H' W'`; the units of a video stand one after the other along T'.

        Args:
            clips: `B C T H W`, or `B U C T H W` where `clip.units` > 1: uint8 pixels, which are normalised
                here, or floats that are normalised already.

        Raises:
            UsageError: the input has another number of axes.
        """
        if clips.dtype == torch.uint8:
            clips = self.normalise(clips)
        if self.clip.units == 1:
            if clips.ndim != CLIP_NDIM:
                raise UsageError(
                    f"{self.model_name} takes B C T H W, not {clips.ndim} axes: fold more into the batch.",
                )
            return self.trunk(clips)
        if clips.ndim != UNITS_NDIM:
            raise UsageError(
                f"{self.model_name} takes B U C T H W, not {clips.ndim} axes: add the axis of units.",
            )
        units = clips.shape[1]
        maps = self.trunk(clips.flatten(0, 1), units)
        return maps.unflatten(0, (-1, units)).transpose(1, 2).flatten(2, 3)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `B K`, or with `pre_logits` the pooled features `B D`.

        Args:
            features: feature maps `B D T' H' W'`.
            pre_logits: stop in front of the classifier.
        """
        pool = getattr(self.trunk, "pool_features", None)
        pooled = self.dropout(features.mean((2, 3, 4)) if pool is None else pool(features))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, clips: Tensor) -> Tensor:
        """Returns logits `B K`; see `forward_features` for the input."""
        return self.forward_head(self.forward_features(clips))

    def reset_classifier(self, num_classes: int, *, seed: int = 0) -> None:
        """Puts a new classifier in place of the old one; 0 classes for none.

        Args:
            num_classes: K.
            seed: of the new weights.
        """
        like = next(self.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = _classifier(self.num_features, num_classes)
        self.head = head.to(device=like.device, dtype=like.dtype).train(self.training)
        self.num_classes, self.class_names = num_classes, None

    def get_classifier(self) -> nn.Module:
        """Returns the classifier, as in timm."""
        return self.head


def _classifier(num_features: int, num_classes: int) -> nn.Module:
    """Makes the linear layer: small normal weights, zero bias."""
    if num_classes == 0:
        return nn.Identity()
    head = nn.Linear(num_features, num_classes)
    nn.init.normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    return head
