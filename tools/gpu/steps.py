"""Prints the training steps of one student on a device as JSON: times, shares of roofline and peak, memory.

python -m gpu.steps p3d63 32
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import torch
import typer

from transfer3d.bench.case import Result, run_cases
from transfer3d.bench.gpu import WAYS, gpu_cases
from transfer3d.bench.roofline import PRODUCT, TERA, Rates, measure_rates

Small = Annotated[bool, typer.Option(help="Small products and copies, and nothing compiled.")]


def main(name: str, batch: int, device: str = "cuda", pairs: int = 5, small: Small = False) -> None:
    """Measures one way after another, and prints what is finished so far after each."""
    where, rows = torch.device(device), list[dict[str, Any]]()
    sizes = {"product": 256, "copy_bytes": 1 << 20} if small else {"product": PRODUCT}
    rates = measure_rates(where, **sizes)
    ways = {way: how for way, how in WAYS.items() if not (small and how[1])}
    for result in run_cases(gpu_cases({name: batch}, ways, rates), where, pairs=pairs):
        rows.append(_row(result, rates))
        found = {"tflops": rates.flops / TERA, "tbytes": rates.bytes / TERA, "steps": rows}
        print(json.dumps(found), flush=True)


def _row(result: Result, rates: Rates) -> dict[str, Any]:
    row = asdict(result)
    kept = {name: row[name] for name in ("name", "ours", "ours_ms", "ours_mib", "spread", "skipped")}
    tflops = result.per_second.get("TFLOP", (0.0, 0.0))[0]
    return {**kept, "share_of_roofline": result.ratio, "share_of_peak": tflops * TERA / rates.flops}


if __name__ == "__main__":
    sys.exit(typer.run(main))
