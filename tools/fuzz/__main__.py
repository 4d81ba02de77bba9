"""`python -m fuzz`: see `fuzz`."""

from __future__ import annotations

import secrets
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from fuzz import TARGETS
from fuzz.runner import Tally, Worker, fuzz, keep

CORPUS = Path(__file__).parents[2] / "tests" / "corpus"


def main(
    targets: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(TARGETS)}; all.")] = None,
    minutes: Annotated[float, typer.Option(help="In all, in equal parts.")] = 10.0,
    seed: Annotated[
        int | None, typer.Option(help="Of the first round; by default another each time.")
    ] = None,
    corpus: Annotated[Path, typer.Option(help="Where files that are wrong are kept.")] = CORPUS,
) -> None:
    """Try damaged and hostile files; ends with 1 when one is wrong."""
    chosen = targets or list(TARGETS)
    first = secrets.randbits(32) if seed is None else seed
    tallies: dict[str, Tally] = {}
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            module = f"fuzz.{name}"
            target, worker = import_module(module).Files(Path(folder)), Worker(module, Path(folder))
            try:
                tally = fuzz(target, worker, first_seed=first, seconds=60 * minutes / len(chosen))
            finally:
                worker.close()
        tallies[name] = tally
        counts = ", ".join(f"{tally.verdicts[v]} {v}" for v in ("read", "refused", "wrong"))
        print(f"{name}: seed {first}, {tally.tries} files: {counts}", flush=True)
        for (outcome, _), path in zip(
            tally.faults.values(), keep(tally, corpus / name, target.suffix), strict=True
        ):
            print(f"  {outcome.detail[:300]}\n    {path}", flush=True)
    if any(tally.faults for tally in tallies.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
