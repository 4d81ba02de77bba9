"""Builds a student, with random weights, from its registered name and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.layout import ClipSpec
from transfer3d.models.registry import Family, entry, families, list_models
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.spec import TrunkSpec

DEFAULT_CLASSES = 400  # Kinetics


def build_student(
    name: str,
    model_args: Mapping[str, Any],
    *,
    num_classes: int | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
) -> VideoStudent:
    """What `create_model` does without weights; `model_args` may come from a file.

    Raises:
        UsageError: no such name, option or value.
    """
    if name in families():
        family, options = families()[name], {}
        if "spec" not in model_args:
            named = ", ".join(list_models(family=name))
            raise UsageError(f"'{name}' is a family: name one of {named}, or give `spec`.")
        spec = _parse_spec(family, model_args["spec"])
        home = family.clips[type(spec)]
    else:
        student = entry(name)
        name, options, home = student.name, student.options, student.clip
        family = families()[student.family]
        spec = _parse_spec(family, model_args["spec"]) if "spec" in model_args else student.spec
    known = ("in_chans", "drop_rate", "spec", *family.options)
    for key in model_args:
        if key not in known:
            near = did_you_mean(key, known)
            raise UsageError(f"{name} has no argument '{key}'{near}: it has {', '.join(known)}.")
    given = {key: value for key, value in model_args.items() if key in family.options}
    recorded = {**model_args, "spec": spec.to_dict()} if "spec" in model_args else model_args
    try:
        in_chans, drop_rate = int(model_args.get("in_chans", 3)), float(model_args.get("drop_rate", 0.0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return VideoStudent(
                family.build(spec, in_chans=in_chans, **{**options, **given}),
                num_classes=DEFAULT_CLASSES if num_classes is None else num_classes,
                clip=_with_channels(clip or home, in_chans),
                model_name=name,
                model_args=recorded,
                drop_rate=drop_rate,
            )
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: {error}.") from error


def _parse_spec(family: Family, facts: Any) -> TrunkSpec:
    if isinstance(facts, tuple(family.clips)):
        return facts
    faults = []
    for spec_type in family.clips:
        try:
            return spec_type.from_dict(dict(facts))
        except (TypeError, ValueError) as error:
            faults.append(str(error))
    raise UsageError(f"`spec` of {family.name}: {'; '.join(faults)}.")


def _with_channels(clip: ClipSpec, in_chans: int) -> ClipSpec:
    """Gives a clip made for RGB a grey mean and deviation for each of `in_chans` channels."""
    if len(clip.mean) == in_chans:
        return clip
    return replace(
        clip,
        mean=(sum(clip.mean) / len(clip.mean),) * in_chans,
        std=(sum(clip.std) / len(clip.std),) * in_chans,
    )
