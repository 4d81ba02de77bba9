"""Extracts the features of videos to a file; an interrupted extraction can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.engine.distributed import on_main, resolve_precision
from transfer3d.errors import UsageError
from transfer3d.evaluation.protocols import named_protocol
from transfer3d.insight.features.extraction import CLIPS, extract_features, feature_plan
from transfer3d.insight.features.file import FeatureMetadata, FeatureSet
from transfer3d.insight.features.formats import Format, format_of
from transfer3d.insight.features.layers import LayerReader
from transfer3d.insight.features.parts import FeatureParts
from transfer3d.run.inference.session import inference_session
from transfer3d.run.output_file import refuse_existing

NAMES_ALONE = ("checkpoint", "data")
"""Metadata that may change when an extraction is resumed; their digests must not."""


def extract_file(
    file: Path,
    data: str,
    *,
    split: str,
    layers: Sequence[str],
    out: Path,
    clips: int = CLIPS,
    protocol: str | None = None,
    seed: int = 0,
    format: str | None = None,
    resume: bool = False,
    force: bool = False,
    precision: str = "auto",
    workers: int = 0,
    console: Console,
) -> dict[str, Any] | None:
    """Writes the features of all videos; returns a summary on the main process, None on the others.

    Finished parts are kept in `OUT.parts` until the extraction is complete.

    Args:
        file: checkpoint.
        data: the videos.
        split: split of the data; "unlabelled" ignores classes.
        layers: see `LayerReader`.
        out: the file.
        clips: number of clips per video, evenly spaced, whose features are averaged.
        protocol: "p3d" for 20 random clips instead (P3D, section 4); None = use `clips`.
        seed: for random clips.
        format: "safetensors", "parquet" or "npz"; None = by the name of `out`.
        resume: continue from `OUT.parts`; a finished `out` of the same extraction is kept.
        force: overwrite `out`.
        precision: "auto", "bf16" or "fp32".
        workers: decoding processes per process.
        console: for progress.

    Raises:
        UsageError: no such layer or format, the student does not take RGB, `out` exists, or the extraction
            was started with other settings.
        WeightsError: the checkpoint is invalid.
        DataError: a file is bad; no video is skipped.
        SetupError: `out` cannot be written or is in use, or a package is missing.
    """
    if protocol not in (None, "p3d"):
        raise UsageError(f"--protocol {protocol}: features supports only p3d. Or use --clips.")
    if protocol and clips != CLIPS:
        raise UsageError("--protocol p3d always uses 20 clips: leave --clips out.")
    writer = format_of(out, format)
    finished = resume and not force and out.is_file()
    refuse_existing(out, force or finished)
    with inference_session(file, precision=precision, classifier=False, console=console) as session:
        accelerator, student = session.accelerator, session.student
        reader = LayerReader(student, layers)
        videos = session.open_videos(data, split, labelled=split != "unlabelled")
        plan = named_protocol(protocol, seed=seed).plan if protocol else feature_plan(student.clip, clips)
        metadata = FeatureMetadata(
            checkpoint=str(file),
            checkpoint_sha256=session.digest,
            student=student.model_name,
            data=data,
            data_digest=videos.digest,
            split=split,
            views={"places": plan.places, "count": plan.count, **({"seed": seed} if protocol else {})},
            precision=resolve_precision(precision),
        )
        claim = {"layers": list(dict.fromkeys(layers)), **metadata.model_dump(exclude=set(NAMES_ALONE))}
        if finished:
            _refuse_others(out, writer, claim)
            return {"file": str(out), "finished": "before"} if session.is_main else None
        parts = FeatureParts(out.with_name(f"{out.name}.parts"), accelerator.process_index)
        try:
            on_main(accelerator, lambda: parts.claim(claim, resume=resume))
            extract_features(reader, videos, accelerator, plan, parts, workers=workers, console=console)
            accelerator.wait_for_everyone()
            if not session.is_main:
                return None
            features = FeatureSet.of(videos, parts.join(videos.keys), metadata)
            writer.write(features, out)
            parts.remove()
        finally:
            parts.release()
    widths = {name: tensor_ND.shape[1] for name, tensor_ND in features.layers.items()}
    return {"file": str(out), "videos": len(features), "layers": widths, **metadata.model_dump()}


def _refuse_others(out: Path, format: Format, claim: dict[str, Any]) -> None:
    """Raises UsageError if an existing file is not from this extraction."""
    advice = "Give another name with -o, or --force to overwrite it."
    try:
        layers, metadata = format.read_header(out)
    except Exception:  # a library can raise any type for a foreign file
        raise UsageError(f"{out} is not a {format.name} file of features. {advice}") from None
    existing = {"layers": sorted(layers), **metadata.model_dump()}
    claim = {**claim, "layers": sorted(claim["layers"])}
    if changed := [name for name in claim if claim[name] != existing[name]]:
        raise UsageError(f"{out} is from another extraction: {', '.join(changed)} changed. {advice}")
