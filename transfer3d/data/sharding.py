"""Packs a listed dataset into shards, whose content is planned first, from the listing alone.

So processes can divide the shards without affecting their content, and an interrupted run can continue: each
finished shard has an entry in `parts/`. `index.json` is written last, from these entries.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from transfer3d.data.datasets.listing import Entry, Listing
from transfer3d.data.flow import FlowFormat
from transfer3d.data.folder import SPLITS, is_video
from transfer3d.data.isolated import Fault, Limits, isolated_map
from transfer3d.data.prepare import Prepared, TranscodeJob, prepare
from transfer3d.data.shard_writer import Sample, write_index, write_shard
from transfer3d.data.shards import INDEX, PARTS, PLAN, Shard
from transfer3d.data.videoset import Dropped
from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.files import (
    LOCK,
    MAX_JSON_BYTES,
    Lock,
    read_json,
    read_regular,
    refuse_links,
    remove_partials,
    sha256_file,
    write_text,
)
from transfer3d.progress import Meter

SHARDS = 64  # per split if it is large enough; many small shards are easy to distribute
SMALLEST, LARGEST = 16, 500
POLL_S = 0.2


class ShardConfig(BaseModel):
    """The configuration of sharding.

    Attributes:
        name: prefix of the shards' names.
        short_side: pixels; larger videos are scaled down to it.
        gop: distance between key frames; implies transcoding.
        per_shard: videos per shard, 16 to 500; by default such that a split has 64 shards.
        min_frames: videos with fewer frames are skipped.
        max_bad_fraction: share of the videos that may fail to decode; with more, no index is written.
        allow_empty_classes: whether a class may have no training videos.
        flow: format of the optical flow to pack instead of frames; None = frames.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w-]+$")
    short_side: int | None = Field(default=None, ge=16)
    gop: int | None = Field(default=None, ge=1)
    per_shard: int | None = Field(default=None, ge=1)
    min_frames: int = Field(default=2, ge=1)
    max_bad_fraction: float = Field(default=0.01, ge=0, le=1)
    allow_empty_classes: bool = False
    flow: FlowFormat | None = None

    def to_dict(self, *left_out: str) -> dict[str, Any]:
        """Returns the JSON form; without flow it is that of older versions, which had none."""
        return self.model_dump(exclude={*left_out, *(() if self.flow else ("flow",))})


@dataclass(frozen=True)
class Plan:
    """The assignment of videos to shards.

    Attributes:
        config: sharding settings.
        listing: the dataset's list of videos.
        shards: for each shard, its name without suffix, its split, and its videos with their keys.
        remux: whether files are copied into MP4 if possible, since they have several suffixes.
        digest: digest of everything that determines the shards' bytes.
    """

    config: ShardConfig
    listing: Listing
    shards: list[tuple[str, str, list[tuple[str, Entry]]]]
    digest: str
    remux: bool = False


class _Part(BaseModel):
    """The result of one shard, which may be empty."""

    shard: Shard | None
    dropped: list[tuple[str, str]]


def plan_shards(listing: Listing, config: ShardConfig) -> Plan:
    """Plans the shards; the videos of each split are shuffled, for readers that stream them.

    Raises:
        DataError: a class without training videos, or one file in two splits.
    """
    _refuse_empty_classes(listing, config)
    _refuse_overlap(listing)
    shards = []
    for split in SPLITS:
        entries = [entry for entry in listing.found if entry.split == split]
        keyed = [(f"{split}-{number:06d}", entry) for number, entry in enumerate(entries)]
        order = np.random.default_rng((0, SPLITS.index(split))).permutation(len(keyed))
        mixed = [keyed[i] for i in order]
        size = config.per_shard or min(max(-(-len(keyed) // SHARDS), SMALLEST), LARGEST)
        for start in range(0, len(mixed), size):
            name = f"{config.name}-{split}-{start // size:06d}"
            shards.append((name, split, mixed[start : start + size]))
    suffixes = {e.path.suffix.lower() for e in listing.found if e.path is not None and e.path.is_file()}
    content = [
        config.to_dict("max_bad_fraction", "allow_empty_classes"),
        listing.classes,
        [
            (e.name, e.split, e.label, e.labels, e.source, e.cut and vars(e.cut), _size(e))
            for e in listing.found
        ],
        [len(videos) for _, _, videos in shards],
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Plan(config, listing, shards, digest, remux=len(suffixes) > 1)


def lock_folder(folder: Path) -> Lock:
    """Locks the folder against other runs.

    Raises:
        UsageError: the folder contains something other than shards, or a link in place of a folder.
        SetupError: another run uses the folder, or it cannot be written.
    """
    used = folder.exists() and (not folder.is_dir() or any(p.name != LOCK for p in folder.iterdir()))
    if used and not (folder / PLAN).is_file():
        raise UsageError(f"{folder} is not empty. Name a new folder.")
    refuse_links(folder, (PARTS,))
    return Lock(folder / LOCK, f"{folder}")


def lock_rank(folder: Path, rank: int) -> Lock:
    """Locks a file while a process is alive, for the process that waits for its shards."""
    return Lock(folder / f"{LOCK}-{rank}", f"{folder}, process {rank},")


def claim_folder(folder: Path, plan: Plan) -> bool:
    """Records the plan in the locked folder; returns whether its shards are already finished.

    Raises:
        UsageError: the folder contains shards of another plan.
    """
    note = folder / PLAN
    if note.is_file():
        if _planned(note) != plan.digest:
            raise UsageError(
                f"{folder} holds shards of other videos or options. Give a new folder, or the same options."
            )
        remove_partials(folder)
        remove_partials(folder / PARTS)
        for left in folder.glob(f"{LOCK}-*"):  # of a run that was killed
            left.unlink()
        finished = (folder / INDEX).is_file()
        if finished:
            shutil.rmtree(folder / PARTS, ignore_errors=True)
        return finished
    plan_entry = {"digest": plan.digest, "shards": len(plan.shards), **plan.config.to_dict()}
    write_text(note, json.dumps(plan_entry, indent=2) + "\n")
    return False


def _planned(note: Path) -> str:
    """Returns the digest of the plan recorded in a folder; empty if the file is not valid."""
    try:
        return str(read_json(note)["digest"])
    except (ValueError, KeyError, TypeError):
        return ""


def write_planned(
    folder: Path, plan: Plan, meter: Meter, *, workers: int, limits: Limits, rank: int = 0, world: int = 1
) -> None:
    """Writes the shards of one process that do not exist yet."""
    for name, split, videos in plan.shards[rank::world]:
        if _read_part(folder, name) is None:
            _write_part(folder, name, split, videos, plan, workers, limits, meter)
        else:
            meter.update(len(videos))


def wait_for_parts(folder: Path, plan: Plan, *, world: int = 1) -> None:
    """Waits until all processes have written their shards.

    It polls the folder, since a collective operation would time out after half an hour, and not all
    launchers end the other processes when one dies.

    Raises:
        SetupError: a process ended without writing all its shards.
    """
    for number, (name, _, _) in enumerate(plan.shards):
        rank = number % world
        while _read_part(folder, name) is None:
            if rank and _is_gone(folder, rank) and _read_part(folder, name) is None:
                raise SetupError(
                    f"process {rank} ended before it wrote all its shards, first {name}. Look at "
                    "what it says; the same command continues."
                )
            time.sleep(POLL_S)


def _is_gone(folder: Path, rank: int) -> bool:
    try:
        lock_rank(folder, rank).close()
    except SetupError:
        return False
    return True


def publish(folder: Path, plan: Plan, *, source: str) -> list[Dropped]:
    """Writes the index of all shards; returns the missing and bad files.

    Raises:
        DataError: too many videos cannot be decoded.
    """
    parts = [part for name, _, _ in plan.shards if (part := _read_part(folder, name)) is not None]
    bad = [Dropped(*dropped) for part in parts for dropped in part.dropped]
    listed = len(plan.listing.found)
    if len(bad) > plan.config.max_bad_fraction * listed:
        raise DataError(
            f"{len(bad)} of {listed} videos are bad, first {bad[0].path}: {bad[0].reason}. "
            "Repair or remove them (`transfer3d check` lists all), or raise --max-bad-fraction."
        )
    missing = [Dropped(entry.name, "listed, but not there") for entry in plan.listing.missing]
    write_index(
        folder,
        plan.config.name,
        [part.shard for part in parts if part.shard is not None],
        classes=plan.listing.classes,
        source=source,
        dropped=[*missing, *bad],
        official=plan.listing.counts(),
        flow=plan.config.flow,
    )
    for name, _, _ in plan.shards:
        (folder / PARTS / f"{name}.json").unlink()
    (folder / PARTS).rmdir()
    return [*missing, *bad]


def _write_part(
    folder: Path,
    name: str,
    split: str,
    videos: list[tuple[str, Entry]],
    plan: Plan,
    workers: int,
    limits: Limits,
    meter: Meter,
) -> None:
    dropped: list[tuple[str, str]] = []

    def samples() -> Iterator[Sample]:
        jobs = [_job(entry, plan) for _, entry in videos]
        answers = isolated_map(prepare, jobs, workers=workers, limits=limits)
        for (key, entry), answer in zip(videos, answers, strict=True):
            if isinstance(answer, Fault):
                dropped.append((entry.name, answer.reason))
            else:
                yield _sample(key, entry, answer)
            meter.update()

    stream = samples()
    first = next(stream, None)
    path = folder / f"{name}.tar"
    shard = None if first is None else write_shard(path, split, chain([first], stream))
    write_text(folder / PARTS / f"{name}.json", _Part(shard=shard, dropped=dropped).model_dump_json())


def _read_part(folder: Path, name: str) -> _Part | None:
    """Returns the entry of a finished shard, None if it is not finished."""
    note = folder / PARTS / f"{name}.json"
    if not note.is_file():
        return None
    try:
        part = _Part.model_validate_json(read_regular(note, MAX_JSON_BYTES))
    except ValueError:
        return None  # damaged: the shard is written again
    if part.shard is None:
        return part
    path = folder / f"{name}.tar"
    is_whole = path.is_file() and path.stat().st_size == part.shard.size
    return part if is_whole and part.shard.file == path.name else None


def _job(entry: Entry, plan: Plan) -> TranscodeJob:
    assert entry.path is not None
    return TranscodeJob(
        entry.path,
        entry.name,
        entry.cut,
        plan.config.short_side,
        plan.config.gop,
        remux=plan.remux,
        min_frames=plan.config.min_frames,
        flow=plan.config.flow,
    )


def _sample(key: str, entry: Entry, prepared: Prepared) -> Sample:
    assert entry.path is not None
    video = entry.path.read_bytes() if prepared.video is None else prepared.video
    # A list may name files of any suffix; decoders go by content.
    suffix = entry.path.suffix[1:].lower() if prepared.video is None and is_video(entry.path) else "mp4"
    info = {"name": entry.name, **prepared.info}
    return Sample(key, video, suffix, entry.label, entry.source, prepared.frames, info, entry.labels)


def _size(entry: Entry) -> int:
    assert entry.path is not None
    return entry.path.stat().st_size if entry.path.is_file() else len(list(entry.path.iterdir()))


def _refuse_empty_classes(listing: Listing, config: ShardConfig) -> None:
    training = [entry for entry in listing.found if entry.split == "train"]
    trained = {label for entry in training for label in (entry.label, *entry.labels)}
    empty = [name for label, name in enumerate(listing.classes) if label not in trained]
    has_train = any(entry.split == "train" for entry in listing.entries)
    if empty and has_train and not config.allow_empty_classes:
        names = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise DataError(
            f"{len(empty)} of {len(listing.classes)} classes have no training video: {names}. "
            "Bring the files, choose with --classes, or allow it with --allow-empty-classes."
        )


def _refuse_overlap(listing: Listing) -> None:
    """Raises DataError if two splits share a labelled file; only files of equal size are compared."""
    by_size: dict[int, list[Entry]] = {}
    for entry in listing.found:
        if entry.path is not None and entry.path.is_file() and entry.label is not None:
            by_size.setdefault(_size(entry), []).append(entry)
    for entries in by_size.values():
        if len({entry.split for entry in entries}) < 2:
            continue
        seen: dict[str, Entry] = {}
        for entry in entries:
            assert entry.path is not None
            other = seen.setdefault(sha256_file(entry.path), entry)
            if other.split != entry.split:
                raise DataError(
                    f"{entry.path} ({entry.split}) and {other.path} ({other.split}) are the same "
                    "file. Keep it in one split only: videos of the training must not be in a test."
                )
