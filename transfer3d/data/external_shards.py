"""Third-party webdatasets: builds their index by reading all shards once.

Afterwards they are read like our own: in any order, each sample once, checked by sha256. Used are a sample's
video and its class, a number or a name, from `.cls` or from "label" or "class" in `.json`; other members are
ignored. Several classes are given in "labels" of `.json` as a list, or in `.cls` as comma-separated numbers.
Without any of them, the members' folders are the classes, as in `run/1.mp4`.
"""

from __future__ import annotations

import hashlib
import logging
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from transfer3d.data.folder import FOLDER_NAMES, SUFFIXES, composed, split_word
from transfer3d.data.shard_writer import list_members
from transfer3d.data.shards import (
    EXTERNAL,
    FORMAT,
    LONGEST_TEXT,
    Index,
    IndexedSample,
    Member,
    Shard,
    Store,
    check_index,
)
from transfer3d.errors import DataError, UsageError
from transfer3d.files import is_unicode, parse_json
from transfer3d.text import shortened

READ = (*SUFFIXES, "cls", "json")
LABEL_KEYS = ("class", "class_name", "classname", "class_id", "category", "action", "label_name")
"""Keys of a class in `.json` where it has no "label"."""
PICKLES = ("pyd", "pkl", "pickle", "pth", "pt")
RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
SEVERAL = re.compile(r"[0-9]+(\s*,\s*[0-9]+)+")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
MAX_SHARDS = 100_000
MAX_FRAMES = 2**31
MAX_NOTE_BYTES = 1 << 20
"""Maximum size of a sample's class file or JSON file."""
log = logging.getLogger(__name__)
SPLIT = re.compile(r"-(train|val|test|unlabelled)-\d+\.tar$")


def expand(names: str) -> list[str]:
    """Expands webdataset's notation `name-{000..012}.tar` to file names.

    Raises:
        UsageError: a range with its end before its start, or with too many shards.
    """
    match = RANGE.search(names)
    if match is None:
        return [names]
    first, last = match.groups()
    if int(first) > int(last):
        raise UsageError(f"{names}: {first} comes after {last}. Turn them around.")
    if int(last) - int(first) >= MAX_SHARDS:
        raise UsageError(f"{names}: more than {MAX_SHARDS} shards. Give a part of them.")
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [names[: match.start()] + number + names[match.end() :] for number in numbers]


class _Read(NamedTuple):
    """A sample of a shard, with its classes as written in the shard."""

    sample: IndexedSample
    labels: tuple[str, ...]


def index_external(store: Store, files: Sequence[str]) -> Index:
    """Reads all shards and returns their index; the split is that in `NAME-SPLIT-000000.tar`, else train.

    Raises:
        DataError: an unsafe member, a pickle, a sample without exactly one video, or a label that is not a
            class.
    """
    read: dict[str, list[_Read]] = {}
    sizes: dict[str, int] = {}
    seen: dict[str, str] = {}
    for file in files:
        with store.local(file) as path:
            read[file], sizes[file] = _read_through(path, f"{store}{file}"), path.stat().st_size
        for sample, _ in read[file]:
            if other := seen.get(sample.key):
                raise DataError(
                    f"{store}{file}: {sample.key} is in {other} too. Make keys unique over all shards."
                )
            seen[sample.key] = file
    if not seen:
        raise DataError(f"{store}{files[0]} and {len(files) - 1} others: no videos in them.")
    if not any(labels for samples in read.values() for _, labels in samples):
        read = _labelled_by_folder(read, f"{store}{files[0]}")
    classes, label_sets = _number_labels(
        [(f"{store}{file}: {s.key}", labels) for file in files for s, labels in read[file]]
    )
    numbers = iter(label_sets)
    counts: dict[str, int] = {}
    shards: list[Shard] = []
    for file in files:
        named = SPLIT.search(file)
        split = named[1] if named else "train"
        counts[split] = counts.get(split, 0) + len(read[file])
        samples = tuple(_labelled(s, next(numbers)) for s, _ in read[file])
        shards.append(Shard(file=file, split=split, size=sizes[file], samples=samples))
    index = Index(
        format=FORMAT,
        name=files[0],
        source=EXTERNAL,
        classes=classes,
        counts=counts,
        dropped=(),
        shards=tuple(shards),
    )
    check_index(index, f"{store}")
    return index


def _labelled_by_folder(read: dict[str, list[_Read]], where: str) -> dict[str, list[_Read]]:
    """Returns the samples with the folders of their keys (`run/1`) as classes, if they can only be classes.

    Folders with digits may be parts of the data, a folder per video its name; both are left as they are.
    """
    folders = [PurePosixPath(sample.key).parent for samples in read.values() for sample, _ in samples]
    top = posixpath.commonpath(folders)
    paths = [folder.relative_to(top).parts for folder in folders]
    names = {name for parts in paths for name in parts}
    is_part = any(split_word(name) in FOLDER_NAMES or re.search(r"\d", name) for name in names)
    if is_part or len(names) == len(paths) or any(len(parts) != 1 for parts in paths):
        return read
    log.warning("%s: no labels; its %d folders are the classes, first %s", where, len(names), min(names))
    return {
        file: [_Read(s, (composed(PurePosixPath(s.key).parent.name),)) for s, _ in samples]
        for file, samples in read.items()
    }


def _read_through(path: Path, where: str) -> list[_Read]:
    from webdataset.tariterators import base_plus_ext

    samples: dict[str, dict[str, Member]] = {}
    small: dict[str, dict[str, bytes]] = {}
    plain: dict[str, dict[str, str]] = {}
    with path.open("rb") as tar:
        for name, (offset, size) in list_members(path, where).items():
            base, fields = base_plus_ext(name)
            suffix = (fields or "").rpartition(".")[2].lower()
            if suffix in PICKLES:
                raise DataError(f"{where}: member '{shortened(name)}' is a pickle. Such shards are refused.")
            if base is None or fields is None or suffix not in READ:
                continue
            key = str(PurePosixPath(base))
            if other := plain.setdefault(key, {}).get(suffix):
                if suffix in SUFFIXES:
                    both = f"{shortened(other)} and {shortened(fields)}"
                    raise DataError(
                        f"{where}: {shortened(key)} has two videos, {both}: a sample's name ends at its "
                        "first dot. Rename the files."
                    )
                if fields.lower() != suffix:
                    continue  # e.g. x.json beside .json
            if suffix not in SUFFIXES and size > MAX_NOTE_BYTES:
                raise DataError(
                    f"{where}: member '{shortened(name)}' has {size} bytes, too many for a {suffix}."
                )
            plain[key][suffix] = fields
            tar.seek(offset)
            content = tar.read(size)
            samples.setdefault(key, {})[suffix] = Member(offset, size, hashlib.sha256(content).hexdigest())
            if suffix not in SUFFIXES:
                small.setdefault(key, {})[suffix] = content
    return [_sample(key, members, small.get(key, {}), where) for key, members in samples.items()]


def _sample(key: str, members: dict[str, Member], small: dict[str, bytes], where: str) -> _Read:
    if len(members.keys() & set(SUFFIXES)) > 1:
        members.pop("ogg", None)  # the sound beside a video
    try:
        entries: Any = parse_json(small.get("json", b"{}"))
    except ValueError:
        entries = {}
    entries = entries if isinstance(entries, dict) else {}
    labels = _given_labels(small.get("cls"), entries)
    wrong = [label for label in labels if not _is_label(label)]
    if wrong:
        raise DataError(
            f"{where}: {shortened(key)} has label '{shortened(str(wrong[0]))}'. A class is a number or a "
            "name."
        )
    source, frames = entries.get("source"), entries.get("frames")
    sample = IndexedSample(
        key=key,
        label=None,
        source=source if _is_label(source) and isinstance(source, str) else key,
        frames=frames if type(frames) is int and 0 <= frames <= MAX_FRAMES else 0,
        members=members,
    )
    return _Read(sample, tuple(dict.fromkeys(composed(str(label).strip()) for label in labels)))


def _is_label(label: Any) -> bool:
    """Whether the label is a number, or text of limited length."""
    if isinstance(label, str):
        return is_unicode(label) and len(label) <= LONGEST_TEXT
    return type(label) is int


def _given_labels(cls: bytes | None, entries: Mapping[str, Any]) -> Sequence[Any]:
    """Returns the classes in a sample's metadata.

    A list `labels` that does not contain the sample's class has another meaning and is ignored.
    """
    label = entries.get("label") if cls is None else cls.decode(errors="replace").strip()
    if label is None:
        label = next(filter(_is_label, map(entries.get, LABEL_KEYS)), None)
    several = entries.get("labels")
    if isinstance(several, list) and (label is None or str(label) in map(str, several)):
        return several if label is None else [label, *several]
    if isinstance(label, str) and SEVERAL.fullmatch(label.strip()):
        return label.split(",")
    return label if isinstance(label, list) else [] if label is None else [label]


def _labelled(sample: IndexedSample, labels: tuple[int, ...]) -> IndexedSample:
    first, several = labels[0] if labels else None, labels if len(labels) > 1 else ()
    return sample.model_copy(update={"label": first, "labels": several})


def _number_labels(
    label_sets: Sequence[tuple[str, tuple[str, ...]]],
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """Returns the classes and the labels as numbers.

    Args:
        label_sets: location and labels of each sample: numbers from 0, or names, which are sorted.
    """
    given = [(where, label) for where, labels in label_sets for label in labels]
    if all(NUMBER.fullmatch(label) is None for _, label in given):
        if empty := [where for where, label in given if not label]:
            raise DataError(f"{empty[0]} has an empty label. A class is a number or a name.")
        classes = tuple(sorted({label for _, label in given}))
        number_of = {name: number for number, name in enumerate(classes)}
        return classes, [tuple(number_of[label] for label in labels) for _, labels in label_sets]
    for where, label in given:
        if not re.fullmatch(r"[0-9]{1,6}", label):
            raise DataError(
                f"{where} has label '{shortened(label)}'. Give numbers from 0 to 999999 to all, or names to "
                "all."
            )
    most = max(int(label) for _, label in given)
    return tuple(map(str, range(most + 1))), [tuple(map(int, labels)) for _, labels in label_sets]
