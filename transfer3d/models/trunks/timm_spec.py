"""Shapes that are names of timm's networks; timm itself is imported when one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transfer3d.models.trunks.spec import TrunkSpec

LARGEST_SIDE = 4096
Check = Callable[[Any], bool]


def _of(*types: type) -> Check:
    return lambda value: type(value) in types


def _integers(value: Any) -> bool:
    """Whether a value is an integer, a list of them, or of such lists."""
    return type(value) is int or (type(value) is list and all(map(_integers, value)))


VIT_OVERRIDES: dict[str, Check] = {
    **dict.fromkeys(
        ("depth", "embed_dim", "num_heads", "patch_size", "reg_tokens", "num_reg_tokens"), _of(int)
    ),
    **dict.fromkeys(
        ("class_token", "no_embed_class", "pre_norm", "final_norm", "fc_norm"), _of(bool, type(None))
    ),
    **dict.fromkeys(("qkv_bias", "qk_norm", "swiglu_mlp", "scale_mlp", "use_rot_pos_emb"), _of(bool)),
    **dict.fromkeys(("use_abs_pos_emb", "use_fc_norm", "use_post_norm"), _of(bool, type(None))),
    **dict.fromkeys(("mlp_ratio", "init_values"), _of(int, float, type(None))),
    **dict.fromkeys(("global_pool", "act_layer", "norm_layer"), _of(str)),
}
"""timm's arguments that the shape of a vision transformer may override, and which values can be recorded."""
SWIN_OVERRIDES: dict[str, Check] = {
    **dict.fromkeys(("embed_dim", "patch_size"), _of(int)),
    **dict.fromkeys(("depths", "num_heads", "window_size", "pretrained_window_sizes"), _integers),
    **dict.fromkeys(("qkv_bias", "always_partition"), _of(bool)),
    "mlp_ratio": _of(int, float),
    **dict.fromkeys(("global_pool", "act_layer"), _of(str)),
}
"""The same of a Swin transformer."""


@dataclass(frozen=True, kw_only=True)
class TimmSpec(TrunkSpec):
    """A network of timm.

    Attributes:
        architecture: timm's name, without a tag.
    """

    architecture: str


@dataclass(frozen=True, kw_only=True)
class SizedSpec(TrunkSpec):
    """A network of timm that is built for images of one size.

    Attributes:
        architecture: timm's name, without a tag.
        img_size: H and W of those images.
        overrides: arguments of timm's that differ from those of the name.

    Raises:
        ValueError: a value is out of range.
    """

    architecture: str
    img_size: int
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.img_size) is not int or not 1 <= self.img_size <= LARGEST_SIDE:
            raise ValueError(f"img_size={self.img_size!r}: 1 to {LARGEST_SIDE}")
        if not isinstance(self.overrides, Mapping):
            raise ValueError(f"overrides={self.overrides!r}: names with values")
        known = self.recordable()
        for name, value in self.overrides.items():
            if name not in known or not known[name](value):
                raise ValueError(f"override {name}={value!r} of {self.architecture} cannot be recorded")

    @classmethod
    def recordable(cls) -> Mapping[str, Check]:
        """Returns the arguments that `overrides` may hold, and which values of them."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ViTSpec(SizedSpec):
    """A vision transformer of timm."""

    @classmethod
    def recordable(cls) -> Mapping[str, Check]:
        """See `SizedSpec`."""
        return VIT_OVERRIDES


@dataclass(frozen=True, kw_only=True)
class SwinSpec(SizedSpec):
    """A Swin transformer of timm, of the first or the second version."""

    @classmethod
    def recordable(cls) -> Mapping[str, Check]:
        """See `SizedSpec`."""
        return SWIN_OVERRIDES
