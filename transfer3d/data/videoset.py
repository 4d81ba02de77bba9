"""What every source of videos looks like to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transfer3d.data.decode import Source


@dataclass(frozen=True)
class Dropped:
    """A file that was left out, and why."""

    path: str
    reason: str


class VideoSet(Protocol):
    """Videos by number, in one fixed order."""

    @property
    def keys(self) -> Sequence[str]:
        """A name for each video, unique."""
        ...

    @property
    def labels(self) -> Sequence[int | None]:
        """The class of each, None where it has none."""
        ...

    @property
    def label_sets(self) -> Sequence[tuple[int, ...]]:
        """All classes of each, where a set has videos with several; none where it has none."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """The original video that each was cut from: two of one source are no mismatched pair."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names, by label."""
        ...

    @property
    def digest(self) -> str:
        """What the set holds, sha256, hex."""
        ...

    @property
    def sequential_groups(self) -> Sequence[int]:
        """Lengths of the runs of videos that lie together, where those are read run by run; else empty."""
        ...

    @property
    def shuffle_buffer(self) -> int:
        """How many runs are mixed."""
        ...

    @property
    def official(self) -> int | None:
        """How many videos the dataset lists for this part, found or not; None where nothing says so."""
        ...

    @property
    def dropped(self) -> Sequence[Dropped]:
        """Files that were left out at the start."""
        ...

    def __len__(self) -> int: ...

    def open(self, index: int) -> Source:
        """Returns what to decode: a path, or bytes that are checked.

        Raises:
            DataError: the bytes are not those that were written.
        """
        ...
