"""Run folders: one file of a run changed. A report is made, and the run, taken for unfinished, is resumed.

A changed state gets a manifest that is right again, so that it is read. Pages show no videos: `fuzz.videos`
tries those, and they took nearly all of the time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.edits import dumps, edited_bytes, edited_json
from fuzz.index import write_shards
from fuzz.outcome import Outcome, of_command, worst
from transfer3d.engine.run_folder import FINISHED, MANIFEST, STATE, TENSORS
from transfer3d.files import LOCK, sha256_file

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

    attack = "run folders: log, notes, recipe, manifest and state (signed again) changed; report, --resume"
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

    def cases(self) -> SearchStrategy[bytes]:
        """Returns a file of the folder with changed values or bytes."""
        files = [
            path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.stat().st_size < LARGE
        ]
        read = [path for path in files if path.name != LOCK and path.suffix != ".html"]
        return st.sampled_from(read).flatmap(self._changed)

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
            changed = folder / name.decode()
            changed.write_bytes(content)
            if changed.name == STATE:
                _sign(changed.parent)
            page = str(Path(place) / "report.html")
            reported = of_command("report", str(folder), "--videos", "0", "-o", page)
            (folder / FINISHED).unlink(missing_ok=True)
            return worst(
                reported, _without_videos(lambda: of_command("finetune", "-o", str(folder), "--resume"))
            )


def _sign(checkpoint: Path) -> None:
    files = {
        name: {"bytes": (checkpoint / name).stat().st_size, "sha256": sha256_file(checkpoint / name)}
        for name in (TENSORS, STATE)
    }
    (checkpoint / MANIFEST).write_text(json.dumps({"step": 1, "files": files}), encoding="utf-8")


def _without_videos(resume: Callable[[], Outcome]) -> Outcome:
    """Resumes a run; the page that it leaves shows no videos, however few there are."""
    from transfer3d.run.pages import report

    shown, report.FEW_VIDEOS = report.FEW_VIDEOS, 0
    try:
        return resume()
    finally:
        report.FEW_VIDEOS = shown
