"""The video student of every family: a trunk, pooling, dropout, one linear layer; timm's interface."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.trunk import CLIP_NDIM, ModuleTrunk, Trunk
from transfer3d.nn.leaf import leaf
from transfer3d.nn.pixels import normalise

UNITS_NDIM = 6  # B U C T H W
HEAD_STD = 0.01
POOLS = ("avg", "")
FEATURE_FORMAT = "NCTHW"

Indices = int | Sequence[int] | Sequence[str] | None


class VideoStudent(nn.Module):
    """A video network with timm's interface.

    Attributes:
        num_features: D, size of the pooled feature; also the channels of the feature maps, except in timm
            networks whose head changes them.
        num_classes: K; 0 if there is no classifier.
        clip: its input.
        model_name: registered name (or family name, when `model_args` has a `spec`).
        model_args: JSON-able; `create_model(model_name, num_classes, **model_args)` rebuilds it.
        class_names: in the order of the logits; None if unknown.
        multi_label: whether a video may have several labels, see `probabilities`.
        global_pool: "avg", or "" if `forward_head` returns feature maps.

    Args:
        trunk: a `Trunk`, or any module that maps clips `B C T H W` to feature maps `B D T' H' W'` and has
            D as its `num_features`.
        num_classes: see above.
        clip: see above; `units` > 1 makes the input `B U C T H W`.
        model_name: see above.
        model_args: see above.
        drop_rate: dropout before the classifier (P3D, section 3.3: 0.9 on UCF101).
        global_pool: see above.

    Raises:
        ValueError: an unknown `global_pool`, or a classifier without pooling.
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
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        _check_pool(global_pool, num_classes)
        self.trunk = trunk if isinstance(trunk, Trunk) else ModuleTrunk(trunk)
        self.num_features = self.trunk.num_features
        self.num_classes = num_classes
        self.clip = clip
        self.model_name = model_name
        self.model_args = dict(model_args)
        self.class_names: Sequence[str] | None = None
        self.multi_label = False
        self.global_pool = global_pool
        self.dropout = nn.Dropout(drop_rate)
        self.head = _classifier(self.num_features, num_classes)

    def normalise(self, clips: Tensor) -> Tensor:
        """Returns uint8 clips as floats, normalised with the student's mean and standard deviation.

        Args:
            clips: uint8, 0..255, `[...] C T H W`.
        """
        return normalise(clips, self.clip.mean, self.clip.std, self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(self.parameters()).dtype

    @property
    def head_hidden_size(self) -> int:
        """Size of the feature before the classifier."""
        return self.num_features

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The input specification for `timm.data.resolve_data_config({}, model=student)`."""
        clip = self.clip
        short = clip.crop if isinstance(clip.crop, int) else min(clip.crop)
        return {
            "input_size": (clip.channels, clip.size, clip.size),
            "mean": clip.mean,
            "std": clip.std,
            "crop_pct": clip.size / short,
            "crop_mode": "center",
            "interpolation": "bilinear",
            "num_classes": self.num_classes,
            "classifier": "head",
        }

    default_cfg = pretrained_cfg

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """The layers of `forward_intermediates`, in timm's format.

        Each has `module` (its name), `num_chs`, `reduction` (of H and W), `temporal_reduction` (of T) and
        `index`. The sizes are found with a copy on the `meta` device.
        """
        multiple = self.trunk.largest_reduction
        frames, size = (multiple * math.ceil(n / multiple) for n in (self.clip.frames, self.clip.size))
        memo: dict[int, Any] = {
            id(tensor): nn.Parameter(tensor.to("meta"))
            if isinstance(tensor, nn.Parameter)
            else tensor.to("meta")
            for tensor in (*self.trunk.parameters(), *self.trunk.buffers())
        }
        trunk, stages, units = copy.deepcopy(self.trunk, memo).eval(), self.trunk.stages, self.clip.units
        clips = torch.empty(units, self.clip.channels, frames, size, size, dtype=self.dtype, device="meta")
        with torch.no_grad():
            _, maps = trunk.forward_layers(clips, units, stages)
        return [
            {
                "module": name,
                "num_chs": maps[name].shape[1],
                "reduction": round(size / maps[name].shape[-1]),
                "temporal_reduction": round(frames / maps[name].shape[2]),
                "index": index,
            }
            for index, name in enumerate(stages)
        ]

    def forward_features(self, clips: Tensor) -> Tensor:
        """Returns feature maps `B D T' H' W'`; the units of a video follow each other along T'.

        For a vision transformer they are tokens, `B D T' L 1`, with class and register tokens before the
        patches of each time step; `forward_intermediates` gives maps of the patches.

        Args:
            clips: `B C T H W`, or `B U C T H W` if `clip.units` > 1: uint8 pixels, which are normalised
                here, or floats, which must be normalised already.

        Raises:
            UsageError: the input has a wrong number of axes.
        """
        clips, units = self._trunk_input(clips)
        return self._units_in_time(self.trunk(clips, units), units)

    @overload
    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = FEATURE_FORMAT,
        intermediates_only: Literal[False] = False,
    ) -> tuple[Tensor, list[Tensor]]: ...

    @overload
    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = FEATURE_FORMAT,
        *,
        intermediates_only: Literal[True],
    ) -> list[Tensor]: ...

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = FEATURE_FORMAT,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Returns the feature maps of `forward_features`, and those of earlier layers.

        Args:
            x: see `forward_features`.
            indices: which layers, in the order of the result: positions in `feature_info` (negative ones
                count from the end), an int for the last n, None for all; or names of any layers of the trunk,
                such as `res4.1`.
            norm: no effect: the final maps are always normalised, a vision transformer's blocks never.
            stop_early: stop at the last of these layers, whose maps are then the final ones.
            output_fmt: only "NCTHW".
            intermediates_only: return the list alone.

        Returns:
            (final maps, list of maps), or the list; each `B D T' H' W'`. As in `forward_features`, the units
            of a video follow each other along T'.

        Raises:
            UsageError: no such layer or format; a wrong number of axes.
        """
        if output_fmt != FEATURE_FORMAT:
            raise UsageError(f"output_fmt={output_fmt!r}: video features are {FEATURE_FORMAT}.")
        names = self.layer_names(indices)
        clips, units = self._trunk_input(x)
        final, maps = self.trunk.forward_layers(clips, units, names, stop_early=stop_early)
        intermediates = [self._units_in_time(maps[name], units) for name in names]
        return intermediates if intermediates_only else (self._units_in_time(final, units), intermediates)

    def layer_names(self, indices: Indices = None) -> list[str]:
        """Returns the names of the layers that `indices` of `forward_intermediates` select.

        Raises:
            UsageError: there is no such layer.
        """
        stages, known = self.trunk.stages, self.trunk.layers()
        if indices is None:
            return list(stages)
        if isinstance(indices, int):
            indices = range(-indices, 0)
        names = []
        for index in indices:
            if isinstance(index, int):
                if not -len(stages) <= index < len(stages):
                    raise UsageError(
                        f"{self.model_name} has no layer {index}: {len(stages)} are in feature_info."
                    )
                names.append(stages[index])
            elif index in known:
                names.append(index)
            else:
                raise UsageError(f"{self.model_name} has no layer '{index}'{did_you_mean(index, known)}.")
        return names

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `B K`, or with `pre_logits` the pooled features `B D`.

        Args:
            features: feature maps `B D T' H' W'`.
            pre_logits: stop before the classifier.
        """
        pooled = self.dropout(self.trunk.pool_features(features) if self.global_pool else features)
        return pooled if pre_logits else self.head(pooled)

    def forward(self, clips: Tensor) -> Tensor:
        """Returns logits `B K`; see `forward_features` for the input."""
        return self.forward_head(self.forward_features(clips))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns the probability of each class, in float32 or higher precision.

        Softmax, or a sigmoid per class for a multi-label student.

        Args:
            logits: `[...] K`.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)

    def get_classifier(self) -> nn.Module:
        """Returns the classifier, an `nn.Identity` if there is none."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None, *, seed: int = 0) -> None:
        """Replaces the classifier.

        Args:
            num_classes: K; 0 for none.
            global_pool: "avg", "" for feature maps instead of pooled features, None to leave it unchanged.
            seed: for the new weights.

        Raises:
            UsageError: an unknown `global_pool`, or a classifier without pooling.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        try:
            _check_pool(global_pool, num_classes)
        except ValueError as error:
            raise UsageError(f"{self.model_name}: {error}.") from None
        like = next(self.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = _classifier(self.num_features, num_classes)
        self.head = head.to(device=like.device, dtype=like.dtype).train(self.training)
        self.class_names, self.multi_label = None, False
        self.num_classes = num_classes
        if global_pool != self.global_pool:
            self.global_pool = self.model_args["global_pool"] = global_pool

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Returns regular expressions that group parameter names by layer, in order, for `timm.optim`.

        Args:
            coarse: group by stage instead of by block.
        """
        return {
            name: rf"^trunk\.(?:{pattern})"
            for name, pattern in self.trunk.group_matcher(coarse=coarse).items()
        }

    def no_weight_decay(self) -> set[str]:
        """Returns the names of weights that should not decay, in addition to those of one dimension."""
        return {f"trunk.{name}" for name in self.trunk.no_weight_decay()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades computation for memory: activations within a layer are recomputed in the backward pass.

        Gradients, random numbers and BatchNorm statistics stay the same.
        """
        self.trunk.set_grad_checkpointing(enable)

    def _trunk_input(self, clips: Tensor) -> tuple[Tensor, int]:
        """Returns normalised clips `B*U C T H W`, and U."""
        clip = self.clip
        clips = _checked(clips, self.model_name, clip.units > 1, clip.mean, clip.std, self.dtype)
        return (clips, 1) if clip.units == 1 else (clips.flatten(0, 1), clips.shape[1])

    def _units_in_time(self, maps: Tensor, units: int) -> Tensor:
        """`B*U D T H W` to `B D U*T H W`."""
        if self.clip.units == 1:
            return maps
        return maps.unflatten(0, (-1, units)).transpose(1, 2).flatten(2, 3)


@leaf
def _checked(
    clips: Tensor,
    name: str,
    has_units: bool,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype,
) -> Tensor:
    """Returns normalised clips.

    Raises:
        UsageError: clips have a wrong number of axes.
    """
    if has_units and clips.ndim != UNITS_NDIM:
        raise UsageError(f"{name} takes B U C T H W, not {clips.ndim} axes: add the axis of units.")
    if not has_units and clips.ndim != CLIP_NDIM:
        raise UsageError(f"{name} takes B C T H W, not {clips.ndim} axes: fold more into the batch.")
    return normalise(clips, mean, std, dtype) if clips.dtype == torch.uint8 else clips


def _check_pool(global_pool: str, num_classes: int) -> None:
    if global_pool not in POOLS:
        raise ValueError(f"global_pool={global_pool!r}: one of {POOLS}")
    if num_classes and not global_pool:
        raise ValueError(f"{num_classes} classes without pooling: use global_pool='avg', or 0 classes")


def _classifier(num_features: int, num_classes: int) -> nn.Module:
    """Makes the linear layer: small normal weights, zero bias."""
    if num_classes == 0:
        return nn.Identity()
    head = nn.Linear(num_features, num_classes)
    nn.init.normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    return head
