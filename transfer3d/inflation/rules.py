"""The rules by which a student's tensors are computed from a 2D network's.

`spread` adds temporal taps to a kernel. Layers that the 2D network lacks are initialised by type, so that the
student has the 2D network's output on a still clip:

- T of P3D-A is the identity; T of P3D-B and P3D-C is zero.
- The branches of T3D's temporal transition are rows of the 2D transition's 1x1 convolution.
- Layers that a family appends after a block (4D convolutions, attention) are built as the identity.
- The bias of a window for an offset in space is the same for every offset in time.
- A transformer's temporal attention is a copy of its block's attention, and the linear layer after it is
  zero; its temporal position embeddings and the last layers of temporal blocks are initialised with zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import UsageError
from transfer3d.inflation.weight_report import Row
from transfer3d.models.student import VideoStudent
from transfer3d.nn.divided_attention import TemporalAttention
from transfer3d.nn.joint_windows import OffsetLinear
from transfer3d.nn.pseudo3d import Pseudo3d
from transfer3d.nn.temporal_encoder import TemporalEncoder
from transfer3d.nn.temporal_transition import TemporalTransition
from transfer3d.nn.time_positions import TimePositions

TemporalInit = Literal["center", "mean", "random"]

APPENDED = r"trunk\.(after_stem|res\d\.after\d+)(\..*)?"
"""Modules that a family appends to the trunk; their tensors keep their initial values."""

SPATIAL = re.compile(r"\.spatial(?=\.|$)")
"""Part of a module's name that leads from a layer over clips to the 2D layer that it wraps."""

BIAS_TABLE = "relative_position_bias_table"
"""The tensor of a window attention with a bias for each offset."""

FRESH = rf"trunk\.(.*\.)?temporal\..*|{APPENDED}"
"""Tensors of any family that may have no 2D counterpart."""


def spread(kernel: Tensor, depth: int, temporal_init: TemporalInit) -> Tensor:
    """Adds temporal taps to a 2D kernel: `O I h w` to `O I depth h w`.

    `center` puts it into tap (depth - 1) // 2; `mean` puts kernel / depth into every tap (I3D).
    """
    if temporal_init == "mean":
        return (kernel / depth).unsqueeze(2).repeat(1, 1, depth, 1, 1)
    spread_kernel = kernel.new_zeros((*kernel.shape[:2], depth, *kernel.shape[2:]))
    spread_kernel[:, :, (depth - 1) // 2] = kernel
    return spread_kernel


class WeightInflator:
    """Writes a 2D network's tensors into a student and reports each of them.

    Args:
        tensors: the 2D network's state dict.
        modules: see `Source.modules`.
        head: see `Source.head`.
        temporal_init: see `inflate`; `random` keeps the initial values of kernels with more than one temporal
            tap.
        frozen_bn: whether BatchNorm will be frozen in training; then the kernels of zero branches are zero.
        resampled: tensors that were interpolated to another image size, each with a note.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        modules: Mapping[str, str],
        head: Sequence[str],
        *,
        temporal_init: TemporalInit,
        frozen_bn: bool,
        resampled: Mapping[str, str] | None = None,
    ) -> None:
        self.tensors, self.modules, self.head = tensors, modules, head
        self.temporal_init: TemporalInit = temporal_init
        self.frozen_bn = frozen_bn
        self.resampled = resampled or {}

    @torch.no_grad()
    def fill(self, student: VideoStudent) -> Iterator[Row]:
        """Fills every tensor of a student and yields its row."""
        for path, module in student.named_modules():
            if re.fullmatch(APPENDED, path):
                yield from _fresh(path, module, "as built: the block is the identity")
            elif isinstance(module, Pseudo3d):
                yield from self._temporal(f"{path}.temporal", module)
            elif isinstance(module, TemporalAttention):
                yield from self._attention(path, module)
            elif isinstance(module, TimePositions):
                yield from _fresh(path, module, "zero")
            elif isinstance(module, TemporalEncoder):
                for part, block in module.blocks.named_modules(prefix=f"{path}.blocks"):
                    yield from _fresh(part, block, "as built: the blocks are the identity")
            elif isinstance(module, TemporalTransition):
                yield from self._branches(path, module)
            elif path == "head":
                yield from self._classifier(module)
            elif (source := self.modules.get(SPATIAL.sub("", path))) is not None:
                yield from self._shared_layer(path, module, source)

    def _shared_layer(self, path: str, module: nn.Module, source: str) -> Iterator[Row]:
        """Fills a layer that the 2D network also has; its children are filled separately."""
        for name, target in module.state_dict(keep_vars=True).items():
            if "." in name:
                continue
            ours, theirs = f"{path}.{name}", f"{source}.{name}".lstrip(".")
            if name == "weight" and isinstance(module, nn.Conv3d):
                yield self._kernel(ours, target, theirs)
            elif name == BIAS_TABLE or (name == "weight" and isinstance(module, OffsetLinear)):
                yield self._offsets(ours, target, theirs)
            else:
                yield self._copy(ours, target, theirs)

    def _kernel(self, name: str, target: Tensor, source_name: str) -> Row:
        source, depth = self._source(source_name), target.shape[2]
        if source.ndim == target.ndim:  # a 2D network may have a 3D convolution, in a lambda layer
            return self._copy(name, target, source_name)
        if depth > 1 and self.temporal_init == "random":
            return Row(target=name, source=source_name, how="fresh", note="random, by rule")
        _write(name, target, spread(source, depth, self.temporal_init), source_name)
        return Row(target=name, source=source_name, how="inflated" if depth > 1 else "reshaped")

    def _offsets(self, name: str, target: Tensor, source_name: str) -> Row:
        """Fills a relative position bias, with the same values for all offsets in time."""
        source = self._source(source_name)
        if source.shape == target.shape:
            return self._copy(name, target, source_name)
        if name.endswith(BIAS_TABLE):
            times = len(target) // len(source)
            value, note = source.repeat(times, 1), f"repeated for {times} offsets in time"
        else:
            value, note = F.pad(source, (1, 0)), "zero for offsets in time"
        _write(name, target, value, source_name)
        notes = filter(None, (self.resampled.get(source_name), note))
        return Row(target=name, source=source_name, how="inflated", note="; ".join(notes))

    def _copy(self, name: str, target: Tensor, source_name: str) -> Row:
        _write(name, target, self._source(source_name), source_name)
        note = self.resampled.get(source_name)
        how = "copied" if note is None else "resampled"
        return Row(target=name, source=source_name, how=how, note=note or "")

    def _source(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise UsageError(f"the image model has no tensor '{name}': its architecture is not supported.")
        return self.tensors[name]

    def _temporal(self, path: str, unit: Pseudo3d) -> Iterator[Row]:
        """Fills T of a pseudo-3D unit, which 2D networks lack."""
        conv, norm = unit.temporal.conv, unit.temporal.norm
        if self.temporal_init == "random":
            note = "random"
        elif unit.kind == "A":
            note = "identity"
            eye = torch.eye(conv.in_channels // conv.groups).repeat(conv.groups, 1)[..., None, None]
            conv.weight.copy_(spread(eye, conv.kernel_size[0], self.temporal_init))
            _make_identity(norm, unit.spatial.norm)
        elif self.frozen_bn:
            note = "zero by its kernel"  # a frozen zero weight would never learn
            conv.weight.zero_()
            norm.weight.fill_(math.sqrt(1 + norm.eps))
        else:
            note = "zero by its BatchNorm"
            norm.weight.zero_()
        yield from _fresh(f"{path}.conv", conv, note)
        yield from _fresh(f"{path}.norm", norm, note)

    def _attention(self, path: str, module: TemporalAttention) -> Iterator[Row]:
        """Fills attention over time from the attention of the 2D block."""
        block = self.modules[path.removesuffix(".temporal")]
        for ours, theirs in (("norm", "norm1"), ("attn", "attn")):
            for name, target in getattr(module, ours).state_dict(keep_vars=True).items():
                yield self._copy(f"{path}.{ours}.{name}", target, f"{block}.{theirs}.{name}")
        yield from _fresh(f"{path}.fc", module.fc, "zero")

    def _branches(self, path: str, transition: TemporalTransition) -> Iterator[Row]:
        """Distributes the rows of the 2D transition's 1x1 kernel over a temporal transition's branches."""
        source_name = f"{self.modules[f'{path}.conv']}.weight"
        rows = self._source(source_name)
        widths = [branch.weight.shape[0] for branch in transition.convolutions()]
        if sum(widths) != rows.shape[0]:
            raise UsageError(f"{path} has {sum(widths)} channels, '{source_name}' {rows.shape[0]}.")
        first = 0
        for index, (width, conv) in enumerate(zip(widths, transition.convolutions(), strict=True)):
            name, note = f"{path}.branches.{index}.weight", f"rows {first}..{first + width - 1}"
            depth, *size = conv.kernel_size
            if depth > 1 and self.temporal_init == "random":
                yield Row(target=name, source=source_name, how="fresh", note="random, by rule")
            else:
                kernel = rows.new_zeros((width, rows.shape[1], *size))
                kernel[:, :, size[0] // 2, size[1] // 2] = rows[first : first + width, :, 0, 0]
                _write(name, conv.weight, spread(kernel, depth, self.temporal_init), source_name)
                yield Row(
                    target=name, source=source_name, how="inflated" if depth > 1 else "reshaped", note=note
                )
            first += width

    def _classifier(self, head: nn.Module) -> Iterator[Row]:
        """Copies the 2D head if its number of classes matches; otherwise keeps the student's own."""
        linear = self.head[0] if len(self.head) == 1 else None
        old = self.tensors.get(f"{linear}.weight")
        shape = None if old is None else old.shape[:2] if old.shape[2:].numel() == 1 else old.shape
        fits = isinstance(head, nn.Linear) and shape == head.weight.shape
        for name, target in head.named_parameters():
            if fits and name == "weight" and old is not None and old.ndim > 2:  # a 1x1 convolution
                target.copy_(old.flatten(1))
                yield Row(target="head.weight", source=f"{linear}.weight", how="reshaped")
            elif fits:
                yield self._copy(f"head.{name}", target, f"{linear}.{name}")
            else:
                yield Row(target=f"head.{name}", source=None, how="fresh", note="new classifier")
        if not fits:
            for name in self.tensors:
                if name.rpartition(".")[0] in self.head:
                    yield Row(target=None, source=name, how="dropped", note="another classifier")


def _make_identity(norm: nn.BatchNorm3d, before: nn.BatchNorm3d) -> None:
    """Sets a BatchNorm after ReLU(before(.)) to the identity: exact in eval mode, approximate in training.

    With default statistics a training BatchNorm would centre the rectified features and destroy a pretrained
    network in its first step. After a BatchNorm of bias b and weight w the features are close to a rectified
    normal variable of mean b and standard deviation |w|, whose mean and variance have a closed form.
    """
    location = before.bias.double()
    deviation = before.weight.double().abs().clamp_min(1e-12)
    ratio = location / deviation
    density = torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    share = torch.special.ndtr(ratio)
    mean = location * share + deviation * density
    square = (location**2 + deviation**2) * share + location * deviation * density
    variance = (square - mean**2).clamp_min(0)
    norm.get_buffer("running_mean").copy_(mean)
    norm.get_buffer("running_var").copy_(variance)
    norm.bias.copy_(mean)
    norm.weight.copy_((variance + norm.eps).sqrt())


def _fresh(path: str, module: nn.Module, note: str) -> Iterator[Row]:
    for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield Row(target=f"{path}.{name}", source=None, how="fresh", note=note)


def _write(name: str, target: Tensor, value: Tensor, source_name: str) -> None:
    if target.shape != value.shape:
        raise UsageError(
            f"'{source_name}' of shape {tuple(value.shape)} does not fit '{name}' of {tuple(target.shape)}."
        )
    target.copy_(value)
