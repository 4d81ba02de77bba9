"""The process in which files are tried: `python -m fuzz.child MODULE PLACE`.

Reads the path of a file a line, and answers with its outcome as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from fuzz.outcome import Outcome, Target, of_call

MEMORY = 6 << 30
"""Bytes of address space beyond what the process has at its start."""


def main() -> None:
    """Serves until its input ends."""
    module, place = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is not an answer
    os.dup2(1, 2)
    target: Target = importlib.import_module(module).Files(Path(place))
    empty = Path(place) / f"empty{target.suffix}"
    empty.write_bytes(b"")
    _tried(target, empty)  # which imports what a file needs: that time belongs to no file
    _limit_memory()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        outcome = _tried(target, Path(json.loads(line)))
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


def _tried(target: Target, path: Path) -> Outcome:
    """Returns the outcome of a file; what the target itself raises is one too."""
    outcomes: list[Outcome] = []
    raised = of_call(lambda: outcomes.append(target.attempt(path)))
    return outcomes[0] if outcomes else raised


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


if __name__ == "__main__":
    main()
