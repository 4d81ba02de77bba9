"""How fast correspondence learns: losses, optimisers, banks and teacher frames, by steps and by seconds.

    python tools/correspondence_curves.py my_videos/ --teacher resnet18 --weights resnet18.safetensors

A student from random weights is taught without labels. Each row is one way of it; every seed has its own
weights, order and held-out videos. The same command continues an interrupted run; the folder ends with a
table and a picture.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from result.store import Store
from rich.console import Console
from script import run_script

import transfer3d
from transfer3d import Correspondence, CorrespondenceConfig, FrozenTeacher, Trainer, TrainerConfig
from transfer3d.data import VideoDataset, VideoSet, collate_clips, split_off
from transfer3d.files import atomic_path
from transfer3d.insight.pictures import figures
from transfer3d.models.image import create_image_model
from transfer3d.objectives.objective import Embeddings

STUDENT, FRAMES, BATCH, HELD_OUT = "p3d_tiny", 8, 16, 0.2
TOGETHER = 32
"""Held-out videos among which a clip's own frames are to be found."""
ADAMW, SGD = ("adamw", 1e-3), ("sgd", 0.03)
ROWS: dict[str, tuple[tuple[str, float], dict[str, Any]]] = {
    "match": (ADAMW, {}),
    "match, SGD": (SGD, {}),
    "match, bank of 256": (ADAMW, {"bank": 256}),
    "match, standardised": (ADAMW, {"standardise": True}),
    "infonce": (ADAMW, {"match": 0, "infonce": 1}),
    "infonce, SGD": (SGD, {"match": 0, "infonce": 1}),
    "infonce, bank of 512": (ADAMW, {"match": 0, "infonce": 1, "bank": 512}),
    "feature": (ADAMW, {"match": 0, "feature": 1}),
    "feature, SGD": (SGD, {"match": 0, "feature": 1}),
    "match, teacher sees 4 frames": (ADAMW, {"teacher_frames": 4}),
    "match, teacher sees 2 frames": (ADAMW, {"teacher_frames": 2}),
    "match, teacher sees 1 frame": (ADAMW, {"teacher_frames": 1}),
}
"""Optimiser with its rate, and what differs from matching with every frame."""
KINDS = ("match", "infonce", "feature")


def main(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Videos; labels are not read.")],
    teacher: Annotated[str, typer.Option(help="timm model.")],
    weights: Annotated[Path, typer.Option(help="Its weights, a file that timm loads.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the result.")] = Path("runs/curves"),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    steps: Annotated[int, typer.Option(min=9, help=f"Of {BATCH} clips.")] = 120,
    size: Annotated[int, typer.Option(min=16, help="Pixels of a clip.")] = 48,
) -> None:
    """Compare how fast, and how well on other videos, each way of correspondence learns."""
    console = Console(stderr=True)
    videos = transfer3d.open_videos(data, split=None, labelled=False)
    network = create_image_model(teacher, str(weights))
    shared = {"steps": steps, "size": size, "teacher": teacher, "data": videos.digest}
    out.mkdir(parents=True, exist_ok=True)
    store = Store(out / "result.json", shared)
    for seed in range(seeds):
        taught, held = split_off(videos, HELD_OUT, seed=seed)
        for row in ROWS:
            if not store.holds(row, seed, {}):
                objective = learn(FrozenTeacher(network), taught, row, seed=seed, steps=steps, size=size)
                found = {"curve": objective.curve, **objective.judge(held)}
                store.add({"row": row, "seed": seed, **found})
                console.print(f"seed {seed}, {row}: {found['curve'][-1][1]:.0f} s", highlight=False)
    table = markdown(store.records)
    (out / "table.md").write_text(table, encoding="utf-8")
    with atomic_path(out / "curves.png") as partial:
        partial.write_bytes(picture(store.records))
    print(table)


class Observed(Correspondence):
    """Correspondence that notes processor seconds and loss of each step.

    Attributes:
        curve: [step, seconds since the first step, loss].
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.curve: list[list[float]] = []
        self._started = time.process_time()

    def forward(
        self, batch: transfer3d.ClipBatch, earlier: Embeddings | None = None
    ) -> transfer3d.LossReport:
        """Adds a point to the curve of training."""
        report = super().forward(batch, earlier)
        if self.training:
            seconds = time.process_time() - self._started
            self.curve.append([len(self.curve) + 1, round(seconds, 3), float(report.total.detach())])
        return report

    @torch.no_grad()
    def judge(self, held: VideoSet) -> dict[str, float]:
        """Returns the means of the metrics over groups of held-out videos, each seen at its middle."""
        dataset, self.bank = VideoDataset(held, self.clip), None
        self.eval()
        found, together = list[dict[str, float]](), min(TOGETHER, len(held))
        for first in range(0, len(held) - together + 1, together):
            batch = collate_clips([dataset[index] for index in range(first, first + together)])
            found.append({name: float(value) for name, value in self(batch).parts.items()})
        names = ("loss", "balanced_accuracy", "recall_at_1", "recall_at_5")
        return {name: float(np.mean([each[name] for each in found])) for name in names if name in found[0]}


def learn(
    teacher: FrozenTeacher, videos: VideoSet, row: str, *, seed: int, steps: int, size: int
) -> Observed:
    """Teaches a new student in the way of a row."""
    (name, rate), changes = ROWS[row]
    student = transfer3d.create_model(STUDENT, 0, seed=seed)
    student.clip = replace(student.clip, frames=FRAMES, size=size, crop=round(size * 8 / 7))
    objective = Observed(teacher, student, CorrespondenceConfig(**changes), seed=seed)
    settings = {
        "steps": steps, "lr": rate, "seed": seed, "batch_size": BATCH, "workers": 0,
        "optimizer": {"name": name}, "schedule": {"kind": "cosine", "warmup": 0.1},
    }  # fmt: skip
    Trainer(objective, videos, TrainerConfig.model_validate(settings)).run()
    return objective


def markdown(records: list[dict[str, Any]]) -> str:
    """Returns the table: mean over seeds, ± the standard deviation where there are several."""
    lines = [
        "| loss | first third | second | last | CPU s | held out: loss | accuracy | recall@1 | recall@5 |",
        "| --- " * 9 + "|",
    ]
    for row in dict.fromkeys(record["row"] for record in records):
        mine = [record for record in records if record["row"] == row]
        losses_ST = np.array([[point[2] for point in record["curve"]] for record in mine])
        cells = [_text(third.mean(1), "{:.2f}") for third in np.array_split(losses_ST, 3, axis=1)]
        cells.append(_text(np.array([record["curve"][-1][1] for record in mine]), "{:.0f}"))
        cells.append(_text(np.array([record["loss"] for record in mine]), "{:.2f}"))
        for name in ("balanced_accuracy", "recall_at_1", "recall_at_5"):
            shares = [100 * record[name] for record in mine if name in record]
            cells.append(_text(np.array(shares), "{:.0f}"))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _text(values_S: np.ndarray, form: str) -> str:
    if not len(values_S):
        return ""
    mean = form.format(values_S.mean())
    return mean if len(values_S) == 1 else f"{mean} ± {form.format(values_S.std(ddof=1))}"


def picture(records: list[dict[str, Any]]) -> bytes:
    """Draws the mean loss of each row against steps, and against processor seconds, as PNG."""
    figure = figures.new_figure(9, 9)
    panels = figure.subplots(len(KINDS), 2, sharey="row")
    for (left, right), kind in zip(panels, KINDS, strict=True):
        rows = dict.fromkeys(r["row"] for r in records if r["row"].split(",")[0] == kind)
        for number, row in enumerate(rows):
            curves_STF = np.array([record["curve"] for record in records if record["row"] == row])
            steps_T, seconds_T, losses_T = curves_STF.mean(0).T
            width = min(10, len(losses_T))
            smooth = np.convolve(losses_T, np.ones(width) / width, "valid")
            style = {
                "color": figures.COLOURS[number % len(figures.COLOURS)],
                "linestyle": figures.DASHES[number % len(figures.DASHES)],
            }
            left.plot(steps_T[width - 1 :], smooth, label=row, **style)
            right.plot(seconds_T[width - 1 :], smooth, label=row, **style)
        left.set_ylabel("loss")
        left.legend(fontsize=7)
    panels[-1][0].set_xlabel("steps")
    panels[-1][1].set_xlabel("processor seconds")
    return figures.to_png(figure)


if __name__ == "__main__":
    run_script(main)
