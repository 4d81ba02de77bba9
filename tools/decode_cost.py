"""What decoding in a child costs: the same prediction with a child and in one process, in turns.

    python tools/decode_cost.py p3d_tiny --videos 100 --pairs 5

The videos are made: two seconds of 320x240, H.264, a key frame every 12. Each is classified by the clip at
its centre. Seconds of the processor, of all processes of the prediction, are compared: those of the clock
depend on what else the machine does, and a child decodes while the network computes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import numpy as np
import psutil
import torch
import typer

import transfer3d
from transfer3d.data.transcode import encode_frames
from transfer3d.models.student import VideoStudent

FPS, FRAMES, HEIGHT, WIDTH = 25, 50, 240, 320
PLACES = ("transfer3d.data.decoder.may_have_children", "transfer3d.data.isolated.may_have_children")


def main(
    student: Annotated[str, typer.Argument(help="A registered name.")],
    videos: Annotated[int, typer.Option(help="In a prediction, one clip of each.")] = 100,
    pairs: Annotated[int, typer.Option(help="Of predictions, with a child and without.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the pictures and the weights.")] = 0,
) -> None:
    """Print the processor's seconds of both ways, and what the child adds."""
    torch.set_num_threads(1)
    network = transfer3d.create_model(student, num_classes=10, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        files = write_videos(Path(folder), videos, seed)
        predict(network, files[:1], in_child=True)  # starts the server that children are forked from
        rows = []
        for number in range(pairs):
            order = (True, False) if number % 2 else (False, True)
            costs = {in_child: predict(network, files, in_child=in_child) for in_child in order}
            rows.append((costs[True], costs[False]))
            print(" ".join(f"{cpu:.2f} s ({wall:.2f} s by the clock)" for cpu, wall in rows[-1]), flush=True)
    added = statistics.median(child[0] / here[0] - 1 for child, here in rows)
    child, here = (statistics.median(row[way][0] for row in rows) for way in (0, 1))
    medians = f"{child:.2f} s with a child, {here:.2f} s without"
    print(f"{student}: {videos} clips, {pairs} pairs: {medians}: {added:+.1%}")


def write_videos(folder: Path, count: int, seed: int) -> list[Path]:
    """Writes videos of smooth noise, all of the same bytes."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (FRAMES, HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8)
    frames = small.repeat(20, axis=1).repeat(20, axis=2)
    content, _ = encode_frames(iter(frames), [number / FPS for number in range(FRAMES)], gop=12)
    files = [folder / f"{number:04d}.mp4" for number in range(count)]
    for file in files:
        file.write_bytes(content)
    return files


def predict(network: VideoStudent, files: list[Path], *, in_child: bool) -> tuple[float, float]:
    """Returns the seconds of a prediction, by the processor and by the clock."""
    with patch(PLACES[0], lambda: in_child), patch(PLACES[1], lambda: in_child):
        before, started = cpu_seconds(), time.perf_counter()
        transfer3d.predict(network, files, clips=1, precision="fp32")
        return cpu_seconds() - before, time.perf_counter() - started


def cpu_seconds() -> float:
    """Returns what this process and those that it started, ended ones too, have computed."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


if __name__ == "__main__":
    typer.run(main)
