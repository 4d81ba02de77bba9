"""Schemas of checkpoint headers and hub addresses, which are checked before a network is built.

The nesting of the JSON is bounded when it is parsed (`files.parse_json`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from transfer3d.layout import ClipSpec

MAX_TENSORS = 100_000
MAX_CLASSES = 1_000_000
MAX_CHANNELS = 4096
"""Maximum channels of a frame."""
MAX_NUMBER = 1_000_000
"""Largest number in a network's arguments: channels, widths, depths."""

LONGEST_TEXT = 200
"""Maximum length of a text argument."""

Name = Annotated[str, Field(max_length=1000, pattern=r"^\P{Cc}+$")]
"""Text without control characters."""
Frames = Annotated[int, Field(ge=1, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=8192)]
Units = Annotated[int, Field(ge=1, le=256)]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Level = Annotated[float, Field(ge=-1000, le=1000)]
"""A channel's mean, on a 0..1 scale."""
Deviation = Annotated[float, Field(gt=0, le=1000)]


class _Strict(BaseModel):
    """Types are not coerced: 3.0, "3" and true are not the number 3."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TensorEntry(_Strict):
    """One tensor in the header of a safetensors file."""

    model_config = ConfigDict(extra="ignore")

    dtype: Annotated[str, Field(max_length=20)]
    shape: Annotated[list[Size], Field(max_length=64)]
    data_offsets: Annotated[list[Size], Field(min_length=2, max_length=2)]


class SafetensorsHeader(_Strict):
    """The header of any safetensors file: its metadata, and its tensors by name."""

    metadata: dict[Name, str]
    tensors: Annotated[dict[Name, TensorEntry], Field(max_length=MAX_TENSORS)]


class ClipFields(_Strict):
    """`transfer3d.clip`, the fields of `ClipSpec`."""

    frames: Frames
    stride: Frames = 1
    size: Pixels
    crop: (
        Annotated[int, Field(ge=0, le=16384)]
        | Annotated[list[Annotated[int, Field(ge=1, le=16384)]], Field(min_length=2, max_length=2)]
    ) = 0
    units: Units = 1
    mean: Annotated[list[Level], Field(min_length=1, max_length=MAX_CHANNELS)]
    std: Annotated[list[Deviation], Field(min_length=1, max_length=MAX_CHANNELS)]


class ModelArguments(_Strict):
    """`transfer3d.model_args`: the arguments of every family, and bounds on the numbers in all others."""

    model_config = ConfigDict(extra="allow")

    in_chans: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    global_pool: Literal["avg", ""] = "avg"
    spec: dict[Name, Any] = {}

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        for name, value in {**self.spec, **(self.model_extra or {})}.items():
            for leaf in _leaves(value):
                if isinstance(leaf, int | float) and abs(leaf) > MAX_NUMBER:
                    raise ValueError(f"{name} has the number {repr(leaf)[:20]}, beyond {MAX_NUMBER}")
                if isinstance(leaf, str) and len(leaf) > LONGEST_TEXT:
                    raise ValueError(f"{name} has a text of {len(leaf)} characters, beyond {LONGEST_TEXT}")
        return self

    @property
    def blocks(self) -> int:
        """Number of blocks that the arguments imply; each has at least one tensor."""
        overrides, extra = self.spec.get("overrides"), self.model_extra or {}
        over = overrides if isinstance(overrides, dict) else {}
        promised = [
            self.spec.get("depths"),
            over.get("depth"),
            over.get("depths"),
            extra.get("encoder_depth"),
        ]
        return sum(leaf for leaf in _leaves(promised) if isinstance(leaf, int))


def _check_arguments(value: Any) -> Any:
    """Validates a table of arguments and returns it unchanged, without the schema's defaults."""
    ModelArguments.model_validate(value)
    return value


def _to_clip(value: Any) -> ClipSpec:
    return ClipSpec.from_dict(ClipFields.model_validate(value).model_dump())


class CheckpointMetadata(_Strict):
    """The metadata of a checkpoint, read without its tensors."""

    version: Name
    """The version of transfer3d that wrote the file."""
    model: Name
    """`VideoStudent.model_name`."""
    model_args: Annotated[dict[Name, Any], BeforeValidator(_check_arguments)]
    """`VideoStudent.model_args`."""
    num_classes: Annotated[int, Field(ge=0, le=MAX_CLASSES)]
    """K."""
    class_names: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=MAX_CLASSES)] | None
    """In the order of the logits; None if unknown."""
    multi_label: bool = False
    """Whether a video may have several labels: probabilities are sigmoids of the logits, not a softmax."""
    clip: Annotated[ClipSpec, BeforeValidator(_to_clip)]
    """The network's input."""
    provenance: dict[str, Any]
    """How the weights were made: teacher, source weights, recipe, data, metrics, proof."""
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """`tensors_digest` of the tensors when they were saved; None in files of older versions."""
    shapes: Annotated[dict[str, tuple[int, ...]], Field(repr=False)]
    """The shape of every tensor."""

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        """Checks that the fields agree with each other and with the tensors' shapes."""
        names, rows = self.class_names, self.shapes.get("head.weight", (self.num_classes,))[:1]
        if names is not None and len(names) != self.num_classes:
            raise ValueError(f"{len(names)} class names for {self.num_classes} classes")
        if rows != (self.num_classes,):
            raise ValueError(f"{self.num_classes} classes, and head.weight has {list(rows)} rows")
        blocks = ModelArguments.model_validate(self.model_args).blocks
        if blocks > len(self.shapes):
            raise ValueError(f"{blocks} blocks in {len(self.shapes)} tensors")
        return self


class HubAddress(_Strict):
    """`user/name@revision` on the Hugging Face hub, by its rules for names."""

    repository: Annotated[str, Field(max_length=96, pattern=r"^\w([\w.-]*\w)?/\w([\w.-]*\w)?$")]
    revision: Annotated[str, Field(max_length=200, pattern=r"^\w[\w./-]*$")] | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        text = f"{self.repository}@{self.revision}"
        if "--" in self.repository or ".." in text or self.repository.endswith(".git"):
            raise ValueError("a name must not contain -- or .., nor end in .git")
        return self


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the scalar values within a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value
