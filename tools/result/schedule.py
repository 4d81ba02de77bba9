"""Runs rows and seeds side by side: first all teachers, then all correspondence, then all fine-tuning."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import torch
from rich.console import Console

from result.setting import Row
from result.store import Store
from result.work import Place, finetune, teach, transfer
from transfer3d.data import synthesise
from transfer3d.progress import track

Work = tuple[Callable[..., Any], tuple[Any, ...]]
Run = Callable[[Sequence[Work], str], Iterator[Any]]


@dataclass(frozen=True)
class Job:
    """One record to make.

    Attributes:
        row: what is trained.
        seed: of everything random.
        chosen: `lr` and `max_steps`.
        name: of the record; one name and seed are counted once.
        split: that is tested on.
    """

    row: Row
    seed: int
    chosen: dict[str, Any]
    name: str
    split: str = "test"


def run_jobs(place: Place, jobs: Sequence[Job], store: Store, *, processes: int, console: Console) -> None:
    """Fills the store with the records of all jobs that it does not hold.

    Args:
        place: of data, teachers and students, which are made where they are missing.
        jobs: in the order of the records.
        store: written after each job.
        processes: side by side, with one share of the cores each; 1 works in this one.
        console: for progress.
    """
    missing = [job for job in jobs if not store.holds(job.name, job.seed, job.chosen)]
    for row in {job.row.background: job.row for job in missing}.values():
        synthesise(place.data(row), place.synth(row), console)
    teachers = {
        place.image_network(job.row, digits, job.seed): (place, job.row, digits, job.seed)
        for job in missing
        for digits in sorted(job.row.image_networks)
    }
    students = {
        place.taught(job.row, job.seed): (place, job.row, job.seed) for job in missing if job.row.transfer
    }
    with _side_by_side(processes, console) as run:
        for _ in run([(teach, arguments) for arguments in teachers.values()], "teachers"):
            pass
        for _ in run([(transfer, arguments) for arguments in students.values()], "correspondence"):
            pass
        for record in run([(_record, (place, job)) for job in missing], "fine-tuning"):
            store.add(record)


def _record(place: Place, job: Job) -> dict[str, Any]:
    record = finetune(place, job.row, job.seed, job.chosen, job.split)
    return {**record, "row": job.name, "tuned_row": job.row.tuned_as}


def _begin_process(threads: int) -> None:
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, even if killed: nobody would read the results."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _side_by_side(processes: int, console: Console) -> Iterator[Run]:
    """Yields a function that runs work in any order and yields results as they come."""
    if processes == 1:
        yield lambda work, title: track(
            (function(*arguments) for function, arguments in work), title, len(work), console=console
        )
        return
    threads = max(len(os.sched_getaffinity(0)) // processes, 1)
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_begin_process,
        initargs=(threads,),
    )

    def run(work: Sequence[Work], title: str) -> Iterator[Any]:
        futures = [pool.submit(function, *arguments) for function, arguments in work]
        done = (future.result() for future in as_completed(futures))
        return track(done, title, len(work), console=console)

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)
