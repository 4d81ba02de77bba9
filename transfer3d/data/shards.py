"""Webdataset shards, read by byte offsets from `index.json`.

The index has offset, size and sha256 of every member, so that samples can be read in any order, independently
of the number of processes, and each read is checked. Members are never extracted to disk.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transfer3d.data.flow import FlowFormat
from transfer3d.data.folder import SUFFIXES
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError
from transfer3d.files import read_regular
from transfer3d.text import problem, shortened

INDEX = "index.json"
PLAN, PARTS = "plan.json", "parts"
"""The plan of shards, and the folder with the entries of finished ones until all are."""
FORMAT = "transfer3d-shards-1"
EXTERNAL = "webdataset"
"""The `source` of an index of third-party shards."""
MAX_INDEX_BYTES = 1 << 29
"""Maximum size of an index, which is held in memory."""
MAX_MEMBER_BYTES = 1 << 32
"""Maximum size of a video, which is held in memory."""
LONGEST_TEXT = 4000
"""Maximum length of a path or a reason in the index."""


class Member(NamedTuple):
    """Offset and size of one file of a sample in its shard, and its digest."""

    offset: int
    size: int
    sha256: str


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=LONGEST_TEXT)


class IndexedSample(_Strict):
    """One sample of the index; `members` by suffix, `labels` all classes if it may have several."""

    key: str
    label: int | None = Field(None, ge=0)
    labels: tuple[int, ...] = ()
    source: str
    frames: int
    members: dict[str, Member]

    @property
    def suffix(self) -> str:
        """The suffix of the video among the members."""
        return next(name for name in self.members if name in SUFFIXES)

    @property
    def label_set(self) -> tuple[int, ...]:
        """All its classes."""
        return self.labels or (() if self.label is None else (self.label,))


class Shard(_Strict):
    """One tar file of the index."""

    file: str
    split: str
    size: int
    samples: tuple[IndexedSample, ...]


class Index(_Strict):
    """`index.json`.

    `official` is the number of videos of each split that the dataset lists, found or not; `flow` is the
    format of optical flow; `digest` covers all other fields.
    """

    format: str
    name: str
    source: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    dropped: tuple[tuple[str, str], ...]
    official: dict[str, int] = {}
    shards: tuple[Shard, ...]
    flow: FlowFormat | None = None
    digest: str = ""

    def content_digest(self) -> str:
        """Returns the sha256 of all other fields."""
        return hashlib.sha256(self.to_json("digest").encode()).hexdigest()

    def to_json(self, *left_out: str) -> str:
        """Returns the JSON form; without flow it is that of older versions, which had none."""
        return self.model_dump_json(exclude={*left_out, *(() if self.flow else ("flow",))})


class Store(Protocol):
    """The location from which shards are read."""

    shuffle_buffer: int
    """Number of shards read at a time, if only whole shards can be read; 0 = any video at any time."""

    def use(self, files: list[str]) -> None:
        """Prepares for reading these shards."""
        ...

    def whole(self, file: str) -> bytes:
        """Returns a small file."""
        ...

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Returns some bytes of a shard."""
        ...

    def check(self, file: str, size: int) -> int:
        """Returns the size of a shard, which should be `size`; 0 if it does not exist."""
        ...

    def local(self, file: str) -> AbstractContextManager[Path]:
        """Yields the path of a local file with a shard, for the duration of the context."""
        ...


class FolderStore(Store):
    """Shards in a folder.

    Args:
        folder: with `index.json`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.shuffle_buffer = folder, 0

    def __str__(self) -> str:
        return f"{self._folder}/"

    def use(self, files: list[str]) -> None:
        """Needs no preparation."""

    def whole(self, file: str) -> bytes:
        """Returns a small file."""
        try:
            return read_regular(self._folder / file, MAX_INDEX_BYTES)
        except ValueError as error:
            raise DataError(f"{self._folder / file}: {error}. Name the right folder.") from None

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Returns some bytes of a shard."""
        return read_range(self._folder / file, offset, size)

    def check(self, file: str, size: int) -> int:
        """Returns the size of a shard."""
        path = self._folder / file
        return path.stat().st_size if path.is_file() else 0

    def local(self, file: str) -> AbstractContextManager[Path]:
        """Yields the path of the file itself."""
        return nullcontext(self._folder / file)


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Returns `size` bytes of a file from `offset`, fewer at its end."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


class ShardVideos(VideoSet):
    """One split of a set of shards, as a `VideoSet`.

    Args:
        store: location of the shards.
        index: index of the shards.
        split: a split of the index; None = all splits.
        labelled: whether each video must have a label; if False, labels are ignored.

    Raises:
        DataError: a video without a label, or a shard whose size differs from the index.
    """

    def __init__(self, store: Store, index: Index, *, split: str | None, labelled: bool) -> None:
        shards = [shard for shard in index.shards if split in (None, shard.split)]
        for shard in shards:
            _check_size(store, shard)
        store.use([shard.file for shard in shards])
        self._store = store
        self._samples = [(shard.file, sample) for shard in shards for sample in shard.samples]
        self.sequential_groups = [len(shard.samples) for shard in shards] if store.shuffle_buffer else []
        self.shuffle_buffer = store.shuffle_buffer
        samples = [sample for _, sample in self._samples]
        if not samples:
            raise DataError(
                f"{store}: no videos of '{split}'. Choose another split." if split else f"{store}: no videos."
            )
        if labelled and (bare := [s.key for s in samples if s.label is None]):
            raise DataError(
                f"{store}: {len(bare)} videos of '{split}' have no label, first {bare[0]}. {_remedy(index)}"
            )
        self.keys = [sample.key for sample in samples]
        self.labels = [sample.label if labelled else None for sample in samples]
        self.label_sets = [sample.label_set if labelled else () for sample in samples]
        self.sources = [sample.source for sample in samples]
        self.frame_counts = [sample.frames for sample in samples]
        self.classes = index.classes if labelled else ()
        self.official = index.official.get(split or "")
        self.flow = index.flow
        content = [
            [s.key, *((s.labels,) if len(s.labels) > 1 else ()), s.label, s.members[s.suffix].sha256]
            for s in samples
        ]
        self.digest = hashlib.sha256(json.dumps([index.classes, content]).encode()).hexdigest()

    @property
    def digests(self) -> list[str]:
        """The sha256 of each video's bytes."""
        return [sample.members[sample.suffix].sha256 for _, sample in self._samples]

    def open(self, index: int) -> bytes:
        """Reads a video's bytes and checks them against the index."""
        return self._member(index, self._samples[index][1].suffix)

    def check_others(self, index: int) -> None:
        """Checks the members beside a video against the index.

        Raises:
            DataError: one differs.
        """
        sample = self._samples[index][1]
        for suffix in sample.members:
            if suffix != sample.suffix:
                self._member(index, suffix)

    def _member(self, index: int, suffix: str) -> bytes:
        file, sample = self._samples[index]
        offset, size, sha256 = sample.members[suffix]
        content = self._store.read(file, offset, size)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(
                f"{self._store}{file}: {sample.key}.{suffix}: sha256 differs from the index. "
                "Copy or write the shard again."
            )
        return content


def read_index(store: Store) -> Index:
    """Reads and checks `index.json`.

    Raises:
        DataError: it is not an index, or it is inconsistent.
    """
    path = f"{store}{INDEX}"
    try:
        index = Index.model_validate_json(store.whole(INDEX))
    except ValidationError as error:
        raise DataError(f"{path}: {problem(error.errors()[0])}. Write the shards again.") from None
    if index.format != FORMAT:
        raise DataError(
            f"{path}: format {shortened(index.format)}, known is {FORMAT}. Write the shards again."
        )
    check_index(index, path)
    if index.digest not in ("", index.content_digest()):  # versions before 0.2 wrote none
        raise DataError(f"{path}: it is not what was written: another digest. Copy or write it again.")
    return index


def check_index(index: Index, path: str) -> None:
    """Checks the consistency of an index.

    Args:
        index: to check.
        path: for messages.

    Raises:
        DataError: an invalid shard name, a label that is not a class, a sample without a video, a duplicate
            class, key or shard, a member outside its shard or overlapping another one, or wrong counts.
    """
    if twice := [name for name, count in Counter(index.classes).items() if count > 1]:
        raise DataError(f"{path}: class '{twice[0]}' is listed twice.")
    counts: Counter[str] = Counter()
    keys: set[str] = set()
    files: set[str] = set()
    for shard in index.shards:
        counts[shard.split] += len(shard.samples)
        if shard.file in files:
            raise DataError(f"{path}: {shard.file} is listed twice.")
        files.add(shard.file)
        place = PurePosixPath(shard.file)
        is_below = str(place) == shard.file and not {"..", "/"} & set(place.parts) and len(place.parts) <= 2
        if not is_below or shard.file.startswith("pipe:") or place.suffix.lower() != ".tar":
            raise DataError(f"{path}: '{shard.file}' is not the name of a shard beside it.")
        for sample in shard.samples:
            if wrong := [label for label in sample.label_set if not 0 <= label < len(index.classes)]:
                count = len(index.classes)
                raise DataError(f"{path}: {sample.key} has label {wrong[0]} of {count} classes.")
            if len(set(sample.members) & set(SUFFIXES)) != 1:
                raise DataError(f"{path}: {sample.key} must have exactly one video.")
            if sample.key in keys:
                raise DataError(f"{path}: {sample.key} is listed twice.")
            keys.add(sample.key)
            inside = all(0 <= m.offset <= m.offset + m.size <= shard.size for m in sample.members.values())
            if not inside:
                raise DataError(f"{path}: {sample.key} has members outside {shard.file}.")
            if any(member.size > MAX_MEMBER_BYTES for member in sample.members.values()):
                raise DataError(f"{path}: {sample.key} has a member of more than {MAX_MEMBER_BYTES} bytes.")
        members = sorted((m.offset, m.size) for sample in shard.samples for m in sample.members.values())
        if any(offset + size > other for (offset, size), (other, _) in pairwise(members)):
            raise DataError(f"{path}: members of {shard.file} overlap.")
    if counts != Counter(index.counts):
        raise DataError(f"{path}: it counts {dict(index.counts)} videos and lists {dict(counts)}.")


def _remedy(index: Index) -> str:
    """Returns what to do about a split without labels."""
    bare = {shard.split for shard in index.shards if any(s.label is None for s in shard.samples)}
    if labelled := [split for split, count in index.counts.items() if count and split not in bare]:
        return f"Choose a split with labels, as in --split {labelled[0]}."
    if index.source == EXTERNAL:
        return "Add a member NAME.cls with the class, or NAME.json with the key label, beside each video."
    return "Pack them again, from class folders or a list with labels."


def _check_size(store: Store, shard: Shard) -> None:
    size = store.check(shard.file, shard.size)
    if size != shard.size:
        whole = sum(all(m.offset + m.size <= size for m in s.members.values()) for s in shard.samples)
        raise DataError(
            f"{store}{shard.file}: {size} of {shard.size} bytes, {whole} of {len(shard.samples)} samples "
            "readable. Copy or write it again."
        )
