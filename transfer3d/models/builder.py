"""Builds a student, with random weights, from its name and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_type_hints

import torch

from transfer3d.errors import Transfer3dError, UsageError, did_you_mean
from transfer3d.layout import ClipSpec, per_channel
from transfer3d.models.registry import Family, entry, families, family_of, list_models
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.spec import TrunkSpec, check_types

DEFAULT_CLASSES = 400  # Kinetics


def build_student(
    name: str,
    model_args: Mapping[str, Any],
    *,
    num_classes: int | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
) -> VideoStudent:
    """Builds a student as `create_model` does, without weights; `model_args` may come from a file.

    Raises:
        UsageError: no such name, option or value.
    """
    family, options = family_of(name), {}
    given_spec = _parse_spec(family, model_args["spec"]) if "spec" in model_args and family.clips else None
    if name not in families():
        student = entry(name)
        name, options = student.name, student.options
        spec, default_clip = given_spec or student.spec, student.clip
    elif given_spec is not None:
        spec, default_clip = given_spec, family.clips[type(given_spec)]
    else:
        named = ", ".join(list_models(family=name))
        raise UsageError(f"'{name}' is a family: name one of {named}, or give `spec`.")
    shared = ("drop_rate", "global_pool", "spec") if family.clips else ("drop_rate", "global_pool")
    known = tuple(dict.fromkeys((*family.arguments, *shared)))
    for key in model_args:
        if key not in known:
            near = did_you_mean(key, known)
            raise UsageError(f"{name} has no argument '{key}'{near}: it has {', '.join(known)}.")
    arguments = {**options, **{key: value for key, value in model_args.items() if key in family.arguments}}
    clip = clip or default_clip
    in_chans = model_args.get("in_chans", 3 if family.clips else clip.channels)
    recorded = dict(model_args) if given_spec is None else {**model_args, "spec": given_spec.to_dict()}
    try:
        if family.clips:  # the argument types of a user's module are not known
            check_types(arguments, get_type_hints(family.build, include_extras=True))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return VideoStudent(
                family.build(spec, **arguments),
                num_classes=DEFAULT_CLASSES if num_classes is None else num_classes,
                clip=_with_channels(clip, int(in_chans)),
                model_name=name,
                model_args=recorded,
                drop_rate=float(model_args.get("drop_rate", 0.0)),
                global_pool=model_args.get("global_pool", "avg"),
            )
    except Transfer3dError:  # may be a ValueError, and is already reported clearly
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:  # torch's own for absurd sizes
        raise UsageError(f"{name}: {error}.") from error


def _parse_spec(family: Family, spec: Any) -> TrunkSpec:
    if isinstance(spec, tuple(family.clips)):
        return spec
    faults = []
    for spec_type in family.clips:
        try:
            return spec_type.from_dict(dict(spec))
        except (TypeError, ValueError) as error:
            faults.append(str(error))
    raise UsageError(f"`spec` of {family.name}: {'; '.join(faults)}.")


def _with_channels(clip: ClipSpec, in_chans: int) -> ClipSpec:
    """Returns an RGB clip spec with mean and standard deviation for `in_chans` channels."""
    mean, std = per_channel(clip.mean, clip.std, in_chans)
    return replace(clip, mean=mean, std=std)
