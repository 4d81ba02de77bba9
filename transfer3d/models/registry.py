"""The model registry: families, their students, and modules that users register.

A family extends 2D networks to time: `register_family` decorates the function that builds its trunk. One call
adds a student: `register_student(name, family, spec, clip, source=...)`, where `spec` is the 2D architecture.
`register_model` makes any module a student. A name that is taken raises `ValueError`.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import importlib.metadata
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.files import nearest_beside
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.trunk import ModuleTrunk, Trunk

FAMILY_MODULES = (
    *("p3d", "i3ds", "r3d", "i3d", "v4d", "f4d", "densenet3d", "t3d"),
    *("vivit", "timesformer", "video_swin"),
)
ENTRY_POINTS = "transfer3d.models"
"""The entry-point group in which an installed package names a module that registers students."""

log = logging.getLogger(__name__)

EarlierOptions = Callable[[Trunk, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of students: one way to extend 2D networks to time.

    Attributes:
        name: as in `transfer3d inflate --to NAME`.
        paper: the paper that describes it.
        build: builds the trunk from `(spec, *, in_chans, ...)`; its other keyword arguments are options.
        clips: the spec classes of 2D networks that it accepts, each with the default clip of unregistered
            students; empty for a module that a user registered.
        earlier_options: converts the options of a checkpoint that was saved before a default changed, given
            the trunk and these options.
    """

    name: str
    paper: str
    build: Callable[..., Trunk]
    clips: Mapping[type[TrunkSpec], ClipSpec]
    earlier_options: EarlierOptions | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments of `build` after `spec`."""
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(self.build).parameters.values()
        return tuple(item.name for item in parameters if item.kind in kinds and item.name != "spec")

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the family's options."""
        return tuple(name for name in self.arguments if name != "in_chans")


@dataclass(frozen=True, kw_only=True)
class StudentEntry:
    """One registered student.

    Attributes:
        name: `<family>_<2D network>`.
        family: name of its family.
        spec: the architecture of the 2D network; None for a module that a user registered.
        clip: its input.
        source: the timm model that it is inflated from; None for a module that a user registered.
        aliases: other names, such as the paper's.
        options: the family's options that differ from their defaults.
    """

    name: str
    family: str
    spec: TrunkSpec | None
    clip: ClipSpec
    source: str | None
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paper(self) -> str:
        """The paper that describes the family."""
        return _FAMILIES[self.family].paper


_FAMILIES: dict[str, Family] = {}
_ENTRIES: dict[str, StudentEntry] = {}
_ALIASES: dict[str, str] = {}

Builder = TypeVar("Builder", bound=Callable[..., Trunk])
ModuleMaker = TypeVar("ModuleMaker", bound=Callable[..., nn.Module])


def register_family(
    name: str,
    *,
    paper: str,
    clips: Mapping[type[TrunkSpec], ClipSpec],
    earlier_options: EarlierOptions | None = None,
) -> Callable[[Builder], Builder]:
    """Registers the function that builds a trunk as a family.

    Args:
        name: name of the family.
        paper: the paper that describes it.
        clips: see `Family`.
        earlier_options: see `Family`.

    Raises:
        ValueError: the name is taken.
    """

    def register(build: Builder) -> Builder:
        _check_free(name)
        _FAMILIES[name] = Family(
            name=name, paper=paper, build=build, clips=clips, earlier_options=earlier_options
        )
        return build

    return register


def register_student(
    name: str,
    family: str,
    spec: TrunkSpec,
    clip: ClipSpec,
    *,
    source: str,
    aliases: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
) -> None:
    """Registers a student of a family; see `StudentEntry` for the arguments.

    Raises:
        ValueError: a name is taken, the family is unknown, or it has no such option.
    """
    _check_free(name, *aliases)
    if family not in _FAMILIES:
        raise ValueError(f"student '{name}': no family '{family}'")
    options = options or {}
    if unknown := set(options) - set(_FAMILIES[family].options):
        raise ValueError(f"student '{name}': {family} has no options {sorted(unknown)}")
    _ENTRIES[name] = StudentEntry(
        name=name, family=family, spec=spec, clip=clip, source=source, aliases=aliases, options=options
    )
    _ALIASES.update(dict.fromkeys(aliases, name))


def register_model(
    name: str, *, clip: ClipSpec, paper: str = "registered module"
) -> Callable[[ModuleMaker], ModuleMaker]:
    """Registers any module as a student: a decorator for its class, or for a function that builds it.

    The module has `num_features` and maps clips `B C T H W` to feature maps `B D T' H' W'` with D =
    `num_features`. The arguments of the class become arguments of `create_model`; a checkpoint records them,
    so they must be JSON-able. Running the same definition again, as in a notebook, replaces it.

    Args:
        name: for `create_model` and in checkpoints.
        clip: the module's input; with several units, each is passed to the module alone.
        paper: shown by `transfer3d models`.

    Raises:
        ValueError: the name is taken.

    Example:
        >>> @transfer3d.register_model("tiny_c3d", clip=ClipSpec(frames=8, size=32))
        ... class TinyC3D(nn.Module): ...
        >>> student = transfer3d.create_model("tiny_c3d", num_classes=10)
    """

    def register(make: ModuleMaker) -> ModuleMaker:
        @functools.wraps(make, updated=())
        def build(spec: None, **arguments: Any) -> Trunk:
            return ModuleTrunk(make(**arguments))

        known = _FAMILIES.get(name)
        if known is None or _definition(known.build) != _definition(build):
            _check_free(name)
        _FAMILIES[name] = Family(name=name, paper=paper, build=build, clips={})
        _ENTRIES[name] = StudentEntry(name=name, family=name, spec=None, clip=clip, source=None)
        return make

    return register


def families() -> dict[str, Family]:
    """Returns the families that 2D networks can be inflated to, by name."""
    _load_families()
    return {name: family for name, family in _FAMILIES.items() if family.clips}


def list_models(pattern: str = "*", *, family: str | None = None) -> list[str]:
    """Returns the registered names (not the aliases) that match a shell pattern, sorted.

    Args:
        pattern: `p3d_*`, `*tiny`; a student is also found by its aliases.
        family: only members of this family.
    """
    _load_families()
    return sorted(
        name
        for name, student in _ENTRIES.items()
        if any(fnmatch.fnmatchcase(known, pattern) for known in (name, *student.aliases))
        and family in (None, student.family)
    )


def is_model(name: str) -> bool:
    """Whether a student is registered under this name or alias."""
    _load_families()
    return name in _ENTRIES or name in _ALIASES


def entry(name: str) -> StudentEntry:
    """Returns the student that is registered under a name or an alias.

    Raises:
        UsageError: there is no such student.
    """
    if not is_model(name):
        if "/" in name:
            near = nearest_beside(Path(name))
            raise UsageError(f"{name} does not exist{near}. Give a student's name, or a checkpoint.")
        near = did_you_mean(name, (*_ENTRIES, *_ALIASES))
        raise UsageError(
            f"no student '{name}'{near}: `transfer3d models` lists them. "
            "If it is a module of your own, import the module that registers it first, or install it as a "
            f"package with an entry point '{ENTRY_POINTS}'."
        )
    return _ENTRIES[_ALIASES.get(name, name)]


def family_of(name: str) -> Family:
    """Returns the family of a `VideoStudent.model_name`: a registered name, or the family's own.

    Raises:
        UsageError: there is no such student.
    """
    _load_families()
    return _FAMILIES[name if name in _FAMILIES else entry(name).family]


def name_for(family: str, spec: TrunkSpec) -> str | None:
    """Returns the name of the family's registered student with this 2D architecture, if any.

    If there are several, that is the one with the family's default options.
    """
    _load_families()
    same = [student for student in _ENTRIES.values() if student.family == family and student.spec == spec]
    return min(same, key=lambda student: len(student.options)).name if same else None


@cache
def _load_families() -> None:
    for module in FAMILY_MODULES:
        importlib.import_module(f"transfer3d.models.{module}")
    for plugin in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            plugin.load()
        except Exception as error:  # a broken plugin must not break every command
            what = f"{type(error).__name__}: {error}"
            log.warning("the students of %s are not available: importing it failed: %s", plugin.value, what)


def _check_free(*names: str) -> None:
    for number, name in enumerate(names):
        if name in _FAMILIES or name in _ENTRIES or name in _ALIASES or name in names[:number]:
            raise ValueError(f"student '{names[0]}': the name '{name}' is taken")


def _definition(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


TINY_CLIP = ClipSpec(frames=8, stride=1, size=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
"""The clip of every tiny student; mean and deviation are those of timm's `test_*` models."""
