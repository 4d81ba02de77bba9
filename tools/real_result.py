"""The result on real videos: what a student gains from real image weights, for any folder of classes.

    python tools/real_result.py my_videos/ --weights lite0.safetensors
    python tools/real_result.py my_videos/ --weights resnet18.pth --set teacher=resnet18 --set family=p3d

Five rows: students from scratch, inflated, taught by correspondence on videos without labels, both, and the
image model itself with a linear classifier on its features. Every row chooses its rate (or penalty) among as
many on validation, with the first seed. The same command continues an interrupted run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import ValidationError
from real.intervals import bootstrap
from real.splits import open_splits
from real.work import FRAMES, ROWS, Setting, Work
from result.store import Store
from rich.console import Console
from script import run_script

import transfer3d
from transfer3d import UsageError

Records = Sequence[Mapping[str, Any]]


def main(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder of classes, or of splits of them.")],
    weights: Annotated[Path, typer.Option(help="The teacher's weights, a file that timm loads.")],
    unlabelled: Annotated[
        str | None, typer.Option(metavar="DIR", help="For correspondence. Default: the training videos.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of students and result.")] = Path(
        "runs/real-result"
    ),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    workers: Annotated[int, typer.Option(min=0, help="Decoding processes.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of the setting.")] = None,
) -> None:
    """Compare students from scratch, inflated, taught, both, and the image model itself."""
    console, setting = Console(stderr=True), _setting(set_ or [])
    sets = open_splits(data)
    free = (
        sets["train"]
        if unlabelled is None
        else transfer3d.open_videos(unlabelled, split=None, labelled=False)
    )
    work = Work(out, setting, weights, sets["train"], sets["val"], sets["test"], free, workers)
    digests = {name: videos.digest for name, videos in {**sets, "unlabelled": free}.items()}
    out.mkdir(parents=True, exist_ok=True)
    shared = {"setting": setting.model_dump(mode="json"), "weights": weights.name, "data": digests}
    store = Store(out / "result.json", shared)
    console.print(
        f"{', '.join(f'{len(videos)} {name}' for name, videos in sets.items())}, {len(free)} without labels; "
        f"about {_hours(work, seeds):.1f} h of training",
        highlight=False,
    )
    for row in ROWS:
        for choice in work.choices(row):
            _add(store, console, work, row, f"{row}, {choice:g}", 0, choice, "val")
    for seed in range(seeds):
        for row in ROWS:
            _add(store, console, work, row, row, seed, chosen(store.records, work, row), "test")
    table = markdown(store.records, sets["test"].sources, seeds)
    (out / "table.md").write_text(table, encoding="utf-8")
    console.print(table, highlight=False, soft_wrap=True)


def chosen(records: Records, work: Work, row: str) -> float:
    """Returns the choice of a row that is best on validation, of equals the first."""
    scores = {
        r["choice"]: r["top1"] for r in records if r["row"] in {f"{row}, {c:g}" for c in work.choices(row)}
    }
    return max(work.choices(row), key=lambda choice: scores[choice])


def markdown(records: Records, sources: Sequence[str], seeds: int) -> str:
    """Returns the table: accuracy, and its difference from scratch on the same videos and seeds."""
    correct = {
        row: np.array([r["correct"] for r in records if r["row"] == row and r["seed"] < seeds], dtype=float)
        for row in ROWS
    }
    choices = {r["row"]: r["choice"] for r in records}
    lines = [
        f"Top-1 in % of {len(sources)} test videos, over {seeds} seeds [95 % bootstrap interval over source "
        "videos and seeds]; videos needed: test videos from which the interval of such a difference would "
        "exclude zero; learning rate (of the frame baseline: penalty) chosen on validation.",
        "",
        "| row | top-1 | against scratch (paired) | videos needed | chosen |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, values_SN in correct.items():
        gain, needed = "", None
        if row != "scratch":
            interval = bootstrap(values_SN - correct["scratch"], sources)
            gain, needed = interval.text(signed=True), interval.videos_needed(len(sources))
        lines.append(
            f"| {row} | {bootstrap(values_SN, sources).text()} | {gain} | {needed or ''} | {choices[row]:g} |"
        )
    return "\n".join(lines) + "\n"


def _setting(changes: Sequence[str]) -> Setting:
    pairs: dict[str, Any] = {key: value for key, _, value in (change.partition("=") for change in changes)}
    for key in {"rates", "penalties", "transfer_rates"} & pairs.keys():
        pairs[key] = pairs[key].split(",")
    try:
        return Setting.model_validate(pairs)
    except ValidationError as error:
        raise UsageError(f"--set: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.") from None


def _add(
    store: Store, console: Console, work: Work, row: str, name: str, seed: int, choice: float, split: Any
) -> None:
    if store.holds(name, seed, {"choice": choice}):
        return
    record = work.record(row, seed, choice, split)
    store.add({"row": name, **record})
    said = f"{name}, seed {seed}, {split}: {record['top1']:.1%} in {record['seconds']:.0f} s"
    console.print(said, highlight=False)


def _hours(work: Work, seeds: int) -> float:
    setting, students = work.setting, [row for row in ROWS if row != FRAMES]
    runs = len(students) * (len(setting.rates) + seeds) * setting.finetune_steps
    taught = sum("correspondence" in row for row in students) * seeds * setting.transfer_steps
    return (runs + taught) * work.step_seconds() / 3600


if __name__ == "__main__":
    run_script(main)
