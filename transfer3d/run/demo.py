"""The demo: the whole pipeline on the built-in dataset, with the same functions as the commands."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from transfer3d.data.moving_digits import SynthConfig, synthesise
from transfer3d.data.pipeline import view_batches
from transfer3d.data.source import open_videos
from transfer3d.engine.run_folder import LOG, MODEL
from transfer3d.errors import UsageError
from transfer3d.evaluation.protocols import CENTRE
from transfer3d.files import LOCK, Lock, is_temporary, read_json, write_text
from transfer3d.insight.report.demo import DemoSummary, StudentResult, table_rows, write_report
from transfer3d.layout import ClipSpec
from transfer3d.recipes.load import load_recipe
from transfer3d.run.checkpoints.inflate import inflate_to_file
from transfer3d.run.inference.evaluate import evaluate_file
from transfer3d.run.pages.run_record import read_log
from transfer3d.run.training.image_teacher import train_teacher
from transfer3d.run.training.train import run_task
from transfer3d.weights.metadata import read_metadata

MARKER, STARTED = "demo.json", "started"
WRITTEN = re.compile(
    r"demo\.json|data|(teacher|inflated)\.safetensors|correspond|finetune-\w+|report\.html|summary\.png"
)
"""Names of the files and folders that a demo writes."""
TEACHER, FAMILY = "test_resnet", "p3d"
LABELS_PER_CLASS = 4
STRIPS = 6


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo."""

    report: Path
    summary: DemoSummary
    seconds: float

    def table(self) -> Table:
        """Returns the result as a table for the terminal."""
        note = f"test accuracy on unseen drawings; {self.seconds / 60:.1f} minutes in all"
        table = Table("student", "top-1", "digit", "motion", "top-5", "starts from", title=note, box=None)
        for row in table_rows(self.summary):
            table.add_row(*row)
        return table


def run_demo(out: Path, *, seed: int, console: Console) -> DemoResult:
    """Runs the demo into `out`, which is replaced if an earlier demo wrote it.

    Args:
        out: folder of data, runs and report.
        seed: for all randomness.
        console: for progress.

    Raises:
        UsageError: `out` contains something else.
        SetupError: another process uses `out`, or it cannot be written.
    """
    with closing(_claim(out)):
        return _run(out, seed, console)


def _run(out: Path, seed: int, console: Console) -> DemoResult:
    started = time.monotonic()
    data, teacher = out / "data", out / "teacher.safetensors"
    synth = SynthConfig(seed=seed, train=LABELS_PER_CLASS, val=2, test=10, unlabelled=2000)
    _step(console, 1, "moving digits as H.264 videos")
    synthesise(data, synth, console)
    _step(console, 2, f"a small teacher ({TEACHER}) learns still digits")
    accuracy = train_teacher(
        TEACHER, teacher, synth, size=32, steps=300, seed=seed, precision="auto", console=console
    )
    console.print(f"teacher: {accuracy:.1%} accuracy on unseen digits", highlight=False)
    _step(console, 3, "correspondence: the student learns from the teacher, without labels")
    shards = str(data / "shards")
    recipe = load_recipe("demo/tiny-correspond", data=shards, seed=seed, weights=str(teacher))
    matched = run_task(recipe, out=out / "correspond", console=console)
    _step(console, 4, "inflation: the teacher itself becomes a student")
    inflated = inflate_to_file(TEACHER, FAMILY, out / "inflated.safetensors", weights=str(teacher))
    console.print(inflated.verdict(), highlight=False)
    starts = {
        "scratch": ("random weights", None),
        "correspondence": ("the matching task, no labels", matched / MODEL),
        "inflated": ("the teacher's own kernels", out / "inflated.safetensors"),
    }
    students = []
    for number, (name, (start, file)) in enumerate(starts.items(), 5):
        _step(console, number, f"fine-tuning on {LABELS_PER_CLASS} labelled videos per class: {name}")
        students.append(_finetune_and_test(name, start, file, shards, out, seed, console))
    clip = read_metadata(matched / MODEL).clip
    summary = DemoSummary(
        classes=list(students[0].report["per_class"]),
        students=students,
        correspondence_log=read_log(matched / LOG),
        teacher_accuracy=accuracy,
        setting=f"{synth.count('train')} labelled training videos ({LABELS_PER_CLASS} of each class) and "
        f"{synth.unlabelled} unlabelled ones, clips of {clip.frames}x{clip.size}x{clip.size}, seed {seed}.",
        proof=inflated.verdict(),
        strips=_sample_clips(shards, clip, seed),
    )
    report = out / "report.html"
    write_report(summary, report, out / "summary.png")
    return DemoResult(report, summary, time.monotonic() - started)


def _claim(out: Path) -> Lock:
    """Locks the folder and removes an earlier demo from it."""
    if out.is_file():
        raise UsageError(f"{out} is a file. Choose another with -o.")
    _refuse_others(out)
    lock = Lock(out / LOCK, str(out))
    try:
        _refuse_others(out)
        for part in out.glob(f"*/{LOCK}"):  # a run or a dataset that is being continued
            Lock(part, str(part.parent)).close()
        for path in out.iterdir():  # keeps the folder itself, which may be a link
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write_text(out / MARKER, json.dumps({STARTED: time.strftime("%F %T")}))
    except BaseException:
        lock.close()
        raise
    return lock


def _refuse_others(out: Path) -> None:
    """Raises UsageError if the folder holds anything that no demo wrote."""
    names = [path.name for path in out.iterdir() if not is_temporary(path.name)] if out.exists() else []
    if names and not _is_marker(out / MARKER):
        raise UsageError(f"{out} is not empty and not an earlier demo. Choose another with -o.")
    if others := [name for name in names if not WRITTEN.fullmatch(name)]:
        raise UsageError(f"{out} holds {others[0]}, which is not a demo's. Choose another with -o.")


def _is_marker(path: Path) -> bool:
    """Whether a file is the one that a demo writes first."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and set(content) == {STARTED}


def _step(console: Console, number: int, text: str) -> None:
    console.rule(f"{number}/7 {text}", align="left")


def _finetune_and_test(
    name: str, start: str, file: Path | None, shards: str, out: Path, seed: int, console: Console
) -> StudentResult:
    given = {} if file is None else {"student": str(file)}
    recipe = load_recipe("demo/tiny-finetune", data=shards, seed=seed, **given)
    run = run_task(recipe, out=out / f"finetune-{name}", console=console)
    report = evaluate_file(
        run / MODEL,
        shards,
        split="test",
        protocol=CENTRE,
        precision="auto",
        workers=recipe.workers,
        out=run / "test.json",
        console=console,
    )
    assert report is not None
    return StudentResult(name, start, report, read_log(run / LOG))


def _sample_clips(shards: str, clip: ClipSpec, seed: int) -> list[tuple[str, np.ndarray]]:
    """Returns test clips of different classes with their class names, chosen by the seed."""
    videos = open_videos(shards, split="test", labelled=True)
    chosen = set(np.random.default_rng(seed).choice(len(videos), STRIPS, replace=False).tolist())
    strips = []
    for number, batch in enumerate(view_batches(videos, clip, batch_size=1)):
        if number in chosen:
            strips.append((videos.classes[int(batch.labels[0])], batch.clips[0].numpy()))
    return strips
