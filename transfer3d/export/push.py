"""Uploads a Hub folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from pydantic import ValidationError

from transfer3d.errors import SetupError, UsageError
from transfer3d.text import problem, shortened
from transfer3d.weights.schema import HubAddress


def check_repository(name: str) -> str:
    """Returns a valid repository name, `user/name`.

    Raises:
        UsageError: the hub does not allow this name.
    """
    try:
        return HubAddress(repository=name).repository
    except ValidationError as error:
        reason = problem(error.errors()[0])
        raise UsageError(
            f"--push {shortened(name)} is not a repository's name ({reason}): write user/name."
        ) from None


def push(folder: Path, names: Sequence[str], repository: str) -> str:
    """Uploads files of a folder in one commit; the repository is created if it does not exist.

    The hub is that of `HF_ENDPOINT`, the account that of `hf auth login` or `HF_TOKEN`.

    Args:
        folder: folder of the files.
        names: names of the files, relative to it.
        repository: `user/name`.

    Returns:
        The address of the repository.

    Raises:
        SetupError: the hub cannot be reached, or refuses the files.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(names),
            commit_message="Upload by transfer3d export",
        )
    except Exception as error:  # the types depend on the HTTP library of the hub client's version
        reason = shortened(str(error).strip().splitlines()[0] if str(error).strip() else "")
        raise SetupError(
            f"{repository}: the upload failed ({type(error).__name__}: {reason}). The files are in "
            f"{folder}: `hf auth login`, then upload them with `hf upload {repository} {folder}`."
        ) from error
    return str(address)
