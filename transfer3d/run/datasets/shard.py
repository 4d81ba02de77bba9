"""Packs a dataset into shards, on as many processes as `accelerate launch` started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Listing, Request, keep_classes
from transfer3d.data.flow import import_opencv
from transfer3d.data.isolated import Limits
from transfer3d.data.sharding import (
    ShardConfig,
    claim_folder,
    lock_folder,
    lock_rank,
    plan_shards,
    publish,
    wait_for_parts,
    write_planned,
)
from transfer3d.data.shards import FolderStore, read_index
from transfer3d.data.videoset import Dropped
from transfer3d.engine.distributed import make_accelerator, on_main, watched_processes
from transfer3d.files import write_text
from transfer3d.progress import progress
from transfer3d.run.datasets.left_out import left_out_csv
from transfer3d.scratch import remove_abandoned

REPORT = "left_out.csv"


@dataclass(frozen=True)
class ShardReport:
    """What `shard` made.

    Attributes:
        layout: that the dataset has.
        official: videos listed, by split.
        packed: videos in the shards, by split.
        classes: number of them.
        suffixes: how many videos have which suffix in the shards.
        missing: listed and not there.
        bad: names and reasons of those that do not decode.
        extra: not listed.
        finished_before: nothing was left to do.
    """

    layout: str
    official: dict[str, int]
    packed: dict[str, int]
    classes: int
    suffixes: dict[str, int]
    missing: list[str]
    bad: list[tuple[str, str]]
    extra: list[str]
    finished_before: bool


def shard_dataset(
    request: Request,
    out: Path,
    config: ShardConfig,
    *,
    layout: str,
    classes: Sequence[str] | None,
    workers: int,
    limits: Limits,
    console: Console,
) -> ShardReport | None:
    """Writes the shards; returns what came of it on the main process, None on the others.

    Args:
        request: where the dataset is.
        out: folder of the shards; new, or of the same command that did not finish.
        config: how it is packed.
        layout: one of `LAYOUTS`, or "auto".
        classes: those to keep; None = all.
        workers: decoding children of each process.
        limits: of each video.
        console: for progress.

    Raises:
        SetupError: optical flow without the `flow` extra.
    """
    if config.flow is not None and config.flow.algorithm != "files":
        import_opencv()  # better missed before the work
    layout, listing = read_listing(request, layout)
    if classes is not None:
        listing = keep_classes(listing, classes)
    plan = plan_shards(listing, config)
    remove_abandoned()
    accelerator = make_accelerator("fp32")
    rank, world = accelerator.process_index, accelerator.num_processes
    main = accelerator.is_main_process
    with watched_processes(accelerator), ExitStack() as held:

        def claim() -> bool:
            held.callback(lock_folder(out).close)
            return claim_folder(out, plan)

        finished = on_main(accelerator, claim)
        if not finished:
            if rank:
                held.callback(lock_rank(out, rank).close)
            accelerator.wait_for_everyone()
            mine = sum(len(videos) for _, _, videos in plan.shards[rank::world])
            with progress("sharding", mine, console=console, quiet=not main) as meter:
                write_planned(out, plan, meter, workers=workers, limits=limits, rank=rank, world=world)
            if main:
                wait_for_parts(out, plan, world=world)
                publish(out, plan, source=f"{layout} {request.root.name}")
        report = _report(layout, listing, out, finished) if main else None
    accelerator.end_training()
    return report


def _report(layout: str, listing: Listing, out: Path, finished: bool) -> ShardReport:
    index = read_index(FolderStore(out))
    missing = {entry.name for entry in listing.missing}
    bad = [(path, reason) for path, reason in index.dropped if path not in missing]
    extra = [str(path) for path in listing.extra]
    gone = [Dropped(path, reason) for path, reason in index.dropped]
    write_text(out / REPORT, left_out_csv([*gone, *(Dropped(path, "not listed") for path in extra)]))
    suffixes = Counter(sample.suffix for shard in index.shards for sample in shard.samples)
    return ShardReport(
        layout,
        index.official,
        index.counts,
        len(index.classes),
        dict(suffixes),
        sorted(missing),
        bad,
        extra,
        finished,
    )
