"""The sections that need videos: best and worst classes, what speaks for a class, a map of the features."""

from __future__ import annotations

import torch

from transfer3d.errors import DataError, SetupError
from transfer3d.insight.cam import explain
from transfer3d.insight.embedding import embed
from transfer3d.insight.features.file import FeatureSet
from transfer3d.insight.features.layers import POOLED
from transfer3d.insight.pictures import figures
from transfer3d.insight.pictures.embedding import embedding_figure
from transfer3d.insight.report import page
from transfer3d.insight.report.numbers import class_results, percent
from transfer3d.insight.report.page import Section
from transfer3d.insight.report.predictions import CentrePredictions
from transfer3d.insight.report.record import Evaluation
from transfer3d.insight.report.sections import classes_section, confusion_section, extremes

MAPS = 3
"""Videos that were told right, and as many that were not, whose class activation maps are shown."""


def seen_sections(
    look: CentrePredictions | None, found: Evaluation | None, features: FeatureSet | None
) -> list[Section]:
    """Returns the sections that videos are needed for.

    Args:
        look: at videos; None where there are none.
        found: metrics of these or of other videos; None where the student has no classes.
        features: to be shown instead of those of the look.
    """
    sections = _class_sections(look, found) if look and look.scores and found else []
    shown = features or (look.features if look else None)
    return [*sections, embedding_section(shown)] if shown else sections


def _class_sections(look: CentrePredictions, found: Evaluation) -> list[Section]:
    if "confusion" not in found.metrics:
        return [confusion_section(found)]
    results = class_results(found.metrics["confusion"], found.classes)
    best, worst = extremes(results)
    strips: dict[str, str] = {}
    for some, right in ((best, True), (worst, False)):
        for result in some:
            if (index := example(look, found.classes.index(result.name), right=right)) is not None:
                strips[result.name] = page.png_figure(film_strip(look, index), _said(look, index, found))
    note = (
        "Below, a video of each: of the best classes one that was told right, of the worst one that was not."
    )
    return [confusion_section(found), classes_section(found, strips, note), maps_section(look, found)]


def film_strip(look: CentrePredictions, index: int) -> bytes:
    """Returns what the student saw of a video."""
    return figures.film_strip(look.frames(index).numpy())


def example(look: CentrePredictions, label: int, *, right: bool) -> int | None:
    """Returns a video of a class, told right or not if there is such a one: of those the surest."""
    assert look.scores is not None
    scores_NK = look.scores.videos_NK
    members = [index for index, own in enumerate(look.videos.labels) if own == label]
    wanted = [index for index in members if (int(scores_NK[index].argmax()) == label) is right]
    return max(wanted or members, key=lambda index: float(scores_NK[index].max()), default=None)


def _said(look: CentrePredictions, index: int, found: Evaluation) -> str:
    """Returns what a video shows, and what the student took it for."""
    assert look.scores is not None
    scores_K, label = look.scores.videos_NK[index], look.videos.labels[index] or 0
    guess = int(scores_K.argmax())
    taken = "told right" if guess == label else f"taken for {found.classes[guess]}"
    return (
        f"{found.classes[label]}, {taken} ({percent(float(scores_K[guess]))} sure): {look.videos.keys[index]}"
    )


def surest(look: CentrePredictions, *, right: bool) -> list[int]:
    """Returns the videos that the student was surest of, told right or not, at most one of each class."""
    assert look.scores is not None
    scores_NK = look.scores.videos_NK
    labels_N = torch.tensor([-1 if label is None else label for label in look.videos.labels])
    best_N, guess_N = scores_NK.max(1)
    wanted = ((guess_N == labels_N) == right).nonzero().flatten().tolist()
    chosen: dict[int, int] = {}
    for index in sorted(wanted, key=lambda index: (-float(best_N[index]), index)):
        chosen.setdefault(int(labels_N[index]), index)
    return list(chosen.values())[:MAPS]


def maps_section(look: CentrePredictions, found: Evaluation) -> Section:
    """Returns class activation maps of videos that the student was sure of, rightly and wrongly."""
    parts: list[str] = []
    try:
        for right, title in ((True, "Surest of those told right"), (False, "Surest of those told wrong")):
            chosen = surest(look, right=right)
            parts += [page.heading(title)] if chosen else []
            for index in chosen:
                true = found.classes[look.videos.labels[index] or 0]
                shown, png = explain(look.student, look.clip(index), found.classes, true=true)
                parts.append(
                    page.png_figure(png, f"{shown.headline(found.classes, true)}: {look.videos.keys[index]}")
                )
    except SetupError as missing:
        return Section("Where the evidence is", [page.paragraph(str(missing))])
    return Section(
        "Where the evidence is",
        parts,
        "Class activation maps: frames, and below them where and when they speak for the predicted class.",
    )


def embedding_section(features: FeatureSet) -> Section:
    """Returns the map of a set's features, those in front of the classifier where they are there."""
    layer = POOLED if POOLED in features.layers else next(iter(features.layers))
    try:
        svg = figures.to_svg(embedding_figure(embed(features, layer)))
    except DataError as few:
        return Section("Features", [page.paragraph(str(few))])
    caption = (
        f"Each point is one of {len(features):,} videos ({features.metadata.split}); colours are its class."
    )
    note = "What lies close together is alike to the student. Distances between far groups have no meaning."
    return Section("Features", [page.svg_figure(svg, caption, large=True)], note)
