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
    """Returns `user/name`.

    Raises:
        UsageError: the hub does not allow such a name.
    """
    try:
        return HubAddress(repository=name).repository
    except ValidationError as error:
        reason = problem(error.errors()[0])
        raise UsageError(
            f"--push {shortened(name)} is not a repository's name ({reason}): write user/name."
        ) from None


def push(folder: Path, names: Sequence[str], repository: str) -> str:
    """Uploads files of a folder in one commit, to a repository that is made if it is not there.

    The hub is `HF_ENDPOINT`'s, the account that of `hf auth login` or of `HF_TOKEN`.

    Args:
        folder: of the files.
        names: of the files, within it.
        repository: `user/name`.

    Returns:
        The address of the repository.

    Raises:
        SetupError: the hub cannot be reached, or refuses.
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
    except Exception as error:  # the hub's client changes its HTTP library, and with it these types
        reason = shortened(str(error).strip().splitlines()[0] if str(error).strip() else "")
        raise SetupError(
            f"{repository}: the hub does not take the files ({type(error).__name__}: {reason}). They are in "
            f"{folder}: `hf auth login`, then upload them with `hf upload {repository} {folder}`."
        ) from error
    return str(address)
