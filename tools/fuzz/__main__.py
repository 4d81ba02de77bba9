"""`python -m fuzz`: see `fuzz`."""

from __future__ import annotations

import json
import secrets
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from fuzz import CRAFTED, TARGETS
from fuzz.crafted import crafted
from fuzz.outcome import Target
from fuzz.runner import Tally, Worker, fuzz, keep, try_all
from fuzz.table import record, with_table
from transfer3d.files import write_text

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"
RESULTS = ROOT / "docs" / "results" / "fuzz.json"


def main(
    targets: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(TARGETS)}, {CRAFTED}.")] = None,
    minutes: Annotated[
        float, typer.Option(help="In all, in equal parts; crafted files are all tried.")
    ] = 10.0,
    seed: Annotated[
        int | None, typer.Option(help="Of the first round; by default another each time.")
    ] = None,
    corpus: Annotated[Path, typer.Option(help="Where files that are wrong are kept.")] = CORPUS,
    table: Annotated[Path | None, typer.Option(help="Write the results to this page's table.")] = None,
) -> None:
    """Try damaged and hostile files; ends with 1 when one is wrong."""
    chosen = targets or list(TARGETS)
    if unknown := set(chosen) - {*TARGETS, CRAFTED}:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose of {', '.join(TARGETS)}, {CRAFTED}")
    first, is_right = secrets.randbits(32) if seed is None else seed, True
    for name in chosen:
        print(f"{name}: seed {first}", flush=True)
        target, tally = _run(name, first, minutes / len(chosen))
        is_right &= not tally.faults
        counts = ", ".join(f"{tally.verdicts[verdict]} {verdict}" for verdict in ("read", "refused", "wrong"))
        print(f"  {tally.tries} files: {counts}; {dict(tally.notes)}", flush=True)
        kept = keep(tally, corpus / name, target.suffix)
        for (outcome, _), path in zip(tally.faults.values(), kept, strict=True):
            print(f"  {outcome.detail[:300]}\n    {path}", flush=True)
        if table is not None:
            timed = "" if name == CRAFTED else f" --seed {first} --minutes {minutes / len(chosen):g}"
            attack = "checkpoints made by hand; info, export, predict" if name == CRAFTED else target.attack
            record(RESULTS, name, attack, tally, f"python -m fuzz {name}{timed}")
            rows = json.loads(RESULTS.read_text(encoding="utf-8"))
            write_text(table, with_table(table.read_text(encoding="utf-8"), rows))
    raise typer.Exit(0 if is_right else 1)


def _run(name: str, seed: int, minutes: float) -> tuple[Target, Tally]:
    module = "fuzz.checkpoints" if name == CRAFTED else f"fuzz.{name}"
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        target = import_module(module).Files(Path(folder))
        worker = Worker(module, Path(folder))
        try:
            if name == CRAFTED:
                return target, try_all(
                    worker, (content for _, content in crafted(target.example.read_bytes()))
                )
            return target, fuzz(target, worker, first_seed=seed, seconds=60 * minutes)
        finally:
            worker.close()


if __name__ == "__main__":
    typer.run(main)
