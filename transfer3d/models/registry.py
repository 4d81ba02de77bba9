"""Names of students and of their families, and the one function that builds them.

A family is registered by its trunk builder, a student by a name, a 2D shape and the facts of its clip.
Registration is strict: a name that is taken, or that lacks its facts, is a `ValueError` at import.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.spec import TrunkSpec

FAMILY_MODULES = ("p3d", "i3ds", "r3d", "i3d", "v4d", "f4d", "densenet3d", "t3d")
DEFAULT_CLASSES = 400  # Kinetics


@dataclass(frozen=True, kw_only=True)
class Family:
    """One way to treat time.

    Attributes:
        name: as in `transfer3d inflate --to NAME`.
        paper: where it comes from.
        build: (spec, *, in_chans, ...) to the trunk; its other keyword-only parameters are options.
        clips: for each class of 2D shapes that it takes, what students without a registered name see.
    """

    name: str
    paper: str
    build: Callable[..., nn.Module]
    clips: Mapping[type[TrunkSpec], ClipSpec]

    def takes(self, spec: TrunkSpec) -> bool:
        """Whether a 2D shape has a form in this family."""
        return isinstance(spec, tuple(self.clips))

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the family's options."""
        return tuple(
            name
            for name, parameter in inspect.signature(self.build).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "in_chans"
        )


@dataclass(frozen=True, kw_only=True)
class StudentEntry:
    """One registered student.

    Attributes:
        name: `<family>_<trunk>`.
        family: name of its family.
        trunk: the 2D net's name.
        spec: the 2D shape.
        clip: what it wants to see.
        source: the timm model that it is inflated from.
        aliases: other names, the papers' own.
        options: of the family, where they differ from its defaults.
    """

    name: str
    family: str
    trunk: str
    spec: TrunkSpec
    clip: ClipSpec
    source: str
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paper(self) -> str:
        """Where the family comes from."""
        return _FAMILIES[self.family].paper


_FAMILIES: dict[str, Family] = {}
_ENTRIES: dict[str, StudentEntry] = {}
_ALIASES: dict[str, str] = {}

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


def register_family(
    name: str,
    *,
    paper: str,
    spec_type: type[TrunkSpec],
    clip: ClipSpec,
    more: Mapping[type[TrunkSpec], ClipSpec] | None = None,
) -> Callable[[Builder], Builder]:
    """Registers a trunk builder as a family.

    Args:
        name: of the family.
        paper: where it comes from.
        spec_type: class of the 2D shapes that it takes.
        clip: what students of it see, where their shape has no registered name.
        more: further classes, each with its clip.

    Raises:
        ValueError: the name is taken.
    """

    def register(build: Builder) -> Builder:
        if name in _FAMILIES or name in _ENTRIES or name in _ALIASES:
            raise ValueError(f"family '{name}': the name is taken")
        _FAMILIES[name] = Family(name=name, paper=paper, build=build, clips={spec_type: clip, **(more or {})})
        return build

    return register


def register_student(entry: StudentEntry) -> StudentEntry:
    """Registers a student under its name and its aliases.

    Raises:
        ValueError: a name is taken, the family is unknown, or the options are not the family's.
    """
    names = (entry.name, *entry.aliases)
    taken = [name for name in names if name in _ENTRIES or name in _ALIASES or name in _FAMILIES]
    if taken or len(set(names)) < len(names):
        raise ValueError(f"student '{entry.name}': the names {taken or list(names)} are taken")
    if entry.family not in _FAMILIES:
        raise ValueError(f"student '{entry.name}': no family '{entry.family}'")
    if unknown := set(entry.options) - set(_FAMILIES[entry.family].options):
        raise ValueError(f"student '{entry.name}': {entry.family} has no options {sorted(unknown)}")
    _ENTRIES[entry.name] = entry
    _ALIASES.update(dict.fromkeys(entry.aliases, entry.name))
    return entry


@cache
def _load_families() -> None:
    for module in FAMILY_MODULES:
        importlib.import_module(f"transfer3d.models.{module}")


def families() -> dict[str, Family]:
    """Returns every family by name."""
    _load_families()
    return dict(_FAMILIES)


def list_models(pattern: str = "*", *, family: str | None = None) -> list[str]:
    """Returns the registered names (not the aliases) that match a shell pattern, sorted.

    Args:
        pattern: `p3d_*`, `*tiny`; an alias that matches brings its student.
        family: only this family's.
    """
    _load_families()
    return sorted(
        name
        for name, student in _ENTRIES.items()
        if any(fnmatch.fnmatchcase(known, pattern) for known in (name, *student.aliases))
        and family in (None, student.family)
    )


def entry(name: str) -> StudentEntry:
    """Returns what is registered under a name or an alias.

    Raises:
        UsageError: there is no such student.
    """
    _load_families()
    known = _ENTRIES.get(_ALIASES.get(name, name))
    if known is None:
        near = did_you_mean(name, (*_ENTRIES, *_ALIASES))
        raise UsageError(f"no student '{name}'{near}: `transfer3d models` lists them.")
    return known


def family_of(name: str) -> str:
    """Returns the family of a `VideoStudent.model_name`: a registered name, or the family's own.

    Raises:
        UsageError: there is no such student.
    """
    return name if name in families() else entry(name).family


def name_for(family: str, spec: TrunkSpec) -> str | None:
    """Returns the name of the family's student with this 2D shape, if one is registered.

    Of several the one with the family's default options.
    """
    _load_families()
    same = [student for student in _ENTRIES.values() if student.family == family and student.spec == spec]
    return min(same, key=lambda student: len(student.options)).name if same else None


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
    **model_args: Any,
) -> VideoStudent:
    """Builds a student.

    Args:
        name: a registered name, an alias, or a family together with `spec`.
        num_classes: K; by default that of `weights`, else 400; 0 for no classifier.
        weights: a checkpoint of this student, by `transfer3d.save`.
        clip: other facts of the input than the registered ones.
        seed: of the weights' initial values.
        **model_args: `in_chans` (3), `drop_rate` (0), `spec` (a 2D shape in JSON form), the family's options.

    Raises:
        UsageError: no such name, option or value.
        WeightsError: `weights` cannot be read, or belongs to another network.
    """
    if weights is not None:
        from transfer3d.models.checkpoint import load_into_named  # checkpoint builds through this module

        return load_into_named(weights, name, num_classes=num_classes, clip=clip, model_args=model_args)
    return build_student(name, model_args, num_classes=num_classes, clip=clip, seed=seed)


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
    _load_families()
    if name in _FAMILIES:
        family, options = _FAMILIES[name], {}
        if "spec" not in model_args:
            named = ", ".join(list_models(family=name))
            raise UsageError(f"'{name}' is a family: name one of {named}, or give `spec`.")
        spec = _parse_spec(family, model_args["spec"])
        home = family.clips[type(spec)]
    else:
        student = entry(name)
        name, options, home = student.name, student.options, student.clip
        family = _FAMILIES[student.family]
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


TINY_CLIP = ClipSpec(frames=8, stride=1, size=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
"""What every tiny student sees; mean and deviation are those of timm's `test_*` models."""
