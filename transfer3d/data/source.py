"""Opens videos in any supported storage format."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from transfer3d.data.external_shards import expand, index_external
from transfer3d.data.folder import (
    FOLDER_NAMES,
    existing,
    has_classes,
    labelled_folders,
    log_other_files,
    missing,
    split_folders,
    split_word,
    videos_by_class,
    videos_in,
    videos_under,
)
from transfer3d.data.remote import HttpStore
from transfer3d.data.shards import INDEX, PARTS, PLAN, FolderStore, Index, ShardVideos, Store, read_index
from transfer3d.data.video_list import VideoList
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, NoSuchSplit, UsageError

log = logging.getLogger(__name__)

TAR = re.compile(r"[^.].*\.tar")
COMPRESSED = re.compile(r"[^.].*\.(tgz|tar\.(gz|bz2|xz|zst))")
"""Names of shards, in lower case; a name that begins with a dot is ignored."""


def open_videos(path: str | Path, *, split: str | None = "train", labelled: bool | None = None) -> VideoSet:
    """Opens a folder or an address of videos.

    Supported are, in this order: the http address of a folder of shards; a folder of shards (with
    `index.json`); a folder with such a folder `shards` in it (written by `transfer3d synth`); third-party tar
    files, as a folder of them, as `PATH/<split>/*.tar` or as `PLACE/name-{000..012}.tar`, local or at an http
    address, which are read once completely, since they have no index; `PATH/<split>/<class>/*`;
    `PATH/<class>/*` and a flat folder, which have no splits and are used as a whole.

    Args:
        path: the folder, or an address.
        split: split of the data. Without labels, "unlabelled", "train" and None are equivalent: the split
            `unlabelled` if there is one, else `train`, else the whole folder. With labels, None requires a
            folder without splits.
        labelled: True = each video must have a class; False = classes are ignored; None = False for the split
            "unlabelled" and for data without classes, else True.

    Raises:
        UsageError: no such folder, or no such split.
        DataError: no video can be decoded, a class is missing, or shards are damaged.
        SetupError: a server does not answer.
    """
    if (shards := open_shards(path)) is not None:
        store, index = shards
        if labelled is None:
            labelled = split != "unlabelled" and bool(index.classes)
        return ShardVideos(
            store, index, split=_pick(split, list(index.counts), labelled, store), labelled=labelled
        )
    root = existing(Path(path)) or Path(path)
    if not root.is_dir():
        remedy = "Give a folder of videos or of shards."
        raise UsageError(f"{root} is a file. {remedy}") if root.is_file() else missing(root, remedy)
    parts = split_folders(root)
    if labelled is None:
        labelled = split != "unlabelled" and has_classes(parts.get(split or "", root))
    if not parts:
        if split not in (None, "train") and (labelled or split != "unlabelled"):
            raise NoSuchSplit(
                f"{root} has no split '{split}', because it has no folders train, val or test. "
                f"Put its videos into {root / split} and the others into {root / 'train'}, "
                "or choose all with --split train."
            )
        return _classified(root, root) if labelled else _unlabelled(root)
    folder = parts[_pick(split, list(parts), labelled, root)]
    if not labelled:
        return _unlabelled(folder)
    return _classified(folder, parts.get("train", folder))


def open_files(paths: Sequence[str | Path]) -> VideoSet:
    """Opens video files, and all those below folders, without labels; keys are the paths as given.

    A single folder of shards is opened with all its splits and its own keys.

    Raises:
        UsageError: a path does not exist.
        DataError: none of them can be decoded.
    """
    if len(paths) == 1 and (shards := _only_shards(Path(paths[0]))) is not None:
        return ShardVideos(*shards, split=None, labelled=False)
    files: list[Path] = []
    for path in existing_paths(paths):
        files += _videos_of(path) if path.is_dir() else [path]
    if not files:
        raise DataError(
            f"{', '.join(map(str, paths))}: no videos in it. Give video files or folders of them."
        )
    return VideoList(list(dict.fromkeys(files)))


def existing_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Returns the paths as they are on the disk.

    Raises:
        UsageError: one of them is not there.
    """
    found = [(given, existing(given)) for given in map(Path, paths)]
    for given, path in found:
        if path is None:
            raise missing(given, "Give video files or folders of them.")
    return [path for _, path in found if path is not None]


def _only_shards(path: Path) -> tuple[Store, Index] | None:
    """Returns the shards of a folder that has no video files beside them."""
    return open_shards(path) if path.is_dir() and not videos_under(path) else None


def is_address(path: str | Path) -> bool:
    """Whether data are on an http server."""
    return str(path).lower().startswith(("http://", "https://"))


def open_shards(path: str | Path) -> tuple[Store, Index] | None:
    """Returns the shards at an address or in a folder; None if there are none."""
    place, slash, names = str(path).rpartition("/")
    named = TAR.fullmatch(names.casefold()) is not None
    if is_address(path):
        store = HttpStore(place if named else str(path))
        return store, index_external(store, expand(names)) if named else read_index(store)
    if str(path).startswith("pipe:") or "://" in str(path):
        raise DataError(f"{path}: data is read from folders and from http addresses, never from commands.")
    if named and not Path(path).is_dir():
        folder, files = Path(place + slash), expand(names)
        if absent := [file for file in files if not (folder / file).is_file()]:
            raise missing(folder / absent[0], f"Of {len(files)} shards {len(absent)} are missing.")
        return FolderStore(folder), index_external(FolderStore(folder), files)
    for folder in (Path(path), Path(path) / "shards"):
        if (folder / INDEX).is_file():
            return FolderStore(folder), read_index(FolderStore(folder))
    if Path(path).is_dir() and (files := _tar_files(Path(path))) and not videos_under(Path(path)):
        return FolderStore(Path(path)), index_external(FolderStore(Path(path)), files)
    return None


def _tar_files(folder: Path) -> list[str]:
    """Returns the tar files of a folder, or if it has none, those in its folders called like splits.

    Raises:
        DataError: `shard` has not finished them, or there are only compressed ones or datasets of their own,
            and no videos.
    """
    files = _files_like(TAR, folder)
    if files and (folder / PLAN).is_file() and (folder / PARTS).is_dir():
        raise DataError(f"{folder}: its shards are not finished. Run the same `transfer3d shard` again.")
    if not files:
        parts = [path for path in folder.iterdir() if path.is_dir() and split_word(path.name) in FOLDER_NAMES]
        indexed = sorted(path for path in parts if (path / INDEX).is_file())
        files = [file for path in sorted({*parts} - {*indexed}) for file in _files_like(TAR, path)]
        if indexed and not files and not videos_under(folder):
            raise DataError(
                f"{indexed[0]} is a dataset of shards by itself. Give that folder; or run `transfer3d shard` "
                "once on a folder with all splits, which makes one dataset."
            )
    if not files and (packed := _files_like(COMPRESSED, folder)) and not videos_under(folder):
        raise DataError(f"{packed[0]} is compressed. Decompress it, for example with gunzip.")
    return [file.relative_to(folder).as_posix() for file in files]


def _files_like(name: re.Pattern[str], folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if name.fullmatch(path.name.casefold()))
    return sorted(path for path in found if path.is_file())


def _pick(split: str | None, known: Sequence[str], labelled: bool, root: Path | Store) -> str:
    """Returns the split to open."""
    pool = [name for name in ("unlabelled", "train") if name in known]
    if not labelled and split in (None, "train", "unlabelled") and pool:
        return pool[0]
    if split is None and len(known) == 1:
        return known[0]
    if split is None or split not in known:
        raise NoSuchSplit(f"{root} has no split '{split}'. It has {', '.join(known)}: choose with --split.")
    return split


def _unlabelled(folder: Path) -> VideoList:
    return VideoList(_videos_of(folder), root=folder)


def _videos_of(folder: Path) -> list[Path]:
    log_other_files(folder)
    return videos_under(folder)


def _classified(folder: Path, train: Path) -> VideoList:
    """Opens class folders; labels index the classes of `train`, so that they agree between splits."""
    classes = list(labelled_folders(train))
    log_other_files(folder)
    found = videos_by_class(folder, classes, str(train))
    if stray := sorted(videos_in(folder)):
        if not found:
            raise DataError(
                f"{folder}: its videos are not in class folders. Put them into {folder}/<class>/."
            )
        what = "videos beside the class folders are ignored"
        log.warning("%s: %d %s, first %s", folder, len(stray), what, stray[0].name)
    files, labels = [path for _, path in found], [name for name, _ in found]
    videos = VideoList(files, labels, classes=classes, root=folder)
    if folder == train and (empty := set(range(len(classes))) - set(videos.labels)):
        raise DataError(f"{folder}: class {classes[min(empty)]} has no videos. Fill or remove it.")
    return videos
