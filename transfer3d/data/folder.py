"""Finds the videos, classes and splits of a folder. Names that begin with a dot are ignored.

Names are compared in Unicode's composed form (NFC), since macOS writes accented letters as two characters.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

from transfer3d.errors import DataError, UsageError
from transfer3d.files import is_unicode, why_no_file

SUFFIXES = (
    "mp4", "m4v", "mov", "qt", "f4v", "3gp", "3gpp", "3g2", "avi", "divx", "mkv", "mk3d", "webm", "mpg",
    "mpeg", "mpe", "vob", "tod", "ts", "mts", "m2ts", "m2t", "trp", "wmv", "asf", "flv", "ogv", "ogg", "gif",
)  # fmt: skip
"""Suffixes of video files, in lower case."""
SPLITS = ("train", "val", "test", "unlabelled")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val",
    "validation": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""Names of labelled splits, in lower case, with the split that they mean."""
FOLDER_NAMES = {**SPLIT_NAMES, "unlabelled": "unlabelled", "unlabeled": "unlabelled"}
OTHER_NAMES = {"dev": "val", "tr": "train", "va": "val", "te": "test"}
"""Names that mean splits only where all folders are splits."""
LONGER_NAME = re.compile("([a-z]+?)[ _.-]?(?:sets?|splits?|data|videos?|clips?)?")
"""A split's name as people extend it: "train_set", "testset", "validation videos"."""
LISTED = 3
WORD = re.compile("[a-z]+")

log = logging.getLogger(__name__)


def composed(name: str) -> str:
    """Returns a name in Unicode's composed form."""
    return normalize("NFC", name)


def existing(path: Path) -> Path | None:
    """Returns the path as stored on the disk, in either Unicode form; None if it does not exist."""
    try:
        if path.exists():
            return path
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise
    if str(path).isascii() or path.parent == path or (folder := existing(path.parent)) is None:
        return None
    if not folder.is_dir():
        return None
    return next((other for other in folder.iterdir() if composed(other.name) == composed(path.name)), None)


def is_video(path: PurePath) -> bool:
    """Whether a file name has the suffix of a video."""
    return path.suffix[1:].lower() in SUFFIXES


def videos_under(folder: Path) -> list[Path]:
    """Returns all video files below a folder, sorted.

    Raises:
        DataError: a name is not UTF-8: no list could hold it.
    """
    found = sorted(path for path in _paths_under(folder) if is_video(path) and path.is_file())
    _refuse_odd_names(folder, found)
    return found


def log_other_files(folder: Path) -> None:
    """Logs the number of files below a folder that are not videos, by suffix, broken links and devices."""
    others: Counter[str] = Counter()
    for path in _paths_under(folder):
        if not path.exists():
            others["links to nothing"] += 1
        elif not path.is_file():
            others["pipes, sockets or devices"] += 1
        elif not is_video(path):
            others[path.suffix.lower() or "no suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        log.warning("%s: files that are not videos are ignored: %s", folder, kinds)


def class_folders(folder: Path) -> dict[str, Path]:
    """Returns the subfolders by name, sorted.

    Raises:
        DataError: two names are equal in composed form, or a name is not UTF-8.
    """
    folders: dict[str, Path] = {}
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    _refuse_odd_names(folder, found)
    for path in found:
        if folders.setdefault(composed(path.name), path) is not path:
            raise DataError(f"{folder}: two folders {path.name}, in two Unicode forms. Make them one.")
    return dict(sorted(folders.items()))


def labelled_folders(folder: Path) -> dict[str, Path]:
    """Returns the class folders.

    Raises:
        DataError: there are none, only one that contains the class folders, or they are splits.
    """
    folders = class_folders(folder)
    if not folders:
        raise DataError(f"{folder} has no class folders. Put videos into {folder}/<class>/.")
    name, only = next(iter(folders.items()))
    if len(folders) == 1 and has_classes(only):
        inner = list(class_folders(only))
        first = ", ".join(inner[:LISTED]) + (", ..." if len(inner) > LISTED else "")
        raise DataError(
            f"{folder} has one class, {name}, whose folders look like classes: {first}. Give {only} instead."
        )
    _refuse_splits(folder, folders)
    _refuse_inner_splits(folder, folders)
    warn_of_similar(str(folder), list(folders))
    return folders


def warn_of_similar(where: str, classes: Sequence[str]) -> None:
    """Logs class names that differ only in case or underscores."""
    names: dict[str, str] = {}
    for name in classes:
        if (other := names.setdefault(name.casefold().replace("_", " "), name)) != name:
            log.warning("%s: the classes %s and %s have similar names: are they one?", where, other, name)


def _refuse_inner_splits(folder: Path, folders: Mapping[str, Path]) -> None:
    """Refuses splits within classes, as in `jump/train/`: all videos would be trained on."""
    for name, path in folders.items():
        inner = [part for part in class_folders(path) if split_word(part) in FOLDER_NAMES]
        if len({FOLDER_NAMES[split_word(part)] for part in inner}) > 1:
            raise DataError(
                f"{path} holds splits: {', '.join(inner)}. Put them around the classes, as in "
                f"{folder / inner[0] / name}."
            )


def _refuse_splits(folder: Path, folders: Mapping[str, Path]) -> None:
    """Refuses folders named like splits that hold the same subfolders; warns of others that do."""
    if len(folders) < 2 or not all(map(has_classes, folders.values())):
        return
    shared = _shared_folders(list(folders.values()))
    if not shared:
        return
    names, inner = ", ".join(list(folders)[:LISTED]), ", ".join(sorted(shared)[:LISTED])
    words = [word for name in folders for word in (split_word(name), *WORD.findall(name.casefold()))]
    if any(word in FOLDER_NAMES for word in words):
        raise DataError(
            f"{folder}: {names} hold the same folders ({inner}), so they are not classes. Call them train, "
            "val and test."
        )
    log.warning("%s: the classes %s hold the same folders (%s): are they parts?", folder, names, inner)


def videos_by_class(
    folder: Path, classes: Sequence[str], train: str, videos: Callable[[Path], list[Path]] = videos_under
) -> list[tuple[str, Path]]:
    """Returns the class and the path of each video in class folders.

    Args:
        folder: folder of a split.
        classes: class names of the training videos.
        train: folder of the training videos, for messages.
        videos: returns all videos below a folder.

    Raises:
        DataError: a folder that is not one of the classes.
    """
    found = []
    for name, place in class_folders(folder).items():
        if name not in classes:
            raise DataError(f"{folder}: class {name} is not in {train}. Make the classes agree.")
        found += [(name, path) for path in videos(place)]
    return found


def split_word(name: str) -> str:
    """Returns a folder's name in lower case without "set", "videos" and the like at its end."""
    match = LONGER_NAME.fullmatch(name.casefold())
    return match[1] if match else ""


def split_folders(root: Path) -> dict[str, Path]:
    """Returns the folders of splits: train, val, test, unlabelled and synonyms, in any case.

    A folder with a synonym as its name is a class if it has videos itself and classes beside it.

    Raises:
        DataError: two folders mean the same split.
    """
    folders = class_folders(root)
    split_of = _longer_names(folders) or {
        name: FOLDER_NAMES[name.casefold()] for name in folders if name.casefold() in FOLDER_NAMES
    }
    if any(_has_videos(path) for name, path in folders.items() if name not in split_of):
        split_of = {n: split for n, split in split_of.items() if n in SPLITS or has_classes(folders[n])}
    splits: dict[str, Path] = {}
    for name, split in split_of.items():
        if (other := splits.setdefault(split, folders[name])) is not folders[name]:
            raise DataError(f"{root}: both {other.name} and {name} are the split {split}. Make them one.")
    ignored = [name for name in folders if splits and name not in split_of and _has_videos(folders[name])]
    if ignored:
        log.warning("%s: folders beside the splits are ignored: %s", root, ", ".join(ignored))
    return {split: splits[split] for split in SPLITS if split in splits}


def _longer_names(folders: Mapping[str, Path]) -> dict[str, str]:
    """Returns the splits by names such as `testset`, if all folders have such names, of different splits.

    Names of two letters could be languages; they are splits if all folders hold one of the same name.
    """
    words = [split_word(name) for name in folders]
    splits = [FOLDER_NAMES.get(word) or OTHER_NAMES.get(word) for word in words]
    if None in splits or len(set(splits)) < len(splits):
        return {}
    is_short = any(len(word) == 2 for word in words)
    if is_short and (len(folders) < 2 or not _shared_folders(list(folders.values()))):
        return {}
    return {name: split for name, split in zip(folders, splits, strict=True) if split}


def _shared_folders(folders: Sequence[Path]) -> set[str]:
    """Returns the names of the subfolders that all folders have."""
    return set.intersection(*(set(class_folders(path)) for path in folders))


def has_classes(folder: Path) -> bool:
    """Whether a folder has subfolders, and no videos beside them."""
    return bool(class_folders(folder)) and next(videos_in(folder), None) is None


def videos_in(folder: Path) -> Iterator[Path]:
    """Yields the video files of a folder that are not in subfolders."""
    direct = (path for path in folder.iterdir() if not path.name.startswith("."))
    return (path for path in direct if is_video(path) and path.is_file())


def missing(path: Path, remedy: str) -> UsageError:
    """Returns the error for a path that does not exist, with the nearest name beside it, or is not a file."""
    return UsageError(f"{path} {why_no_file(path)}. {remedy}")


def _has_videos(folder: Path) -> bool:
    return any(is_video(path) and path.is_file() for path in _paths_under(folder))


def _paths_under(folder: Path) -> Iterator[Path]:
    """Yields all but folders below a folder, following links; raises if a folder cannot be read."""
    seen: set[tuple[int, int]] = set()
    for place, below, names in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            below.clear()  # a link to where we are or were
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = (name for name in below if not name.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _refuse_odd_names(folder: Path, paths: Sequence[Path]) -> None:
    if odd := next((path.name for path in paths if not is_unicode(str(path))), None):
        raise DataError(f"{folder}: the name {odd} is not UTF-8. Rename it.")
