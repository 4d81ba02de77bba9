"""The result: what a student gains from a frozen image model, on the built-in dataset, over paired seeds.

    python tools/transfer_result.py                # five rows, eight seeds
    python tools/transfer_result.py --quick        # the same, shorter and with two seeds
    python tools/transfer_result.py --full         # and all objectives, pairs, the label curve, the shortcut
    python tools/transfer_result.py --tune         # learning rates and steps, on the validation split

The same command continues an interrupted run: what is in `result.json` is not run again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from result.schedule import Job, run_jobs
from result.setting import MAIN, QUICK, STUDIES, Row, Setting, finetune_recipe, transfer_recipe
from result.store import Store
from result.tables import markdown, write_curve, write_page
from result.tuning import GRID, SEEDS, TUNED, chosen_for, read_tuned, tuning_name
from result.work import Place
from rich.console import Console
from script import run_script

from transfer3d import UsageError
from transfer3d.files import write_text
from transfer3d.recipes import dump

FULL_SEEDS = 3
PAGE = Path(__file__).parents[1] / "docs" / "figures.md"


def main(
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of data, weights and result.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter, with two seeds: minutes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="All studies, with three seeds each: hours.")] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose learning rates and steps, and nothing else.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Of the main rows. Default: 8, or 2 with --quick.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Side by side. Default: one for each core.")
    ] = None,
    only: Annotated[str, typer.Option(help="Only rows whose name contains this.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of the setting.")] = None,
    page: Annotated[bool, typer.Option("--page", help="Put the tables into docs/figures.md.")] = False,
) -> None:
    """Compare students from scratch, with correspondence, inflated, with both, and the teacher itself."""
    console = Console(stderr=True)
    setting = _setting(QUICK if quick else Setting(), set_ or [])
    place = Place((out or Path("runs", f"transfer-result{'-quick' if quick else ''}")).resolve(), setting)
    processes = processes or len(os.sched_getaffinity(0))
    if tune:
        store = Store(place.folder / "tuning.json", {"setting": setting.model_dump()})
        run_jobs(place, _tuning_jobs(), store, processes=processes, console=console)
        write_text(TUNED, (place.folder / "tuning.json").read_text(encoding="utf-8"))
        return
    shared = _shared(setting)
    rows = [
        *((row, seeds or (2 if quick else 8)) for row in MAIN),
        # A row with as many labels as all have is a main one.
        *((row, FULL_SEEDS) for row in STUDIES if full and row.labels != setting.labels),
    ]
    jobs = _jobs([(row, count) for row, count in rows if only in row.name], setting)
    if not jobs:
        raise UsageError(f"--only: no row has '{only}' in its name; --full has more rows.")
    store = Store(place.folder / "result.json", shared)
    run_jobs(place, jobs, store, processes=processes, console=console)
    table = markdown(shared, store.records)
    write_text(place.folder / "table.md", table)
    drawn = write_curve(store.records, place.folder / "label_curve.png")
    if page:
        write_page(PAGE, table)
    console.print(table, highlight=False, soft_wrap=True)
    console.print(
        f"{place.folder / 'result.json'}, table.md{', label_curve.png' if drawn else ''}", highlight=False
    )


def _setting(base: Setting, changes: list[str]) -> Setting:
    pairs = {key: value for key, _, value in (change.partition("=") for change in changes)}
    try:
        setting = Setting.model_validate({**base.model_dump(), **pairs})
    except ValidationError as error:
        raise UsageError(f"--set: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.") from None
    if setting.labels > setting.train:
        raise UsageError(f"--set labels={setting.labels}: there are train={setting.train} videos of a class.")
    return setting


def _shared(setting: Setting) -> dict[str, object]:
    """Returns what all records share; a file with other values is not continued."""
    recipes = {
        "transfer": dump(transfer_recipe(setting, "match", 0)),
        "finetune": dump(finetune_recipe(0, {"lr": 1.0, "max_steps": 1})),
    }
    return {"setting": setting.model_dump(), "recipes": recipes}


def _jobs(rows: list[tuple[Row, int]], setting: Setting) -> list[Job]:
    """Returns the jobs, seed by seed: an interrupted run has complete pairs."""
    tuned = read_tuned()
    most = max((count for _, count in rows), default=0)
    return [
        Job(row, seed, chosen_for(row, tuned, setting.finetune_steps), row.name)
        for seed in range(most)
        for row, count in rows
        if seed < count
    ]


def _tuning_jobs() -> list[Job]:
    return [
        Job(row, seed, candidate._asdict(), tuning_name(row, candidate), "val")
        for seed in SEEDS
        for candidate in GRID
        for row in MAIN
    ]


if __name__ == "__main__":
    run_script(main)
