"""Webdataset shards, read by byte offsets from `index.json`.

The index holds offset, size and sha256 of every member, so that any order is a list of numbers, nothing
depends on how many processes read, and each read is checked. Members are never extracted to disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transfer3d.data.videoset import Dropped
from transfer3d.errors import DataError

SUFFIXES = ("mp4", "avi", "mkv", "webm", "mov")
INDEX = "index.json"
FORMAT = "transfer3d-shards-1"


class Member(NamedTuple):
    """Where one file of a sample lies in its shard, in bytes."""

    offset: int
    size: int
    sha256: str


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IndexedSample(_Strict):
    """One sample of the index; `members` by suffix."""

    key: str
    label: int | None = Field(None, ge=0)
    source: str
    frames: int
    members: dict[str, Member]

    @property
    def suffix(self) -> str:
        """The container's, among the members."""
        return next(name for name in self.members if name in SUFFIXES)


class Shard(_Strict):
    """One tar file of the index."""

    file: str
    split: str
    size: int
    samples: tuple[IndexedSample, ...]


class Index(_Strict):
    """`index.json`; `official` says how many videos of each split the dataset lists, found or not."""

    format: str
    name: str
    source: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    dropped: tuple[tuple[str, str], ...]
    official: dict[str, int] = {}
    shards: tuple[Shard, ...]


class ShardVideos:
    """One split of a folder of shards, as a `VideoSet`.

    Args:
        folder: of the shards.
        index: its index.
        split: one of the index's.
        labelled: whether each video must have a label; else labels are not looked at.

    Raises:
        DataError: a video without a label, or a shard whose size is not the index's.
    """

    def __init__(self, folder: Path, index: Index, *, split: str, labelled: bool) -> None:
        shards = [shard for shard in index.shards if shard.split == split]
        for shard in shards:
            _check_size(folder / shard.file, shard)
        self._samples = [(folder / shard.file, sample) for shard in shards for sample in shard.samples]
        samples = [sample for _, sample in self._samples]
        if labelled and (bare := [s.key for s in samples if s.label is None]):
            raise DataError(
                "E310", f"{folder}: {len(bare)} videos of '{split}' have no label, first {bare[0]}."
            )
        self.keys = [sample.key for sample in samples]
        self.labels = [sample.label if labelled else None for sample in samples]
        self.sources = [sample.source for sample in samples]
        self.classes = index.classes if labelled else ()
        self.dropped: tuple[Dropped, ...] = ()
        content = [[s.key, s.label, s.members[s.suffix].sha256] for s in samples]
        self.digest = hashlib.sha256(json.dumps([index.classes, content]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._samples)

    def open(self, index: int) -> bytes:
        """Reads a video's bytes and checks them against the index."""
        path, sample = self._samples[index]
        return _read_member(path, sample.key, sample.members[sample.suffix])


def read_index(folder: Path) -> Index:
    """Reads and checks `index.json`.

    Raises:
        DataError: it is no index, or one that contradicts itself.
    """
    path = folder / INDEX
    try:
        index = Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError("E331", f"{path}: {where}: {first['msg']}. Write the shards again.") from None
    if index.format != FORMAT:
        raise DataError("E331", f"{path}: format {index.format}, known is {FORMAT}. Write the shards again.")
    for shard in index.shards:
        plain = PurePosixPath(shard.file).name == shard.file and not shard.file.startswith("pipe:")
        if not plain or not shard.file.endswith(".tar"):
            raise DataError("E320", f"{path}: '{shard.file}' is no name of a shard beside it.")
        for sample in shard.samples:
            if sample.label is not None and sample.label >= len(index.classes):
                count = len(index.classes)
                raise DataError("E310", f"{path}: {sample.key} has label {sample.label} of {count} classes.")
            if len(set(sample.members) & set(SUFFIXES)) != 1:
                raise DataError("E331", f"{path}: {sample.key} has not exactly one video.")
    return index


def _check_size(path: Path, shard: Shard) -> None:
    size = path.stat().st_size if path.is_file() else 0
    if size != shard.size:
        whole = sum(all(m.offset + m.size <= size for m in s.members.values()) for s in shard.samples)
        raise DataError(
            "E330",
            f"{path}: {size} of {shard.size} bytes, {whole} of {len(shard.samples)} samples readable. "
            "Copy or write it again.",
        )


def _read_member(path: Path, key: str, member: Member) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        content = os.pread(handle, member.size, member.offset)
    finally:
        os.close(handle)
    if hashlib.sha256(content).hexdigest() != member.sha256:
        raise DataError(
            "E330", f"{path}: {key}: sha256 differs from the index. Copy or write the shard again."
        )
    return content
