"""Run folders: one file of an unfinished run changed. A report is made, and the run is resumed."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.edits import dumps, edited_bytes, edited_json
from fuzz.index import write_shards
from fuzz.outcome import Outcome, of_command, worst

OPTIONS = (
    "--recipe",
    "demo/tiny-finetune",
    "--workers",
    "0",
    "--precision",
    "fp32",
    "--batch-size",
    "2",
    "--steps",
    "1",
)
LARGE = 100_000
"""Bytes of a file that is not changed by chance: its digest, or its header's checks, are."""


class Files:
    """See `fuzz.outcome.Target`. A file is the name of one in the folder, a line, and its new content."""

    attack = "run folders: log, notes, recipe, manifest and state changed; report, --resume"
    suffix = ".file"

    def __init__(self, place: Path) -> None:
        self.folder = place / "run"
        if not self.folder.exists():
            if not (place / "shards").exists():
                write_shards(place / "shards")
            done = of_command(
                "finetune", "p3d_tiny", "--data", str(place / "shards"), "-o", str(self.folder), *OPTIONS
            )
            if done.verdict != "read":
                raise RuntimeError(done.detail)
            (self.folder / "finished.json").unlink()

    def cases(self) -> SearchStrategy[bytes]:
        """Returns a file of the folder with changed values or bytes."""
        files = [
            path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.stat().st_size < LARGE
        ]
        return st.sampled_from([path for path in files if path.name != ".transfer3d-lock"]).flatmap(
            self._changed
        )

    def _changed(self, path: Path) -> SearchStrategy[bytes]:
        name, content = path.relative_to(self.folder).as_posix().encode(), path.read_bytes()
        contents = edited_bytes([content], most=3)
        if path.suffix in (".json", ".jsonl"):
            lines = content.splitlines()
            last = edited_json(json.loads(lines[-1] if path.suffix == ".jsonl" else content))
            written = last.map(lambda new: dumps(new).encode("utf-8", "surrogatepass"))
            before = lines[:-1] if path.suffix == ".jsonl" else []
            contents |= written.map(lambda line: b"\n".join([*before, line, b""]))
        return contents.map(lambda new: name + b"\n" + new)

    def attempt(self, case: Path) -> Outcome:
        """Makes a report of the folder, and resumes its run."""
        name, _, content = case.read_bytes().partition(b"\n")
        with tempfile.TemporaryDirectory(dir=case.parent) as place:
            folder = Path(place) / "run"
            shutil.copytree(self.folder, folder)
            (folder / name.decode()).write_bytes(content)
            return worst(
                of_command("report", str(folder), "-o", str(Path(place) / "report.html")),
                of_command("finetune", "-o", str(folder), "--resume"),
            )
