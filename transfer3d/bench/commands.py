"""Whole commands from their start: what they load, and where the seconds of `predict` go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from transfer3d.bench.baselines import baseline_file
from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.videos import bench_videos
from transfer3d.errors import SetupError
from transfer3d.models.checkpoint import save
from transfer3d.models.factory import create_model

STUDENT, TRANSFORMER, CLASSES = "p3d_resnet18", "vivit_tiny", 101
PARTS = {
    "import": "importing torch and PyAV",
    "load": "and loading the student",
    "decode": "and decoding the clip",
    "forward": "and its forward pass: the whole script",
}
"""A script with the work of `predict`, by where it stops."""


class Command:
    """Runs a command to its end.

    Args:
        arguments: after `python`.
        code: its exit code.
    """

    def __init__(self, *arguments: str, code: int = 0) -> None:
        self._command, self._code = [sys.executable, *arguments], code

    def __call__(self) -> None:
        """Runs it.

        Raises:
            SetupError: it ends with another code.
        """
        done = subprocess.run(self._command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != self._code:
            reason = "".join(done.stderr.strip().splitlines()[-1:])
            raise SetupError(f"{' '.join(self._command)} ended with {done.returncode}: {reason}")

    def peak_bytes(self) -> None:
        """Unknown: the system counts what this process held when it started the other."""


def command_cases(folder: Path | None, scratch: Path) -> Iterator[Case]:
    """Yields the cases; no output is compared.

    Args:
        folder: with the user's videos; None = generated ones.
        scratch: folder for generated videos and checkpoints.
    """
    nothing, student, transformer = "no.safetensors", f"{STUDENT}.safetensors", f"{TRANSFORMER}.safetensors"
    starts = (  # arguments, the module that they cannot do without, exit code, least ratio
        ("recipe ls", "torch", 0, 2.0),
        ("models", "torch", 0, 0.67),
        ("check VIDEOS", "torch", 0, 0.77),
        (f"info {student}", "torch", 0, 0.77),
        (f"info {transformer}", "timm", 0, 0.77),
        (f"predict {nothing} VIDEO", "torch", 4, 0.77),
    )
    for words, module, code, at_least in starts:
        yield Case(
            name=f"start-up, {words}",
            phase="command",
            ours=f"transfer3d {words}",
            baseline=f"python -c 'import {module}'",
            at_least=at_least,
            build=partial(_start, words, module, code, folder, scratch),
        )
    for part, baseline in PARTS.items():
        yield Case(
            name=f"predict {student}, one clip of a video",
            phase="command",
            ours="transfer3d predict --clips 1, fp32",
            baseline=baseline,
            at_least=0.67 if part == "forward" else None,
            build=partial(_predict, part, folder, scratch),
        )


def _start(
    words: str, module: str, code: int, folder: Path | None, scratch: Path, device: torch.device
) -> Comparison:
    videos = bench_videos(folder, scratch / "videos")
    paths = {"VIDEOS": str(folder or scratch / "videos"), "VIDEO": str(videos[0])}
    arguments = [paths.get(word, word) for word in words.split()]
    if arguments[0] == "info":
        arguments[1] = str(_checkpoint(scratch, arguments[1]))
    return Comparison(
        ours=Command("-m", "transfer3d", *arguments, code=code), baseline=Command("-c", f"import {module}")
    )


def _predict(part: str, folder: Path | None, scratch: Path, device: torch.device) -> Comparison:
    inputs = (
        str(_checkpoint(scratch, f"{STUDENT}.safetensors")),
        str(bench_videos(folder, scratch / "videos")[0]),
    )
    options = ("--clips", "1", "--precision", "fp32")
    return Comparison(
        ours=Command("-m", "transfer3d", "predict", *inputs, *options),
        baseline=Command(str(baseline_file("predict_plain")), *inputs, "--until", part),
    )


def _checkpoint(scratch: Path, name: str) -> Path:
    """Returns a student with random weights, written once."""
    path = scratch / name
    if not path.exists():
        save(create_model(path.stem, num_classes=CLASSES), path)
    return path
