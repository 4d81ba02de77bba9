"""Writes the report pages of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of, split_off
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import resolve_precision
from transfer3d.engine.launcher import world_size
from transfer3d.engine.run_folder import MODEL
from transfer3d.errors import NoSuchSplit, Transfer3dError, UsageError
from transfer3d.evaluation.evaluate import with_student_classes
from transfer3d.evaluation.metrics import video_metrics
from transfer3d.evaluation.protocols import CENTRE
from transfer3d.files import home_folder, sha256_file, write_text
from transfer3d.insight.features.file import FeatureMetadata, FeatureSet, load_features
from transfer3d.insight.report.compare import comparison_page
from transfer3d.insight.report.final import final_numbers
from transfer3d.insight.report.predictions import CentrePredictions, predict_centre_clips
from transfer3d.insight.report.record import Evaluation, RunRecord, correct_videos
from transfer3d.insight.report.run_page import run_page
from transfer3d.insight.report.videos import seen_sections
from transfer3d.run.inference.session import InferenceSession, inference_session
from transfer3d.run.output_file import refuse_folder
from transfer3d.run.pages.run_record import differing_keys, read_run
from transfer3d.run.training.builtin_data import CACHE

REPORT, COMPARISON = "report.html", "comparison.html"
MAX_VIDEOS = 500
FEW_VIDEOS = 30
"""Maximum number of videos that are evaluated right after training, which takes seconds."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Inputs of a report besides the run folder.

    Attributes:
        data: the videos; None = those that the run was trained on.
        features: file of the run's features to plot; None = those of the evaluated videos.
        videos: approximate number of videos to evaluate, at least one per class; 0 = none.
        precision: "auto", "bf16" or "fp32".
        workers: decoding processes.
    """

    data: str | None = None
    features: Path | None = None
    videos: int = MAX_VIDEOS
    precision: str = "auto"
    workers: int = 0


@dataclass(frozen=True)
class Written:
    """A report page, and the runs that it shows."""

    page: Path
    records: Sequence[RunRecord]

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {"report": str(self.page), "runs": [_run_dict(record) for record in self.records]}


def _run_dict(record: RunRecord) -> dict[str, Any]:
    numbers = [number.to_dict() for number in final_numbers(record)]
    metadata = {"run": record.name, "task": record.task, "steps": record.last.steps}
    return {**metadata, "finished": record.finished, "numbers": numbers}


def report_after_training(path: Path, *, console: Console) -> str:
    """Writes `report.html` into a run folder; the sections that need videos only if these are few.

    Args:
        path: run folder, of a run that has just ended.
        console: for progress.

    Returns:
        A line that gives the path of the page, and the command for the complete page.
    """
    record, page = read_run(path), path / REPORT
    if world_size() == 1 and _has_few_videos(record):
        report_run(path, None, ReportOptions(), console=console)
        return f"report -> {page}"
    write_text(page, run_page(record))
    return f"report -> {page}; `transfer3d report {path}` adds classes, confusions and class activation maps"


def _has_few_videos(record: RunRecord) -> bool:
    """Whether there are videos to evaluate, but few enough to do so quickly."""
    place = _data_source(record)
    if record.checkpoint is None or not record.checkpoint.num_classes or "://" in place:
        return False
    try:
        return len(unseen_videos(place, record)[0]) <= FEW_VIDEOS
    except Transfer3dError:
        return False


def _data_source(record: RunRecord) -> str:
    """Returns the source of the run's own videos."""
    return record.last.recipe["data"] or str(home_folder() / CACHE)


def report_run(path: Path, out: Path | None, options: ReportOptions, *, console: Console) -> Written:
    """Writes the page of a run.

    Args:
        path: run folder.
        out: the page; None = `report.html` in the run folder.
        options: see `ReportOptions`.
        console: for progress.

    Raises:
        UsageError: the folder contains no run, the page is a folder, or the given data does not exist.
        DataError: the run's log or the given data is damaged.
        WeightsError: the run's checkpoint is damaged.
        SetupError: the page cannot be written.
    """
    record = read_run(path)
    page = out or path / REPORT
    refuse_folder(page, "an HTML file")
    features = _features_of(path / MODEL, options.features) if options.features else None
    predictions, note = _predict_if_possible(record, path / MODEL, options, console)
    record = _evaluated(record, predictions)
    sections = seen_sections(predictions, record.evaluation, features)
    write_text(page, run_page(record, sections, note))
    return Written(page, [record])


def compare_runs(
    paths: Sequence[Path], out: Path | None, options: ReportOptions, *, console: Console
) -> Written:
    """Writes a page that compares several runs.

    Args:
        paths: run folders.
        out: the page; None = `comparison.html` in the current folder.
        options: see `ReportOptions`. Videos are evaluated only for classifiers without an evaluation.
        console: for progress.

    Raises:
        UsageError, DataError, WeightsError, SetupError: see `report_run`; also UsageError if a run is named
            twice or features are given.
    """
    if options.features:
        raise UsageError("--features supports one run. Leave it out, or name a single run.")
    page = out or Path(COMPARISON)
    refuse_folder(page, "an HTML file")
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise UsageError(f"{twice[0]} is named twice. Name each run once.")
    records = [read_run(path) for path in paths]
    for number, (path, record) in enumerate(zip(paths, records, strict=True)):
        if record.evaluation is None and record.checkpoint and record.checkpoint.num_classes:
            predictions, _ = _predict_if_possible(record, path / MODEL, options, console)
            records[number] = _evaluated(record, predictions)
    write_text(page, comparison_page(records, differing_keys(records)))
    return Written(page, records)


def _features_of(model: Path, file: Path) -> FeatureSet:
    """Reads features; raises UsageError if they are from another checkpoint."""
    features = load_features(file)
    if not model.is_file() or features.metadata.checkpoint_sha256 != sha256_file(model):
        other = features.metadata.checkpoint
        raise UsageError(f"{file}: features of {other}, not of {model}. Extract those of {model}.")
    return features


def _predict_if_possible(
    record: RunRecord, model: Path, options: ReportOptions, console: Console
) -> tuple[CentrePredictions | None, str]:
    """Evaluates videos; if that is not possible, returns the reason."""
    if options.videos == 0:
        return None, "No videos were evaluated for this page."
    if record.checkpoint is None:
        return None, "No videos were evaluated: there is no checkpoint yet."
    if options.features and not record.checkpoint.num_classes:
        return None, f"No videos were evaluated: the features come from {options.features}."
    try:
        predictions = _predict(record, model, options, console)
    except Transfer3dError as error:
        if options.data is not None:
            raise
        return None, f"No videos were evaluated, so their images are missing: {error}"
    split = predictions.features.metadata.split
    return predictions, f"{len(predictions.videos):,} videos were evaluated for this page ({split})."


def _evaluated(record: RunRecord, predictions: CentrePredictions | None) -> RunRecord:
    """Returns the record with an evaluation: its own if its classes fit, else one from these."""
    own = record.evaluation
    if predictions is None or predictions.scores is None:
        return record
    if own and list(own.classes) == list(predictions.videos.classes):
        return record
    evaluation = Evaluation(
        metrics=video_metrics(predictions.scores, predictions.videos.classes),
        classes=predictions.videos.classes,
        split=predictions.features.metadata.split,
        source=f"{len(predictions.videos):,} videos, the centre clip of each, evaluated for this page",
        data=predictions.features.metadata.data_digest,
        protocol=CENTRE.to_dict(),
        views=1,
        right=correct_videos(predictions.scores),
    )
    return replace(record, evaluation=evaluation)


def _predict(record: RunRecord, model: Path, options: ReportOptions, console: Console) -> CentrePredictions:
    precision = resolve_precision(options.precision)
    with inference_session(model, precision=precision, classifier=False, console=console) as session:
        videos, metadata = _videos_of(record, session, options, precision)
        return predict_centre_clips(
            session.student, videos, metadata, session.accelerator, workers=options.workers, console=console
        )


def _videos_of(
    record: RunRecord, session: InferenceSession, options: ReportOptions, precision: str
) -> tuple[VideoSet, FeatureMetadata]:
    """Returns a subset of the videos that the run was not trained on, and the metadata of their features."""
    place = options.data or _data_source(record)
    videos, split = unseen_videos(place, record)
    assert record.checkpoint is not None
    if session.student.num_classes and videos.classes:
        videos = with_student_classes(session.student, videos)
    if videos.sequential_groups and options.videos < len(videos):
        raise UsageError(
            f"{place}: its server does not support byte ranges, so a report needs all videos or none. "
            f"Use --videos {len(videos)}, or --videos 0."
        )
    subset = share_of(videos, min(options.videos / len(videos), 1.0), seed=record.last.recipe["seed"])
    metadata = FeatureMetadata(
        checkpoint=str(session.file),
        checkpoint_sha256=session.digest,
        student=session.student.model_name,
        data=place,
        data_digest=videos.digest,
        split=split,
        views={"places": "even", "count": 1},
        precision=precision,
    )
    return subset, metadata


def unseen_videos(place: str, record: RunRecord) -> tuple[VideoSet, str]:
    """Returns the videos to evaluate a run on and their split: test, else val, else held-out training videos.

    For a student without classes the videos need no labels.
    """
    for split in ("test", "val"):
        try:
            return open_videos(place, split=split, labelled=True), split
        except NoSuchSplit:
            continue
    recipe = record.last.recipe
    if record.task == "correspond":
        return open_videos(place, split=None, labelled=False), "seen in training"
    whole = open_videos(place, split="train", labelled=True)
    if recipe["val_share"]:
        return split_off(whole, recipe["val_share"], seed=recipe["seed"])[1], "held out from training"
    return whole, "seen in training"
