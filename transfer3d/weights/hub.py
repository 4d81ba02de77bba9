"""Locates a checkpoint: a file, a folder laid out as on the Hugging Face hub, or the hub itself."""

from __future__ import annotations

import logging
import re
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TypeVar

import torch
from pydantic import ValidationError
from torch.hub import HASH_REGEX, download_url_to_file

from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.text import problem, shortened
from transfer3d.weights.schema import HubAddress

WEIGHTS_NAME = "model.safetensors"
HUB_PREFIX = "hf_hub:"
HUB_TIMEOUT_S = 5.0
DEADLINE_S = 30.0
"""Time limit for a response without its body."""
SLOWEST = 20_000.0
"""Minimum bytes per second of a download."""
UNKNOWN_BYTES, MAX_BYTES = 1 << 30, 1 << 36
"""Assumed size of a file whose size the hub does not report, and maximum size of a file."""

COMMIT = "[0-9a-f]{40}"
"""A full hash, which always names the same version."""

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def locate(path: str | Path) -> Path:
    """Returns the path of the weights file, downloading it if needed.

    Args:
        path: a file, a folder that contains `model.safetensors`, or `hf_hub:user/name@revision`. The hub is
            asked for the newest file of a branch or tag; the local cache is used alone for a full commit
            hash, and when the hub cannot be reached.

    Raises:
        UsageError: a malformed address.
        WeightsError: a folder without weights.
        SetupError: the hub cannot be reached, or has no such model.
    """
    text = str(path)
    if text.startswith(HUB_PREFIX):
        address = hub_address(text.removeprefix(HUB_PREFIX), f"{HUB_PREFIX}user/name@revision")
        return hub_file(
            address.repository,
            (WEIGHTS_NAME,),
            revision=address.revision,
            what=f"the weights of '{text}'",
            remedies="download its folder where the hub can be reached, and give that",
        )
    folder = Path(path)
    if not folder.is_dir():
        return folder
    if not (folder / WEIGHTS_NAME).is_file():
        raise WeightsError(f"{path} is a folder without {WEIGHTS_NAME}. Give the path of a checkpoint.")
    return folder / WEIGHTS_NAME


def hub_address(text: str, form: str) -> HubAddress:
    """Parses `user/name@revision`.

    Args:
        text: without a prefix.
        form: the expected format, for the error.

    Raises:
        UsageError: it is malformed.
    """
    repository, at, revision = text.partition("@")
    try:
        return HubAddress(repository=repository, revision=revision if at else None)
    except ValidationError as error:
        raise UsageError(
            f"'{shortened(text)}' is not an address on the hub ({problem(error.errors()[0])}): write {form}."
        ) from None


def hub_file(
    repository: str, filenames: Sequence[str], *, revision: str | None, what: str, remedies: str
) -> Path:
    """Returns the newest version of one of these files, from the local cache if that is up to date.

    A cached version is used, with a warning, if the newest cannot be loaded in time; one of a full commit
    hash without asking.

    Args:
        repository: `user/name`.
        filenames: in order of preference; one that is cached goes first.
        revision: branch, tag or commit; None = main.
        what: description of the file, for the error.
        remedies: what to do if the file is missing, for the error message.

    Raises:
        SetupError: nothing is cached, and the hub cannot be reached or has none of the files.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    def cached(filename: str) -> str | None:
        found = hub.try_to_load_from_cache(repository, filename, revision=revision)
        return found if isinstance(found, str) else None

    def newest(filename: str) -> str:
        # Its size gives the time limit; the download alone would try for a minute to reach the hub.
        url = hub.hf_hub_url(repository, filename, revision=revision)
        metadata = in_time(lambda: hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S), DEADLINE_S)
        return in_time(
            lambda: hub.hf_hub_download(repository, filename, revision=revision, etag_timeout=HUB_TIMEOUT_S),
            _seconds_for(metadata.size or UNKNOWN_BYTES),
        )

    try:
        for filename in sorted(filenames, key=lambda name: cached(name) is not None, reverse=True):
            old = cached(filename)
            if old is not None and re.fullmatch(COMMIT, revision or ""):
                return Path(old)
            try:
                return Path(newest(filename))
            except EntryNotFoundError:
                continue
            except Exception as error:
                if old is None:
                    raise
                log.warning(
                    "%s: the newest version cannot be loaded (%s), a cached one is used",
                    what,
                    type(error).__name__,
                )
                return Path(old)
    except Exception as error:  # the types depend on the HTTP library of the hub client's version
        raise _missing(what, repository, error, remedies) from error
    raise SetupError(f"the hub's {repository} holds none of {', '.join(filenames)}: {remedies}.")


def url_file(url: str, *, what: str, remedies: str) -> Path:
    """Returns a file from torch's cache (`TORCH_HOME`), downloaded as torchvision does.

    Args:
        url: ends in the file's name with the first digits of its sha256: `net-1378be20.pth`.
        what: description of the file, for the error.
        remedies: what to do if the file is missing, for the error message.

    Raises:
        SetupError: the server cannot be reached, or returns another file.
    """
    name = url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        return cached
    digest = HASH_REGEX.search(name)
    try:
        head = urllib.request.Request(url, method="HEAD")
        with in_time(lambda: urllib.request.urlopen(head, timeout=HUB_TIMEOUT_S), DEADLINE_S) as answer:
            size = int(answer.headers.get("Content-Length") or UNKNOWN_BYTES)
        cached.parent.mkdir(parents=True, exist_ok=True)
        in_time(  # torch has no timeout
            lambda: download_url_to_file(url, str(cached), digest[1] if digest else None, progress=False),
            _seconds_for(size),
        )
    except Exception as error:
        raise _missing(what, url, error, remedies) from error
    return cached


def in_time(call: Callable[[], Result], seconds: float) -> Result:
    """Calls a server in a thread and returns the result.

    Raises:
        TimeoutError: it takes longer. The clients' own timeouts start again with each byte that comes.
    """
    done: Future[Result] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None


def _seconds_for(size: int) -> float:
    """Returns the time limit for a download of this size.

    Raises:
        ValueError: nothing is as large.
    """
    if not 0 <= size <= MAX_BYTES:
        raise ValueError(f"{size} bytes")
    return DEADLINE_S + size / SLOWEST


def _missing(what: str, where: str, error: Exception, remedies: str) -> SetupError:
    reason = shortened(str(error).strip().partition("\n")[0], 200)
    return SetupError(
        f"{what} ({where}): not cached, and downloading failed "
        f"({type(error).__name__}{': ' if reason else ''}{reason}): {remedies}."
    )
