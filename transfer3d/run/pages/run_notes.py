"""Schemas of a run folder's metadata: its start, its end and its evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from transfer3d.evaluation.metrics import BEST, HITS

Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
SHARES = (
    *(f"{of}_top{k}" for of in ("clip", "video") for k in BEST),
    *(f"{of}_hit{k}" for of in ("clip", "video") for k in HITS),
    *("mean_class_accuracy", "mean_ap"),
)


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class DataNote(_Note):
    """The videos of a run."""

    videos: Count
    classes: dict[str, Count] = {}
    held_out: Count = 0
    dropped: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    digest: str = ""


class StartedNote(_Note):
    """`started.json`."""

    environment: dict[str, str | int | float] = {}
    data: DataNote | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form of the fields that are set."""
        return self.model_dump(exclude_none=True)


class FinishedNote(_Note):
    """`finished.json`."""

    steps: Count = 0
    metrics: dict[str, float] = {}


class ReportNote(_Note):
    """A report that `transfer3d evaluate` wrote."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    checkpoint_sha256: str
    protocol: dict[str, Any]
    views: Count
    scored: Annotated[int, Field(ge=1, lt=2**53)]
    split: str
    data: str
    data_digest: str
    per_class: Annotated[dict[str, Share | None], Field(min_length=1)]
    confusion: list[list[Count]] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        count, extra = len(self.per_class), self.model_extra or {}
        rows = self.confusion
        if "confusion" in self.model_fields_set and [len(row) for row in rows] != [count] * count:
            raise ValueError(f"the confusion matrix is not {count} x {count}, for its {count} classes")
        for name in (name for name in SHARES if name in extra):
            if type(extra[name]) not in (int, float) or not 0 <= extra[name] <= 1:
                raise ValueError(f"{name} is not between 0 and 1")
        if not isinstance(self.protocol.get("name"), str):
            raise ValueError("its protocol has no name")
        return self
