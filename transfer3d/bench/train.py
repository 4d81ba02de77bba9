"""Training and evaluation against hand-written loops, and the time that training waits for data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison, Result, choose_cases, matching, run_cases
from transfer3d.bench.evaluation import evaluation_cases
from transfer3d.bench.paired import Run
from transfer3d.bench.subprocess_runner import in_subprocess_on_cpu
from transfer3d.bench.videos import bench_videos
from transfer3d.data.augment_config import AugmentConfig
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.prepare import TranscodeJob, prepare
from transfer3d.data.shard_writer import Sample, write_index, write_shards
from transfer3d.data.source import open_videos
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import bf16_is_fast, leave_cores_to, make_accelerator
from transfer3d.engine.trainer import Trainer
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.nn.memory_format import to_channels_last
from transfer3d.objectives.classification import Classification

NETWORK, CLASSES = "p3d63", 101
CLIP = ClipSpec(frames=16, stride=2, size=160, crop=160)
CLIPS, STEPS = 4, 3
WAITING = "waiting for data, p3d_resnet50, 8 clips of 16x112x112"
SHARDS_CLIP = ClipSpec(frames=16, stride=2, size=112, crop=128)
SHARDS_CLIPS, WINDOW, WINDOWS, WORKERS = 8, 5, 4, 2
SIDE, GOP = 128, 12


def train_results(
    folder: Path | None, scratch: Path, *, only: str, pairs: int
) -> tuple[torch.device, int, Iterator[Result]]:
    """Prepares the measurements.

    Args:
        folder: with the user's videos; None = generated ones.
        scratch: folder for generated videos and shards.
        only: see `matching`; `waiting` selects the measurement of the waiting time.
        pairs: see `paired_ratio`.

    Returns:
        The device, the number of measurements, and their results one by one.

    Raises:
        UsageError: `only` matches no measurement.
    """
    device = make_accelerator("fp32").device
    every = [*step_cases(), *evaluation_cases(folder, scratch)]
    waits = only.lower() in WAITING.lower()
    cases = matching(every, only) if waits else choose_cases(every, only)

    def results() -> Iterator[Result]:
        yield from run_cases(cases, device, pairs=pairs)
        if waits:
            yield _waiting(folder, scratch)

    return device, len(cases) + waits, results()


def step_cases() -> Iterator[Case]:
    """Yields the cases that compare the trainer with hand-written loops."""
    name = f"finetune, P3D-63, {CLIPS} clips of 16x160x160"
    for baseline, at_least, build in (
        ("plain fp32 code", 2.8, _plain),
        ("a bare loop, same arithmetic", 1 / 1.03, _bare),
    ):
        yield Case(
            name=name,
            phase="step",
            ours="default settings",
            baseline=baseline,
            at_least=at_least,
            build=build,
        )


def _plain(device: torch.device) -> Comparison:
    batch = _batch(device)
    return Comparison(ours=_ours(device), baseline=in_subprocess_on_cpu(device, _plain_by_hand, batch, STEPS))


def _bare(device: torch.device) -> Comparison:
    net = create_model(NETWORK, num_classes=CLASSES)
    to_channels_last(net)
    return Comparison(ours=_ours(device), baseline=_by_hand(_batch(device), STEPS, net, low=bf16_is_fast()))


def _plain_by_hand(batch: ClipBatch, steps: int) -> Run:
    return _by_hand(batch, steps, load_baseline("p3d_plain").PlainP3D63(CLASSES), low=False)


def _by_hand(batch: ClipBatch, steps: int, net: nn.Module, *, low: bool) -> Run:
    """Returns a function that takes `steps` steps of a hand-written loop on one batch."""
    net = net.to(batch.clips.device)
    hand = load_baseline("finetune_plain").HandWritten(net, CLIP.mean, CLIP.std, low)
    return lambda: hand.run(batch.clips, batch.labels, steps)


def _ours(device: torch.device) -> Run:
    """Returns a function that takes `STEPS` steps of the trainer on one batch."""
    student, batch = create_model(NETWORK, num_classes=CLASSES, clip=CLIP), _batch(device)
    trainer = _trainer(Classification(student), lambda _: repeat(batch), STEPS)

    def run() -> None:
        trainer.step = 0
        trainer.run()

    return run


def _batch(device: torch.device) -> ClipBatch:
    """Returns a batch of random clips."""
    generator = torch.Generator().manual_seed(0)
    clips_u8 = torch.randint(0, 256, CLIP.shape(CLIPS), dtype=torch.uint8, generator=generator)
    names = [str(number) for number in range(CLIPS)]
    return ClipBatch(clips_u8.to(device), torch.arange(CLIPS).to(device), names, names)


def _trainer(
    objective: Classification, batches: Callable[[int], Iterable[ClipBatch]], steps: int, **options: Any
) -> Trainer:
    """Builds a trainer with the default settings of `finetune` that writes no files."""
    return Trainer(
        objective,
        batches,
        TrainerConfig(steps=steps, lr=1e-4, log_every=WINDOW),
        accelerator=make_accelerator("bf16" if bf16_is_fast() else "fp32"),
        **options,
    )


def _waiting(folder: Path | None, scratch: Path) -> Result:
    """Trains on shards of small videos; the ratio is the share of time not spent waiting for a batch.

    The first window, in which the workers start up, is excluded.

    Args:
        folder: with the user's videos; None = generated ones.
        scratch: folder for generated videos and shards.
    """
    videos = _small_shards(bench_videos(folder, scratch), scratch / "shards")
    objective = Classification(
        create_model("p3d_resnet50", num_classes=len(videos.classes), clip=SHARDS_CLIP)
    )
    steps = WINDOW * (WINDOWS + 1)

    def batches(_: int) -> Iterable[ClipBatch]:
        options: dict[str, Any] = {"batch_size": SHARDS_CLIPS, "steps": steps, "seed": 0}
        return clip_batches(videos, SHARDS_CLIP, augment=AugmentConfig(), workers=WORKERS, **options)

    rows = _Rows()
    threads = torch.get_num_threads()
    leave_cores_to(WORKERS)
    try:
        _trainer(objective, batches, steps, tracker=rows).run()
    finally:
        torch.set_num_threads(threads)
    measured = rows.rows[1:]
    step_ms = sum(1000 * SHARDS_CLIPS / row["train/clips_per_second"] for row in measured) / len(measured)
    busy = 1 - sum(row["train/data_wait"] for row in measured) / len(measured)
    return Result(
        name=WAITING,
        phase="step",
        ours=f"{WORKERS} workers, {SIDE}-px shards",
        baseline="the same without waiting",
        at_least=0.95,
        ours_ms=step_ms,
        baseline_ms=step_ms * busy,
        ratio=busy,
    )


class _Rows:
    """A tracker that keeps the logged rows in memory."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        """See `Tracker.log`."""
        self.rows.append(values)


def _small_shards(paths: list[Path], folder: Path) -> VideoSet:
    """Packs copies of videos, each as its own class, as `shard --short-side 128 --gop 12` does."""
    samples = []
    for number, path in enumerate(paths):
        copy = prepare(TranscodeJob(path, path.name, short_side=SIDE, gop=GOP))
        assert copy.video is not None
        samples.append(Sample(str(number), copy.video, "mp4", number, path.name, frames=copy.frames))
    folder.mkdir(parents=True, exist_ok=True)
    shards = write_shards(folder, "bench", "train", samples)
    write_index(folder, "bench", shards, classes=[sample.key for sample in samples], source="bench")
    return open_videos(folder, split="train", labelled=True)
