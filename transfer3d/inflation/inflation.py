"""`inflate`: turns a timm network into a student, accounts for every tensor and checks the result."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import nn

from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.inflation.parity import PARITY_SIZE, ParityCheck, check_parity
from transfer3d.inflation.rules import FRESH, TemporalInit, WeightInflator
from transfer3d.inflation.source import KNOWN_SOURCES, Source, read_source, spec_types
from transfer3d.inflation.swin_source import resampled_windows, resized_swin
from transfer3d.inflation.vit_source import check_vit, resampled_tensors, with_size
from transfer3d.inflation.weight_report import WeightReport, check_complete
from transfer3d.models.factory import create_model
from transfer3d.models.image import image_model_info, weights_digest
from transfer3d.models.registry import Family, StudentEntry, entry, families, list_models, name_for
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.joint_table import JointTableViT
from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.timm_spec import SizedSpec, SwinSpec, TimmSpec, ViTSpec

CROP_MARGIN = 256 / 224
"""Ratio of a frame's short side to the crop, for families that use the network's own input size."""

SIZED = {ViTSpec: (with_size, resampled_tensors), SwinSpec: (resized_swin, resampled_windows)}
"""Functions that change a network's image size: one builds the network, one returns notes on its tensors."""

RANDOM_KERNELS = r"trunk\..*\.weight"
HEAD = r"head\..*"


@dataclass(frozen=True, kw_only=True)
class Inflated:
    """What `inflate` returns.

    Attributes:
        student: in eval mode, on the CPU, in fp32.
        weight_report: what was done with every tensor.
        proof: the comparison with the 2D network on still clips.
        provenance: JSON-able metadata for the checkpoint: source, its digest, rule, tensor counts, proof.
    """

    student: VideoStudent
    weight_report: WeightReport
    proof: ParityCheck
    provenance: dict[str, Any]


def inflate(
    image_model: nn.Module,
    to: str,
    *,
    temporal_init: TemporalInit = "center",
    num_classes: int | None = None,
    frozen_bn: bool = False,
    seed: int = 0,
    frames: int | None = None,
    size: int | None = None,
    proof_size: int | None = None,
    **model_args: Any,
) -> Inflated:
    """Inflates a timm network to a video student that has the same output on a still clip.

    Args:
        image_model: a convolutional network or a vision transformer of timm; it is not modified.
        to: a family (`p3d`; `i3d` takes any convolutional network), or a student of the same architecture
            (`p3d_resnet50`).
        temporal_init: which temporal taps get the 2D kernel: `center` (the middle one), `mean` (I3D: all,
            divided by their number), `random` (P3D's paper: none).
        num_classes: K of the student; by default the 2D classifier is kept.
        frozen_bn: whether training will freeze BatchNorm; then the kernel of a zero branch is zero, not its
            BatchNorm weight.
        seed: for randomly initialised tensors and the images of the parity check.
        frames: T of the student's clips; by default that of the family or of the student named in `to`.
        size: H and W of the student's clips; by default those of the student named in `to`. Without a named
            student, networks that are read through timm alone keep their own size. A vision transformer's
            positions are resampled as timm does.
        proof_size: H and W of the images of the parity check; by default 64, or the size of the student's
            clips for architectures that are read through timm alone.
        **model_args: the family's options, as for `create_model`.

    Raises:
        UsageError: the family does not support the network; the message lists the families that do.
        WeightsError: a tensor is unaccounted for, or the parity check fails or has nothing to compare.
    """
    if temporal_init not in get_args(TemporalInit):
        raise UsageError(f"temporal init '{temporal_init}': must be one of {get_args(TemporalInit)}.")
    family, student_entry = _target(to)
    given, spec_type = image_model, _spec_type(image_model, family)
    resampled: dict[str, str] = {}
    if issubclass(spec_type, SizedSpec) and (side := size or (student_entry and student_entry.clip.size)):
        resize, notes = SIZED[spec_type]
        image_model = resize(image_model_info(given).name, given, side)
        resampled = notes(given, image_model)
    source = read_source(image_model, spec_type)
    _check_shape(source, family, student_entry)
    if len(source.head) > 1 and num_classes is None:
        raise UsageError(
            f"{source.name} has a classifier of several linear layers ({', '.join(source.head)}), which no "
            "student has. Give it a new classifier with `--num-classes N`, or none with `--num-classes 0`."
        )
    student = _empty_student(source, family, image_model, num_classes, seed, frames, size, model_args)
    if isinstance(student.trunk, JointTableViT):
        raise UsageError("positions='joint' cannot be inflated, only trained or imported: leave it out.")
    tensors = {name: tensor.detach().cpu().float() for name, tensor in image_model.state_dict().items()}
    inflator = WeightInflator(
        tensors,
        source.modules,
        source.head,
        temporal_init=temporal_init,
        frozen_bn=frozen_bn,
        resampled=resampled,
    )
    rows = list(inflator.fill(student))
    fresh = f"{FRESH}|{HEAD}" + (f"|{RANDOM_KERNELS}" if temporal_init == "random" else "")
    report = check_complete(
        rows,
        targets=list(student.state_dict()),
        sources=list(tensors),
        fresh=fresh,
        dropped=rf"({'|'.join(map(re.escape, source.head))})\..*",
    )
    student.eval()
    same_head = any(row.target == "head.weight" and row.source is not None for row in rows)
    if proof_size is None:
        proof_size = student.clip.size if isinstance(source.spec, TimmSpec | SizedSpec) else PARITY_SIZE
    proof = check_parity(
        image_model, student, temporal_init=temporal_init, same_head=same_head, size=proof_size, seed=seed
    )
    if proof.verdict == "failed":
        raise WeightsError(f"{source.name} to {family.name}: {proof}")
    provenance = {
        "source": source.name,
        "source_digest": weights_digest(given),
        "temporal_init": temporal_init,
        "frozen_bn": frozen_bn,
        "account": report.counts(),
        "proof": proof.to_dict(),
    }
    return Inflated(student=student, weight_report=report, proof=proof, provenance=provenance)


def targets_of(image_model: nn.Module) -> list[str]:
    """Returns the families that a 2D network can be inflated to."""
    known = set(spec_types(image_model))
    return sorted(name for name, family in families().items() if known & set(family.clips))


def _target(to: str) -> tuple[Family, StudentEntry | None]:
    known = families()
    if to in known:
        return known[to], None
    try:
        student_entry = entry(to)
    except UsageError:
        near = did_you_mean(to, (*known, *list_models()))
        raise UsageError(
            f"unknown family or student '{to}'{near}: the families are {', '.join(known)}."
        ) from None
    if student_entry.family not in known:
        raise UsageError(
            f"no image network can be inflated to {to}, a registered module. Train it with `finetune` or "
            f"`correspond`, or choose a family: {', '.join(known)}."
        )
    return known[student_entry.family], student_entry


def _spec_type(image_model: nn.Module, family: Family) -> type[TrunkSpec]:
    """Returns the spec type by which a family reads a network."""
    check_vit(image_model_info(image_model).name, image_model)
    for spec_type in spec_types(image_model):
        if spec_type in family.clips:
            return spec_type
    takes = " and ".join(KNOWN_SOURCES[spec_type] for spec_type in family.clips)
    name = image_model_info(image_model).name
    targets = ", ".join(targets_of(image_model))
    raise UsageError(f"{family.name} takes {takes}; {name} can be inflated to {targets}.")


def _check_shape(source: Source, family: Family, student_entry: StudentEntry | None) -> None:
    if student_entry is not None and student_entry.spec != source.spec:
        raise UsageError(
            f"{student_entry.name} is inflated from {student_entry.source}: "
            f"{source.name} has another architecture; use `--to {family.name}` instead."
        )


def _empty_student(
    source: Source,
    family: Family,
    image_model: nn.Module,
    num_classes: int | None,
    seed: int,
    frames: int | None,
    size: int | None,
    model_args: dict[str, Any],
) -> VideoStudent:
    """Builds the student; its `model_args` record the differences from the registered student."""
    registered = name_for(family.name, source.spec)
    clip = entry(registered).clip if registered else family.clips[type(source.spec)]
    image = image_model_info(image_model)
    own = source.spec.img_size if isinstance(source.spec, SizedSpec) else image.size
    if size is None and isinstance(source.spec, TimmSpec | SizedSpec) and own != clip.size:
        size = own
    if size is not None:
        clip = replace(clip, size=size, crop=round(size * CROP_MARGIN))
    args = dict(model_args)
    if frames is not None:
        clip = replace(clip, frames=frames)
        if "frames" in family.options:
            args["frames"] = frames
    if registered is None:
        args["spec"] = source.spec.to_dict()
    if source.in_chans != 3:
        args["in_chans"] = source.in_chans
    if "stride_in" in family.options:
        args.setdefault("stride_in", "spatial")  # timm's bottlenecks stride in their 3x3 convolution
    return create_model(
        registered or family.name,
        num_classes=source.num_classes if num_classes is None else num_classes,
        clip=replace(clip, mean=image.mean, std=image.std),
        seed=seed,
        **args,
    )
