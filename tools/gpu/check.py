"""Tests, speed and memory on a GPU, in one JSON file that is complete after each part.

python -m gpu.check -o gpu-check.json
python -m gpu.check --rehearse          # on a CPU, with the smallest student
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from script import run_script

from transfer3d import SetupError
from transfer3d.bench.gpu import STUDENTS
from transfer3d.files import write_text

ROOT = Path(__file__).parents[2]
LIMIT_S = 480
STEPS_S, TRAINING_S = 110, 60
"""The longest time of one student's steps, and of one training."""
SWITCHES = ("", "gpu.convolutions=2d", "gpu.prefetch=true", "gpu.fused_optimizer=true")
Part = tuple[str, Callable[[float], Any]]


def main(
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("gpu-check.json"),
    limit_s: Annotated[float, typer.Option(help="Ends after so many seconds.")] = LIMIT_S,
    rehearse: Annotated[bool, typer.Option(help="On a CPU, with the smallest student.")] = False,
) -> None:
    """Measure everything that the documentation says of a GPU."""
    if not rehearse and not torch.cuda.is_available():
        raise SetupError("torch finds no usable GPU. Run it where there is one, or with --rehearse.")
    console, started = Console(stderr=True), time.monotonic()
    found: dict[str, Any] = {
        "device": "cpu" if rehearse else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    with TemporaryDirectory() as folder:
        for name, measure in _parts(Path(folder), rehearse=rehearse):
            left = limit_s - (time.monotonic() - started)
            found[name] = measure(left) if left > 0 else {"unfinished": "no time was left"}
            found["seconds"] = round(time.monotonic() - started)
            write_text(out, json.dumps(found, indent=1) + "\n")
            console.print(f"{name}: {found['seconds']} s", highlight=False)
    console.print(f"wrote {out}", highlight=False)


def _parts(folder: Path, *, rehearse: bool) -> Iterator[Part]:
    device = "cpu" if rehearse else "cuda"
    yield "tests", partial(_tests, folder / "tests.xml")
    options = ["--device", device, *(["--pairs", "1", "--small"] if rehearse else [])]
    for name, batch in ({"p3d_tiny": 2} if rehearse else STUDENTS).items():
        yield name, partial(_steps, name, batch, options)
    student, steps = ("p3d_tiny", 2) if rehearse else ("p3d_resnet18", 60)
    for switch in SWITCHES:
        yield f"training, {switch or 'as it is'}", partial(_training, folder, student, steps, switch)


def _tests(report: Path, left: float) -> Any:
    done = _run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu", f"--junitxml={report}"], left)
    if done is None or not report.exists():
        return {"unfinished": "the tests did not end in time"}
    suite = next(ElementTree.parse(report).iter("testsuite"))  # written by the line above
    return {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}


def _steps(name: str, batch: int, options: Sequence[str], left: float) -> Any:
    left = min(left, STEPS_S)
    done = _run(["-m", "gpu.steps", name, str(batch), *options], left)
    lines = [] if done is None else [line for line in done.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"unfinished": f"nothing was measured in {left:.0f} s"}


def _training(folder: Path, student: str, steps: int, switch: str, left: float) -> Any:
    data, out = folder / "digits", folder / f"run-{switch or 'plain'}"
    if not data.exists():
        small = ["--train", "2", "--val", "1", "--test", "1", "--unlabelled", "4", "--size", "128"]
        _run(["-m", "transfer3d", "synth", str(data), *small], left)
    left = min(left, TRAINING_S)
    changes = [f"max_steps={steps}", "batch_size=16", "log_every=1", *([switch] if switch else [])]
    command = ["-m", "transfer3d", "finetune", student, "--recipe", "demo/tiny-finetune"]
    command += ["--data", str(data / "shards"), "-o", str(out)]
    _run([*command, *(part for change in changes for part in ("--set", change))], left)
    log = out / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    late = [row for row in rows if row["split"] == "train"][steps // 2 :]
    if not late:
        return {"unfinished": f"no steps in {left:.0f} s"}
    mean = {name: sum(row[name] for row in late) / len(late) for name in ("clips_per_second", "data_wait")}
    return {**mean, "loss": late[-1]["loss"]}


def _run(arguments: Sequence[str], left: float) -> str | None:
    """Runs a Python command in the root of the checkout; returns its output, also if it ran out of time."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=left
        )
    except subprocess.TimeoutExpired as late:
        return late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout
    if done.returncode:
        Console(stderr=True).print(done.stderr[-2000:], highlight=False, markup=False)
    return done.stdout


if __name__ == "__main__":
    run_script(main)
