"""The tables of students and of their families.

A family is registered by its trunk builder, a student by a name, a 2D shape and the facts of its clip.
Registration is strict: a name that is taken, or that lacks its facts, is a `ValueError` at import.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from torch import nn

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.spec import TrunkSpec

FAMILY_MODULES = ("p3d", "i3ds", "r3d", "i3d", "v4d", "f4d", "densenet3d", "t3d")


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


TINY_CLIP = ClipSpec(frames=8, stride=1, size=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
"""What every tiny student sees; mean and deviation are those of timm's `test_*` models."""
