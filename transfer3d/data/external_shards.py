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

from transfer3d.data.folder import FOLDER_NAMES, SUFFIXES, WORD, composed, split_word, warn_of_similar
from transfer3d.data.shard_writer import list_members
from transfer3d.data.shards import (
    EXTERNAL,
    FORMAT,
    LONGEST_TEXT,
    MAX_MEMBER_BYTES,
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
BRACES = re.compile(r"\{(?:([0-9]{1,9})\.\.([0-9]{1,9})|([^{}]*,[^{}]*))\}")
SEVERAL = re.compile(r"[0-9]+(\s*,\s*[0-9]+)+")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
MAX_SHARDS = 100_000
MAX_FRAMES = 2**31
MAX_NOTE_BYTES = 1 << 20
"""Maximum size of a sample's class file or JSON file."""
log = logging.getLogger(__name__)


def expand(names: str) -> list[str]:
    """Expands webdataset's notation to file names: `name-{000..012}.tar`, `{train,val}-0.tar`, or both.

    Raises:
        UsageError: a range with its end before its start, or with too many shards.
    """
    files = [names]
    while match := BRACES.search(files[0]):
        first, last, listed = match.groups()
        if listed is None and int(first) > int(last):
            raise UsageError(f"{names}: {first} comes after {last}. Turn them around.")
        count = listed.count(",") + 1 if listed else int(last) - int(first) + 1
        if count * len(files) > MAX_SHARDS:
            raise UsageError(f"{names}: more than {MAX_SHARDS} shards. Give a part of them.")
        parts = listed.split(",") if listed else [str(int(first) + i).zfill(len(first)) for i in range(count)]
        start, end = match.start() - len(files[0]), match.end() - len(files[0])
        files = [file[:start] + part + file[end:] for file in files for part in parts]
    return files


class _Read(NamedTuple):
    """A sample of a shard, with its classes as written in the shard."""

    sample: IndexedSample
    labels: tuple[str, ...]


def index_external(store: Store, files: Sequence[str]) -> Index:
    """Reads all shards and returns their index.

    Where keys recur in another split, the split is put before all keys, as in `val/0001`.

    Raises:
        DataError: an unsafe member, a pickle, a sample without exactly one video, or a label that is not a
            class.
    """
    read: dict[str, list[_Read]] = {}
    sizes: dict[str, int] = {}
    seen: dict[tuple[str, str], str] = {}
    splits = splits_of(files)
    for file in files:
        with store.local(file) as path:
            read[file], sizes[file] = _read_through(path, f"{store}{file}"), path.stat().st_size
        for sample, _ in read[file]:
            if other := seen.get((splits[file], sample.key)):
                raise DataError(
                    f"{store}{file}: {sample.key} is in {other} too. Make keys unique over all shards."
                )
            seen[splits[file], sample.key] = file
    if not seen:
        raise DataError(f"{store}{files[0]} and {len(files) - 1} others: no videos in them.")
    if not any(labels for samples in read.values() for _, labels in samples):
        read = _labelled_by_folder(read, f"{store}{files[0]}")
    if len({key for _, key in seen}) < len(seen):
        read = {file: [_in_split(splits[file], one) for one in samples] for file, samples in read.items()}
    classes, label_sets = _number_labels(
        [(f"{store}{file}: {s.key}", labels) for file in files for s, labels in read[file]]
    )
    numbers = iter(label_sets)
    counts: dict[str, int] = {}
    shards: list[Shard] = []
    for file in files:
        split = splits[file]
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


def splits_of(files: Sequence[str]) -> dict[str, str]:
    """Returns each shard's split by its name or its folder: `my-train_part-0.tar`, `validation/0.tar`.

    Where all have one split or none, only the last word counts: a set may be called `test-of-mine-0.tar`.
    """
    paths = {file: PurePosixPath(file) for file in files}
    words = {file: WORD.findall((path.parent.name or path.stem).casefold()) for file, path in paths.items()}
    splits = {file: _last_split(names) for file, names in words.items()}
    if len(set(splits.values())) > 1:
        return splits
    return {file: _last_split(names[-1:]) for file, names in words.items()}


def _last_split(words: Sequence[str]) -> str:
    known = (FOLDER_NAMES.get(split_word(word)) for word in reversed(words))
    return next(filter(None, known), "train")


def _in_split(split: str, one: _Read) -> _Read:
    sample, key = one.sample, f"{split}/{one.sample.key}"
    source = key if sample.source == sample.key else sample.source
    return one._replace(sample=sample.model_copy(update={"key": key, "source": source}))


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
            if size > (MAX_MEMBER_BYTES if suffix in SUFFIXES else MAX_NOTE_BYTES):
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
    label = entries.get("label") if cls is None else cls.decode("utf-8-sig", errors="replace").strip()
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
        warn_of_similar(given[0][0] if given else "", classes)
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
