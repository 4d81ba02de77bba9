"""Writes webdataset shards, their index, open_clip's `sizes.json`, timm's `_info.json` and a README."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from transfer3d.data.flow import FlowFormat
from transfer3d.data.folder import SUFFIXES
from transfer3d.data.shard_card import CARD, shard_card
from transfer3d.data.shards import FORMAT, INDEX, LONGEST_TEXT, Index, IndexedSample, Member, Shard
from transfer3d.data.videoset import Dropped
from transfer3d.errors import DataError
from transfer3d.files import atomic_path, is_unicode, write_text
from transfer3d.text import shortened

END = 2 * tarfile.BLOCKSIZE  # zeros after the last member
CHUNK = 1 << 16
GZIP = b"\x1f\x8b"
MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One video to be written to a shard.

    Attributes:
        key: unique over all splits, without a dot or a slash.
        video: the file's bytes.
        suffix: file suffix of its container format.
        label: class, or None.
        source: the original video.
        frames: number of frames.
        info: further entries of KEY.json.
        labels: all classes, if it may have several.
    """

    key: str
    video: bytes
    suffix: str
    label: int | None
    source: str
    frames: int
    info: dict[str, Any] = field(default_factory=dict)
    labels: tuple[int, ...] = ()


def write_shards(
    folder: Path, name: str, split: str, samples: Iterable[Sample], *, per_shard: int = 500
) -> list[Shard]:
    """Writes `NAME-SPLIT-000000.tar`, ...: the same bytes for the same samples. Call `write_index` last."""
    shards: list[Shard] = []
    stream = iter(samples)
    for first in stream:
        rest = islice(stream, per_shard - 1)
        path = folder / f"{name}-{split}-{len(shards):06d}.tar"
        shards.append(write_shard(path, split, chain([first], rest)))
    return shards


def write_index(
    folder: Path,
    name: str,
    shards: Sequence[Shard],
    *,
    classes: Sequence[str],
    source: str,
    dropped: Sequence[Dropped] = (),
    official: Mapping[str, int] | None = None,
    flow: FlowFormat | None = None,
) -> None:
    """Writes `sizes.json` (open_clip's), `_info.json` (timm's), `README.md` and, last, `index.json`.

    Raises:
        DataError: a key appears twice.
    """
    keys = Counter(sample.key for shard in shards for sample in shard.samples)
    if twice := [key for key, n in keys.items() if n > 1]:
        raise DataError(f"{folder}: key {twice[0]} is there {keys[twice[0]]} times. Make keys unique.")
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
        official=dict(official or {}),
        shards=tuple(shards),
        flow=flow,
    )
    index = index.model_copy(update={"digest": index.content_digest()})
    write_text(folder / CARD, shard_card(index))
    write_text(folder / INDEX, index.to_json() + "\n")


def write_shard(path: Path, split: str, samples: Iterable[Sample]) -> Shard:
    """Writes one shard atomically."""
    from webdataset.writer import TarWriter

    written = []
    with atomic_path(path) as partial:
        with (
            partial.open("wb") as file,
            TarWriter(file, "root", "root", 0o644, mtime=0, encoder=False) as tar,
        ):
            for sample in samples:
                files = _files(sample)
                tar.write({"__key__": sample.key, **files})
                digests = {suffix: hashlib.sha256(content).hexdigest() for suffix, content in files.items()}
                entry = {"key": sample.key, "label": sample.label, "labels": sample.labels}
                written.append(({**entry, "source": sample.source, "frames": sample.frames}, digests))
        places = list_members(partial)
        size = partial.stat().st_size
    indexed = []
    for entry, digests in written:
        members = {
            suffix: Member(*places[f"{entry['key']}.{suffix}"], digest) for suffix, digest in digests.items()
        }
        indexed.append(IndexedSample(**entry, members=members))
    return Shard(file=path.name, split=split, size=size, samples=tuple(indexed))


def _files(sample: Sample) -> dict[str, bytes]:
    """Returns a sample's members by suffix."""
    if not sample.key or set("./\\") & set(sample.key) or sample.suffix not in SUFFIXES:
        raise ValueError(
            f"sample {sample.key}.{sample.suffix}: no dot or slash in a key, suffix one of {SUFFIXES}"
        )
    entry = {"label": sample.label, "source": sample.source, "frames": sample.frames, **sample.info}
    if sample.labels:
        entry["labels"] = list(sample.labels)
    files = {sample.suffix: sample.video, "json": _json(entry).encode()}
    return files if sample.label is None else files | {"cls": str(sample.label).encode()}


class _Headers(io.BufferedReader):
    """A tar file of which only headers are read; tarfile reads as much as one of them says."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns some bytes; raises ReadError if they are too many for a header."""
        if size is None or not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def list_members(path: Path, where: str = "") -> dict[str, tuple[int, int]]:
    """Returns offset and size of every file's bytes, by name; nothing is extracted.

    Args:
        path: path of the tar file.
        where: name for messages; by default the path.

    Raises:
        DataError: a member that is neither a plain file nor a folder, has a name that is unsafe, not UTF-8 or
            very long, or appears twice; or a damaged file.
    """
    where = where or str(path)
    members: dict[str, tuple[int, int]] = {}
    end = 0
    try:
        with _Headers(io.FileIO(path)) as headers, tarfile.open(fileobj=headers, mode="r:") as tar:
            for member in tar:
                end = member.offset_data + (0 if member.isdir() else member.size)
                if member.isdir():
                    continue  # folders, as in `tar -cf x.tar folder`
                if not _is_plain(member) or member.name in members:
                    named = shortened(member.name)
                    raise DataError(f"{where}: member '{named}' is refused: not a plain, single, safe file.")
                members[member.name] = member.offset_data, member.size
    except DataError:  # a ValueError too
        raise
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError, MemoryError) as error:
        with path.open("rb") as file:
            is_packed = file.read(len(GZIP)) == GZIP
        reason = "it is compressed by gzip. Decompress it" if is_packed else f"{error}. Copy it again"
        raise DataError(f"{where} is not a complete tar file: {reason}.") from None
    # tarfile takes a damaged header for the end of the file.
    with path.open("rb") as file:
        file.seek(-(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        if file.read(END) != bytes(END):
            raise DataError(
                f"{where}: the tar file is cut or damaged after {len(members)} members. Copy it again."
            )
        if any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(CHUNK), b"")):
            raise DataError(
                f"{where}: the tar file ends after {len(members)} members, and more follows, as if several "
                "were joined. Keep them apart, or join them with `tar -Af`."
            )
    return members


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a regular, non-sparse file whose name is valid text and stays inside the folder."""
    name = PurePosixPath(member.name)
    is_file = member.isreg() and not member.issparse() and member.size >= 0
    is_text = is_unicode(member.name) and len(member.name) <= LONGEST_TEXT
    return is_file and is_text and not name.is_absolute() and ".." not in name.parts


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n"
