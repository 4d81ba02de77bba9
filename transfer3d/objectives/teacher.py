"""The teacher: a network that is frozen by its type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import Transfer3dError, UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.fold import fold, with_same_tensors, without_norms
from transfer3d.models.fuse import student_pairs
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.class_attention import class_attention
from transfer3d.objectives.frames import distinct_frames
from transfer3d.weights.digest import tensors_digest


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher computes for B clips.

    Attributes:
        features: float32 B D, detached.
        logits: class scores B K, detached; None where the teacher has no classes.
        maps: B D F h w, detached, of the layers that were asked for; F frames, or the time steps of a video
            teacher. For a vision transformer, of its patch tokens only.
        attention: the class token's attention to each patch, B F h w; None unless asked for.
    """

    features: Tensor
    logits: Tensor | None
    maps: tuple[Tensor, ...] = ()
    attention: Tensor | None = None


class FrozenTeacher(nn.Module):
    """A network that teaches and never learns: an image model sees the frames one by one (T3D, section 3.2).

    Its parameters are hidden from the optimiser, DDP and checkpoints of an objective that holds it: they are
    not in `parameters()` or `state_dict()`. `to(device)` moves it. It stays in eval mode, and uses its own
    mean and std. Frames are resized for networks with a fixed input size, as most ViTs have.

    BatchNorms are folded into the convolutions before them, and each distinct frame is computed once. Outputs
    equal the unfolded network's up to rounding; digests and cache keys are those of the unfolded weights.

    Args:
        network: a timm model with `forward_features` and `forward_head`, or a `VideoStudent`, which sees the
            whole clip.

    Attributes:
        network: the frozen network.
        name: the network's.
        num_features: D.
        num_classes: K; 0 without a classifier.
        own_size: H and W of the frames that it was trained on.
        sees_time: whether it sees whole clips, as a `VideoStudent`, and not single frames.
        layer_features: channels of the maps of its layers; empty where it gives none.
    """

    network: nn.Module

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Bypasses nn.Module, which would register it as a part whose parameters are trained and saved.
        self.__dict__["network"] = network.requires_grad_(False).eval()
        self._folded: tuple[Any, nn.Module] = (None, network)
        self.sees_time = isinstance(network, VideoStudent)
        if isinstance(network, VideoStudent):
            self.name, self.num_features = network.model_name, network.num_features
            self.mean, self.std, self.num_classes = network.clip.mean, network.clip.std, network.num_classes
            self.size, self.own_size = None, network.clip.size
        else:
            from transfer3d.models.image import image_model_info

            image = image_model_info(network)
            self.name, self.num_features = image.name, image.num_features
            self.mean, self.std = image.mean, image.std
            self.size, self.own_size = image.size if image.takes_one_size else None, image.size
            self.num_classes = int(getattr(network, "num_classes", 0))
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: BatchNorm statistics must never move."""
        return super().train(False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves the network along with the objective that holds it."""
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Returns itself: a moving average of an objective needs no second copy of what never changes."""
        return self

    @property
    def layer_features(self) -> list[int]:
        """See the class."""
        if not hasattr(self.network, "forward_intermediates"):
            return []
        return [int(layer["num_chs"]) for layer in cast(Any, self.network).feature_info]

    @torch.no_grad()
    def forward(
        self, clips: Tensor, layers: Sequence[int] = (), *, attention: bool = False, logits: bool = True
    ) -> TeacherOutput:
        """Averages the pooled features, and the class scores, over the frames of each clip.

        Args:
            clips: uint8, B C T H W or B U C T H W, values 0..255.
            layers: positions in `layer_features` whose maps to return, ascending.
            attention: whether to return the class token's attention to each patch.
            logits: whether to compute the class scores.

        Raises:
            UsageError: attention of a network without a class token.
        """
        batch, channels = clips.shape[0], clips.shape[-4]
        index = None
        if self.sees_time:
            inputs = normalise(clips, self.mean, self.std)
        else:
            frames_NCHW = clips.movedim(-4, -3).reshape(-1, channels, *clips.shape[-2:])
            frames_NCHW, index = distinct_frames(frames_NCHW)
            inputs = self._resize(normalise(frames_NCHW, self.mean, self.std))
        network, attentions = cast(Any, self._folded_network(inputs)), list[Tensor]()
        with class_attention(network, self.name) if attention else nullcontext(attentions) as attentions:
            if layers:
                final, maps = network.forward_intermediates(inputs, indices=list(layers), norm=True)
            else:
                final, maps = network.forward_features(inputs), []
        features_ND = network.forward_head(final, pre_logits=True)
        logits_NK = network.forward_head(final) if self.num_classes and logits else None

        def of_clips(rows: Tensor) -> Tensor:
            rows = rows if index is None else rows[index]
            return rows.unflatten(0, (batch, -1))

        def mean(rows: Tensor) -> Tensor:
            return of_clips(rows.float()).mean(1)

        maps = [each if self.sees_time else of_clips(each).transpose(1, 2) for each in maps]
        weights = of_clips(attentions[0]).unflatten(-1, maps[-1].shape[-2:]) if attention else None
        return TeacherOutput(
            mean(features_ND), None if logits_NK is None else mean(logits_NK), tuple(maps), weights
        )

    def _folded_network(self, inputs: Tensor) -> nn.Module:
        """Returns the network with its BatchNorms folded; folds them again after a tensor of it changed."""
        network = self.network
        tensors = (*network.parameters(), *network.buffers())
        version = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if version != self._folded[0]:
            if isinstance(network, VideoStudent):
                folded = without_norms(with_same_tensors(network), student_pairs(network))
            else:
                folded = fold(network, inputs.shape[1:])
            self._folded = (version, folded)
        return self._folded[1]

    def _resize(self, frames_NCHW: Tensor) -> Tensor:
        if self.size is not None and frames_NCHW.shape[-2:] != (self.size, self.size):
            frames_NCHW = F.interpolate(frames_NCHW, (self.size, self.size), mode="bilinear", antialias=True)
        return frames_NCHW.contiguous(memory_format=torch.channels_last)

    def own_view(self, clip: ClipSpec) -> ClipSpec:
        """Returns a student's clip at the teacher's own size, with the same field of view."""
        sides = clip.crop if isinstance(clip.crop, tuple) else (clip.crop, clip.crop)
        crop = tuple(max(round(side * self.own_size / clip.size), self.own_size) for side in sides)
        return replace(clip, size=self.own_size, crop=crop if isinstance(clip.crop, tuple) else crop[0])

    def check(self, clip: ClipSpec) -> None:
        """Raises UsageError if the network cannot take the frames of such a clip."""
        if isinstance(self.network, VideoStudent):
            if (self.network.clip.units > 1) != (clip.units > 1):
                raise UsageError(
                    f"teacher {self.name} takes clips of {self.network.clip.units} units, the student of "
                    f"{clip.units}. Choose a student of the teacher's kind, or another teacher."
                )
            shape = clip.shape(1)
        else:
            shape = (1, clip.channels, 1, clip.size, clip.size)
        try:
            self(torch.zeros(shape, dtype=torch.uint8, device=next(self.network.parameters()).device))
        except Transfer3dError:  # may be a ValueError, and is already reported clearly
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"teacher {self.name} cannot take frames of {clip.size}x{clip.size} pixels and "
                f"{clip.channels} channels ({str(error).splitlines()[0]}). "
                "Set clip.size, or choose another teacher."
            ) from error

    def identity(self) -> str:
        """Returns the sha256 of all that its output depends on: weights, and what it does with pixels."""
        model_args = self.network.model_args if isinstance(self.network, VideoStudent) else {}
        inputs = [self.digest(), self.name, self.mean, self.std, model_args]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    def digest(self) -> str:
        """Returns the sha256 of the weights and buffers: equal before and after any training."""
        return tensors_digest(self.network.state_dict())
