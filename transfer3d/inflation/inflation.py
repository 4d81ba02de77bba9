"""`inflate`: a timm network in, a student of a family out, with the account of every tensor and the proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import nn

from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.inflation.account import Account, close
from transfer3d.inflation.proof import PROOF_SIZE, Proof, prove
from transfer3d.inflation.rules import FRESH, Filler, TemporalInit
from transfer3d.inflation.source import KNOWN_SOURCES, Source, read_source, spec_types
from transfer3d.models.factory import create_model
from transfer3d.models.image import image_facts, weights_digest
from transfer3d.models.registry import Family, StudentEntry, entry, families, list_models, name_for
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.timm3d import TimmSpec

CROP_MARGIN = 256 / 224
"""Of a frame's short side over the crop's size, where a network brings its own size."""

RANDOM_KERNELS = r"trunk\..*\.weight"
HEAD = r"head\..*"


@dataclass(frozen=True, kw_only=True)
class Inflated:
    """What `inflate` gives.

    Attributes:
        student: in eval mode, on the CPU, in fp32.
        account: every tensor's way.
        proof: the still-clip proof.
        provenance: JSON-able facts for the checkpoint: source, its digest, rule, account, proof.
    """

    student: VideoStudent
    account: Account
    proof: Proof
    provenance: dict[str, Any]


def inflate(
    image_model: nn.Module,
    to: str,
    *,
    temporal_init: TemporalInit = "center",
    num_classes: int | None = None,
    frozen_bn: bool = False,
    seed: int = 0,
    proof_size: int | None = None,
    **model_args: Any,
) -> Inflated:
    """Turns a timm network into a video student that gives, on a still clip, the network's own output.

    Args:
        image_model: a convolutional timm network; it is not changed.
        to: a family (`p3d`; `i3d` takes any), or a student of the same shape (`p3d_resnet50`).
        temporal_init: how a 2D kernel fills its temporal taps: `center` (the middle one), `mean` (I3D: all
            alike), `random` (P3D's paper: none).
        num_classes: K of the student; by default the 2D classifier is kept.
        frozen_bn: training will freeze BatchNorm: branches that start as zero are so by their kernel.
        seed: of fresh tensors and of the proof's images.
        proof_size: H and W of the proof's images; by default 64, or what the network was trained on where its
            code is not known here.
        **model_args: of `create_model`; the family's options.

    Raises:
        UsageError: the network has no form in this family; the message says which have.
        WeightsError: a tensor is unaccounted for, or the proof fails or has nothing to compare.
    """
    if temporal_init not in get_args(TemporalInit):
        raise UsageError(f"temporal init '{temporal_init}': one of {get_args(TemporalInit)}.")
    family, student_entry = _target(to)
    source = read_source(image_model, _spec_type(image_model, family))
    _check_shape(source, family, student_entry)
    student = _empty_student(source, family, image_model, num_classes, seed, model_args)
    tensors = {name: tensor.detach().cpu().float() for name, tensor in image_model.state_dict().items()}
    filler = Filler(tensors, source.modules, source.head, temporal_init=temporal_init, frozen_bn=frozen_bn)
    rows = list(filler.fill(student))
    fresh = f"{FRESH}|{HEAD}" + (f"|{RANDOM_KERNELS}" if temporal_init == "random" else "")
    account = close(
        rows,
        targets=list(student.state_dict()),
        sources=list(tensors),
        fresh=fresh,
        dropped=rf"{source.head}\..*",
    )
    student.eval()
    same_head = any(row.target == "head.weight" and row.source is not None for row in rows)
    if proof_size is None:
        proof_size = student.clip.size if isinstance(source.spec, TimmSpec) else PROOF_SIZE
    proof = prove(
        image_model, student, temporal_init=temporal_init, same_head=same_head, size=proof_size, seed=seed
    )
    if proof.verdict == "failed":
        raise WeightsError(f"{source.name} to {family.name}: {proof}")
    provenance = {
        "source": source.name,
        "source_digest": weights_digest(image_model),
        "temporal_init": temporal_init,
        "frozen_bn": frozen_bn,
        "account": account.counts(),
        "proof": proof.to_dict(),
    }
    return Inflated(student=student, account=account, proof=proof, provenance=provenance)


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
        raise UsageError(f"no family or student '{to}'{near}: the families are {', '.join(known)}.") from None
    return known[student_entry.family], student_entry


def _spec_type(image_model: nn.Module, family: Family) -> type[TrunkSpec]:
    """Returns as what a family takes a network."""
    for spec_type in spec_types(image_model):
        if spec_type in family.clips:
            return spec_type
    takes = " and ".join(KNOWN_SOURCES[spec_type] for spec_type in family.clips)
    name = image_facts(image_model).name
    raise UsageError(f"{family.name} takes {takes}; {name} can go to {', '.join(targets_of(image_model))}.")


def _check_shape(source: Source, family: Family, student_entry: StudentEntry | None) -> None:
    if student_entry is not None and student_entry.spec != source.spec:
        raise UsageError(
            f"{student_entry.name} is inflated from {student_entry.source}: "
            f"{source.name} has another shape; `--to {family.name}` takes it as it is.",
        )


def _empty_student(
    source: Source,
    family: Family,
    image_model: nn.Module,
    num_classes: int | None,
    seed: int,
    model_args: dict[str, Any],
) -> VideoStudent:
    """Builds the student, which says in `model_args` what is not the registered one's."""
    named = name_for(family.name, source.spec)
    clip = entry(named).clip if named else family.clips[type(source.spec)]
    facts = image_facts(image_model)
    if isinstance(source.spec, TimmSpec):
        clip = replace(clip, size=facts.size, crop=round(facts.size * CROP_MARGIN))
    args = dict(model_args)
    if named is None:
        args["spec"] = source.spec.to_dict()
    if source.in_chans != 3:
        args["in_chans"] = source.in_chans
    if "stride_in" in family.options:
        args.setdefault("stride_in", "spatial")  # where timm's bottlenecks stride
    return create_model(
        named or family.name,
        num_classes=source.num_classes if num_classes is None else num_classes,
        clip=replace(clip, mean=facts.mean, std=facts.std),
        seed=seed,
        **args,
    )
