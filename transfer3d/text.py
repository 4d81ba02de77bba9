"""Makes text from files, names and servers safe to print on a terminal or to write to a spreadsheet."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and new line
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the writing direction
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff]"  # surrogates: bytes of a name that are not UTF-8
)
UNION = ("constrained-", "list[")
"""Prefixes of the parts of a pydantic location that name an alternative of a union."""
DICTIONARY = re.compile(r"valid dictionary( or instance of \w+)?")
LONGEST = 200
"""Maximum length of a name in a message."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    """Escapes invisible characters."""
    return HIDDEN.sub(lambda match: ascii(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """Escapes newlines and tabs, so that a name cannot start a line of its own."""
    return text.replace("\n", "\\n").replace("\t", "\\t")


def cell(value: Any) -> Any:
    """Returns a CSV cell, with a leading quote if a spreadsheet would take the text for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def problem(error: Mapping[str, Any]) -> str:
    """Describes one of a pydantic ValidationError's `errors()`: key, value and reason, in one short line."""
    path = [str(part) for part in error["loc"]]
    key = shortened(".".join(part for part in path if not part.startswith(UNION)))
    reason = DICTIONARY.sub("table", error["msg"].removeprefix("Value error, "))
    reason = reason[0].lower() + reason[1:]
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    if error["type"] == "value_error":  # a check of several values: its message already gives them
        return f"{key}: {reason}" if key else reason
    return f"{key} = {reprlib.repr(error['input'])}: {reason}"


def shortened(text: str, most: int = LONGEST) -> str:
    """Returns the text, or its beginning and end if it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


class PlainConsole(Console):
    """Prints text literally: no markup, no highlighting, no terminal control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by rich for each string, in a table or by itself."""
        return super().render_str(visible(text), **options)
