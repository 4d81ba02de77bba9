"""Packs a dataset into shards, with as many processes as `accelerate launch` started."""

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
    """The result of `shard`.

    Attributes:
        layout: layout of the dataset.
        official: number of listed videos, by split.
        packed: number of videos in the shards, by split.
        classes: number of classes.
        suffixes: number of videos in the shards, by file suffix.
        missing: videos that are listed but not found.
        bad: names of videos that cannot be decoded, with reasons.
        extra: files that are not listed.
        finished_before: whether the shards were complete already.
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
    """Writes the shards; returns the report on the main process, None on the others.

    Args:
        request: the location of the dataset.
        out: folder of the shards: new, or of an unfinished run of the same command.
        config: settings of the shards.
        layout: one of `LAYOUTS`, or "auto".
        classes: classes to keep; None = all.
        workers: number of decoding processes per process.
        limits: for each video.
        console: for progress.

    Raises:
        SetupError: optical flow without the `flow` extra.
    """
    if config.flow is not None and config.flow.algorithm != "files":
        import_opencv()  # fails now rather than after hours of work
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
