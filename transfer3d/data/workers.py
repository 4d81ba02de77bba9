"""Worker processes that make batches, in order, by torch's DataLoader."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from transfer3d.data.batch import ClipId
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, SetupError

Item = TypeVar("Item")
Made = tuple[Item, dict[str, str]]  # a batch, and by key why videos that it should have held did not decode


class Maker(ABC, Generic[Item]):
    """Makes a batch from its plan.

    Attributes:
        videos: that the draws are numbers of.
    """

    videos: VideoSet
    _places: torch.Tensor | None = None

    @abstractmethod
    def make(self, draws: list[ClipId]) -> Made[Item]:
        """Makes one batch."""

    def now_at(self, index: int) -> None:
        """Notes the current video in shared memory, so that an error can name it if the worker dies."""
        worker = get_worker_info()
        if worker is not None and self._places is not None:
            self._places[worker.id] = index

    def watch(self, workers: int) -> torch.Tensor:
        """Returns the notes: the number of the video at hand, by worker."""
        self._places = torch.full((workers,), -1).share_memory_()
        return self._places


class _Batches(Dataset[Made[Item] | DataError | SetupError]):
    """Lets DataLoader fetch whole batches; an error travels as a value: raised it would lose its type."""

    def __init__(self, maker: Maker[Item]) -> None:
        self._maker = maker

    def __getitems__(self, draws: list[ClipId]) -> Made[Item] | DataError | SetupError:
        try:
            return self._maker.make(draws)
        except DataError as error:
            return DataError(str(error))
        except SetupError as error:
            return error


def run_workers(maker: Maker[Item], plan: Iterable[list[ClipId]], workers: int) -> Iterator[Made[Item]]:
    """Yields what `maker` makes of each list of draws, in order.

    Raises:
        DataError: as the maker raises it, here or in a worker.
        SetupError: a worker died, and the videos at hand are named; or a server does not answer.
    """
    notes = maker.watch(workers)
    answers = iter(
        DataLoader(
            _Batches(maker),
            batch_sampler=plan,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker,
            # The loader draws a seed for its workers; not from the global generator, which is the training's.
            generator=torch.Generator(),
        )
    )
    try:
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                keys = ", ".join(str(maker.videos.keys[i]) for i in notes.tolist() if i >= 0)
                message = f"a data worker died at one of: {keys}. Look at memory and at these videos."
                raise SetupError(message) from error
            if isinstance(answer, DataError | SetupError):
                raise answer
            yield answer
    finally:
        # Ends the workers now: an exception's traceback would hold them for as long as it is looked at.
        del answers


def _as_it_is(answer: Any) -> Any:
    return answer


def _start_worker(_: int) -> None:
    # Ctrl-C, and the SIGTERM that SLURM sends to every process, are for the parent to handle: it finishes its
    # step, and ends its workers itself. They notice, too, when it is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
