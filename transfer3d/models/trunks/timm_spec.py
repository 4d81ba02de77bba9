"""Shapes that are names of timm's networks; timm itself is imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transfer3d.models.trunks.spec import TrunkSpec

LARGEST_SIDE = 4096
OVERRIDES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("depth", "embed_dim", "num_heads", "patch_size", "reg_tokens", "num_reg_tokens"), (int,)
    ),
    **dict.fromkeys(
        ("class_token", "no_embed_class", "pre_norm", "final_norm", "fc_norm"), (bool, type(None))
    ),
    **dict.fromkeys(("qkv_bias", "qk_norm", "swiglu_mlp", "scale_mlp", "use_rot_pos_emb"), (bool,)),
    **dict.fromkeys(("use_abs_pos_emb", "use_fc_norm", "use_post_norm"), (bool, type(None))),
    **dict.fromkeys(("mlp_ratio", "init_values"), (int, float, type(None))),
    **dict.fromkeys(("global_pool", "act_layer", "norm_layer"), (str,)),
}
"""timm's arguments that the shape of a vision transformer may override, and their types."""


@dataclass(frozen=True, kw_only=True)
class TimmSpec(TrunkSpec):
    """A network of timm.

    Attributes:
        architecture: timm's name, without a tag.
    """

    architecture: str


@dataclass(frozen=True, kw_only=True)
class ViTSpec(TrunkSpec):
    """A vision transformer of timm.

    Attributes:
        architecture: timm's name, without a tag.
        img_size: H and W of the images that its positions are made for.
        overrides: arguments of timm's that differ from those of the name; one of `OVERRIDES` each.

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
        for name, value in self.overrides.items():
            if type(value) not in OVERRIDES.get(name, ()):
                raise ValueError(f"override {name}={value!r} of {self.architecture} cannot be recorded")
