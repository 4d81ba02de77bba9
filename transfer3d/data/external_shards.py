"""Webdatasets that others wrote: their index is made by reading the shards through once.

Afterwards they are read like our own: in any order, each sample once, checked by sha256. A sample's video is
used, and its class from `.cls` or from "label" in `.json`; other members are ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from webdataset.tariterators import base_plus_ext

from transfer3d.data.shard_writer import list_members
from transfer3d.data.shards import FORMAT, SUFFIXES, Index, IndexedSample, Member, Shard, Store, check_index
from transfer3d.errors import DataError, UsageError

READ = (*SUFFIXES, "cls", "json")
PICKLES = ("pyd", "pkl", "pickle", "pth", "pt")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
SPLIT = re.compile(r"-(train|val|test|unlabelled)-\d+\.tar$")


def expand(names: str) -> list[str]:
    """Returns the file names of webdataset's notation `name-{000..012}.tar`.

    Raises:
        UsageError: a range that runs backwards.
    """
    match = RANGE.search(names)
    if match is None:
        return [names]
    first, last = match.groups()
    if int(first) > int(last):
        raise UsageError(f"{names}: {first} comes after {last}. Turn them around.")
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [names[: match.start()] + number + names[match.end() :] for number in numbers]


def index_external(store: Store, files: Sequence[str]) -> Index:
    """Reads shards through and returns their index; names `NAME-SPLIT-000000.tar` have a split, others train.

    Raises:
        DataError: a member that is not safe, a pickle, a sample without a video, or a label that is none.
    """
    shards: list[Shard] = []
    seen: dict[str, str] = {}
    for file in files:
        shard = _read_through(store, file)
        for sample in shard.samples:
            if other := seen.get(sample.key):
                raise DataError(
                    f"{store}{file}: {sample.key} is in {other} too. Make keys unique over all shards.",
                )
            seen[sample.key] = file
        shards.append(shard)
    if not seen:
        raise DataError(f"{store}{files[0]} and {len(files) - 1} others: no videos in them.")
    labels = [sample.label for shard in shards for sample in shard.samples if sample.label is not None]
    counts: dict[str, int] = {}
    for shard in shards:
        counts[shard.split] = counts.get(shard.split, 0) + len(shard.samples)
    index = Index(
        format=FORMAT,
        name=files[0],
        source="webdataset",
        classes=tuple(str(label) for label in range(max(labels, default=-1) + 1)),
        counts=counts,
        dropped=(),
        shards=tuple(shards),
    )
    check_index(index, f"{store}")
    return index


def _read_through(store: Store, file: str) -> Shard:
    where = f"{store}{file}"
    with store.local(file) as path:
        samples: dict[str, dict[str, Member]] = {}
        small: dict[str, dict[str, bytes]] = {}
        with path.open("rb") as tar:
            for name, (offset, size) in list_members(path, where).items():
                base, suffix = base_plus_ext(name)
                if (suffix or "").rpartition(".")[2].lower() in PICKLES:
                    raise DataError(f"{where}: member '{name}' is a pickle. Such shards are refused.")
                if base is None or suffix not in READ:
                    continue
                tar.seek(offset)
                content = tar.read(size)
                key = str(PurePosixPath(base))
                samples.setdefault(key, {})[suffix] = Member(
                    offset, size, hashlib.sha256(content).hexdigest()
                )
                if suffix not in SUFFIXES:
                    small.setdefault(key, {})[suffix] = content
        named = SPLIT.search(file)
        indexed = tuple(_sample(key, samples[key], small.get(key, {}), where) for key in samples)
        return Shard(
            file=file,
            split=named[1] if named else "train",
            size=path.stat().st_size,
            samples=indexed,
        )


def _sample(key: str, members: dict[str, Member], small: dict[str, bytes], where: str) -> IndexedSample:
    try:
        entries: Any = json.loads(small.get("json", b"{}"))
    except ValueError:
        entries = {}
    entries = entries if isinstance(entries, dict) else {}
    label = small["cls"].decode(errors="replace").strip() if "cls" in small else entries.get("label")
    label = None if label is None else str(label)
    if label is not None and not re.fullmatch(r"[0-9]{1,6}", label):
        raise DataError(f"{where}: {key} has label '{label}'. A class is a number from 0 to 999999.")
    source, frames = entries.get("source"), entries.get("frames")
    return IndexedSample(
        key=key,
        label=None if label is None else int(label),
        source=source if isinstance(source, str) else key,
        frames=frames if isinstance(frames, int) else 0,
        members=members,
    )
