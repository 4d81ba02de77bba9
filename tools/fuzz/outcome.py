"""What became of one file."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from hypothesis.strategies import SearchStrategy

from transfer3d.errors import Transfer3dError

Verdict = Literal["read", "refused", "wrong"]
LONGEST_SENTENCE = 10_000


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        verdict: read without complaint, refused in a sentence, or wrong.
        detail: the sentence, a note on what was read, or what was wrong.
    """

    verdict: Verdict
    detail: str = ""

    @property
    def fault(self) -> str:
        """The kind of a wrong outcome: the detail without its numbers, quotes and paths."""
        return re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|\d+", "_", self.detail)[:150]


class Target(Protocol):
    """One kind of file, in a module `fuzz.NAME` as its class `Files`.

    Attributes:
        attack: what is done to the files, a row of the table.
        suffix: of a file.
    """

    attack: str
    suffix: str

    def __init__(self, place: Path) -> None:
        """Makes its undamaged examples in a folder, or finds them there."""
        ...

    def cases(self) -> SearchStrategy[bytes]:
        """Returns damaged files."""
        ...

    def attempt(self, case: Path) -> Outcome:
        """Gives a file to the program."""
        ...


def of_call(function: Callable[[], Any]) -> Outcome:
    """Calls what may raise for a bad file; a text that it returns is a note."""
    try:
        note = function()
    except Transfer3dError as error:
        return of_sentence(str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(
            "wrong", f"{type(error).__name__}: {error} ({Path(place.filename).name}, {place.name})"
        )
    return Outcome("read", note if isinstance(note, str) else "")


def of_sentence(sentence: str) -> Outcome:
    """Judges the message of a refusal; the command line writes a new line in a name as its escape."""
    if not sentence or len(sentence) > LONGEST_SENTENCE:
        return Outcome("wrong", f"not a sentence: {sentence[:100]!r} of {len(sentence)}")
    return Outcome("refused", sentence)


def of_command(*arguments: str) -> Outcome:
    """Runs a command of transfer3d in this process."""
    from typer.testing import CliRunner

    from transfer3d.cli.main import app

    done = CliRunner().invoke(app, list(arguments))
    said = done.stderr.strip()
    if done.exit_code == 0:
        return Outcome("read")
    last = said.splitlines()[-1].strip() if said else ""
    if done.exit_code in range(3, 7) and not last.startswith("transfer3d: error: "):
        return Outcome("wrong", f"{arguments[0]}: exit {done.exit_code}, the last line is {last}")
    if done.exit_code not in range(2, 7) or "Traceback" in said:
        return Outcome("wrong", f"{arguments[0]}: exit {done.exit_code}, {last or repr(done.exception)}")
    return of_sentence(last) if last else Outcome("wrong", f"{arguments[0]}: exit {done.exit_code}, no word")


def worst(*outcomes: Outcome) -> Outcome:
    """Returns the one that matters of several tries of one file."""
    return max(outcomes, key=lambda outcome: ("read", "refused", "wrong").index(outcome.verdict))
