"""Imports optional packages."""

from __future__ import annotations

import importlib
from typing import Any

from transfer3d.errors import SetupError


def import_extra(module: str, what: str, extra: str) -> Any:
    """Imports an optional module.

    Args:
        module: its name.
        what: the feature that needs it, for the message.
        extra: the extra of transfer3d that installs it.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(
            f"{what} needs {error.name}: install it with `pip install 'transfer3d[{extra}]'`."
        ) from error
