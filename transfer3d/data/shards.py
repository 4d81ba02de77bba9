"""Webdataset shards: tar files written by webdataset, read by byte offsets from `index.json`.

The index holds offset, size and sha256 of every member, so that any order is a list of numbers, nothing
depends on how many processes read, and each read is checked. Members are never extracted to disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transfer3d.data.videoset import Dropped
from transfer3d.errors import DataError, UsageError
from transfer3d.files import atomic_path, write_text

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
    """`index.json`."""

    format: str
    name: str
    source: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    dropped: tuple[tuple[str, str], ...]
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Sample:
    """One video on its way into a shard.

    Attributes:
        key: unique over all splits, without a dot or a slash.
        video: the file's bytes.
        suffix: of its container.
        label: class, or None.
        source: the original video.
        frames: number of frames.
        facts: further facts for KEY.json.
    """

    key: str
    video: bytes
    suffix: str
    label: int | None
    source: str
    frames: int
    facts: dict[str, Any] = field(default_factory=dict)


def write_shards(
    folder: Path, name: str, split: str, samples: Iterable[Sample], *, per_shard: int = 500
) -> list[Shard]:
    """Writes `NAME-SPLIT-000000.tar`, ...: the same bytes for the same samples. `write_index` comes last."""
    shards, chunk = [], []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == per_shard:
            shards.append(_write_shard(folder / f"{name}-{split}-{len(shards):06d}.tar", split, chunk))
            chunk = []
    if chunk:
        shards.append(_write_shard(folder / f"{name}-{split}-{len(shards):06d}.tar", split, chunk))
    return shards


def write_index(
    folder: Path,
    name: str,
    shards: Sequence[Shard],
    *,
    classes: Sequence[str],
    source: str,
    dropped: Sequence[Dropped] = (),
) -> None:
    """Writes `sizes.json` (open_clip's), `_info.json` (timm's) and, last, `index.json`.

    Raises:
        DataError: a key is there twice.
    """
    keys = Counter(sample.key for shard in shards for sample in shard.samples)
    if twice := [key for key, n in keys.items() if n > 1]:
        raise DataError(
            "E312", f"{folder}: key {twice[0]} is there {keys[twice[0]]} times. Make keys unique."
        )
    splits: dict[str, list[Shard]] = {}
    for shard in shards:
        splits.setdefault(shard.split, []).append(shard)
    counts = {split: sum(len(shard.samples) for shard in members) for split, members in splits.items()}
    write_text(folder / "sizes.json", _json({shard.file: len(shard.samples) for shard in shards}))
    info = {
        split: {
            "name": split,
            "num_samples": counts[split],
            "filenames": [shard.file for shard in members],
            "shard_lengths": [len(shard.samples) for shard in members],
        }
        for split, members in splits.items()
    }
    write_text(folder / "_info.json", _json({"splits": info}))
    index = Index(
        format=FORMAT,
        name=name,
        source=source,
        classes=tuple(classes),
        counts=counts,
        dropped=tuple((d.path, d.reason) for d in dropped),
        shards=tuple(shards),
    )
    write_text(folder / INDEX, index.model_dump_json(indent=None) + "\n")


class ShardVideos:
    """One split of a folder of shards, as a `VideoSet`.

    Raises:
        DataError: no index, one that does not fit its shards, or a shard whose size is not the index's.
        UsageError: no such split.
    """

    def __init__(self, folder: Path, *, split: str, labelled: bool) -> None:
        index = read_index(folder)
        if split not in index.counts:
            raise UsageError("E212", f"{folder} has no split '{split}'. It has {', '.join(index.counts)}.")
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
        self.dropped = [Dropped(path, reason) for path, reason in index.dropped]
        content = [[s.key, s.label, s.members[s.suffix].sha256] for s in samples]
        self.digest = hashlib.sha256(json.dumps([index.classes, content]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._samples)

    def open(self, index: int) -> bytes:
        """Reads a video's bytes and checks them against the index."""
        path, sample = self._samples[index]
        return _read_member(path, sample.key, sample.members[sample.suffix])


def read_index(folder: Path) -> Index:
    """Reads and checks `index.json`."""
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
        if PurePosixPath(shard.file).name != shard.file or not shard.file.endswith(".tar"):
            raise DataError("E320", f"{path}: '{shard.file}' is no name of a shard beside it.")
        for sample in shard.samples:
            if sample.label is not None and sample.label >= len(index.classes):
                count = len(index.classes)
                raise DataError("E310", f"{path}: {sample.key} has label {sample.label} of {count} classes.")
            if len(set(sample.members) & set(SUFFIXES)) != 1:
                raise DataError("E331", f"{path}: {sample.key} has not exactly one video.")
    return index


def _write_shard(path: Path, split: str, samples: list[Sample]) -> Shard:
    from webdataset.writer import TarWriter

    indexed = []
    with atomic_path(path) as partial:
        with (
            partial.open("wb") as file,
            TarWriter(file, "root", "root", 0o644, mtime=0, encoder=False) as tar,
        ):
            for sample in samples:
                tar.write({"__key__": sample.key, **_files(sample)})
        places = list_members(partial)
        for sample in samples:
            members = {}
            for suffix, content in _files(sample).items():
                offset, size = places[f"{sample.key}.{suffix}"]
                members[suffix] = Member(offset, size, hashlib.sha256(content).hexdigest())
            indexed.append(
                IndexedSample(
                    key=sample.key,
                    label=sample.label,
                    source=sample.source,
                    frames=sample.frames,
                    members=members,
                )
            )
        size = partial.stat().st_size
    return Shard(file=path.name, split=split, size=size, samples=tuple(indexed))


def _files(sample: Sample) -> dict[str, bytes]:
    """Returns a sample's members by suffix."""
    if not sample.key or set("./\\") & set(sample.key) or sample.suffix not in SUFFIXES:
        raise ValueError(
            f"sample {sample.key}.{sample.suffix}: no dot or slash in a key, suffix one of {SUFFIXES}"
        )
    facts = {"label": sample.label, "source": sample.source, "frames": sample.frames, **sample.facts}
    files = {sample.suffix: sample.video, "json": _json(facts).encode()}
    return files if sample.label is None else files | {"cls": str(sample.label).encode()}


def list_members(path: Path) -> dict[str, tuple[int, int]]:
    """Returns offset and size of every member's bytes, by name; nothing is extracted.

    Raises:
        DataError: a member that is no plain file, has an unsafe name, or is there twice.
    """
    found: dict[str, tuple[int, int]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if not member.isreg() or name.is_absolute() or ".." in name.parts or member.name in found:
                raise DataError(
                    "E320", f"{path}: member '{member.name}' is refused: not a plain, single, safe file."
                )
            found[member.name] = member.offset_data, member.size
    return found


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


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n"
