"""The sections that need videos: best and worst classes, class activation maps, t-SNE of the features."""

from __future__ import annotations

import torch

from transfer3d.errors import DataError, SetupError
from transfer3d.insight.cam import class_map
from transfer3d.insight.embedding import embed
from transfer3d.insight.features.file import FeatureSet
from transfer3d.insight.features.layers import POOLED
from transfer3d.insight.pictures import figures
from transfer3d.insight.pictures.embedding import embedding_figure
from transfer3d.insight.pictures.overlay import heat_strip
from transfer3d.insight.report import page
from transfer3d.insight.report.numbers import class_results, percent
from transfer3d.insight.report.page import Section
from transfer3d.insight.report.predictions import CentrePredictions
from transfer3d.insight.report.record import Evaluation
from transfer3d.insight.report.sections import classes_section, confusion_section, extremes, precision_section

MAPS = 3
"""Number of correct and of wrong predictions for which class activation maps are drawn."""


def seen_sections(
    predictions: CentrePredictions | None, evaluation: Evaluation | None, features: FeatureSet | None
) -> list[Section]:
    """Returns the sections that need videos.

    Args:
        predictions: for the videos; None if there are none.
        evaluation: metrics on these or other videos; None if the student has no classes.
        features: plotted instead of those of `predictions`.
    """
    sections = (
        _class_sections(predictions, evaluation) if predictions and predictions.scores and evaluation else []
    )
    drawn = features or (predictions.features if predictions else None)
    return [*sections, embedding_section(drawn)] if drawn else sections


def _class_sections(predictions: CentrePredictions, evaluation: Evaluation) -> list[Section]:
    if "confusion" not in evaluation.metrics:
        return [precision_section(evaluation)]
    results = class_results(evaluation.metrics["confusion"], evaluation.classes)
    best, worst = extremes(results)
    strips: dict[str, str] = {}
    for ranked, right in ((best, True), (worst, False)):
        for result in ranked:
            if (
                index := example(predictions, evaluation.classes.index(result.name), right=right)
            ) is not None:
                strips[result.name] = page.png_figure(
                    film_strip(predictions, index), _caption(predictions, index, evaluation)
                )
    note = "One video of each class: correctly classified for the best classes, misclassified for the worst."
    return [
        confusion_section(evaluation),
        classes_section(evaluation, strips, note),
        maps_section(predictions, evaluation),
    ]


def film_strip(predictions: CentrePredictions, index: int) -> bytes:
    """Returns a video's centre clip as a film strip, PNG."""
    return figures.film_strip(predictions.frames(index).numpy())


def example(predictions: CentrePredictions, label: int, *, right: bool) -> int | None:
    """Returns the most confident video of a class, correct or wrong as requested; any, if there is none."""
    assert predictions.scores is not None
    scores_NK = predictions.scores.videos_NK
    members = [index for index, own in enumerate(predictions.videos.labels) if own == label]
    candidates = [index for index in members if (int(scores_NK[index].argmax()) == label) is right]
    return max(candidates or members, key=lambda index: float(scores_NK[index].max()), default=None)


def _caption(predictions: CentrePredictions, index: int, evaluation: Evaluation) -> str:
    """Returns the caption of a video: its class, the prediction and its probability."""
    assert predictions.scores is not None
    scores_K, label = predictions.scores.videos_NK[index], predictions.videos.labels[index] or 0
    guess = int(scores_K.argmax())
    taken = "correct" if guess == label else f"predicted {evaluation.classes[guess]}"
    confidence = percent(float(scores_K[guess]))
    return f"{evaluation.classes[label]}, {taken} ({confidence} confidence): {predictions.videos.keys[index]}"


def most_confident(predictions: CentrePredictions, *, right: bool) -> list[int]:
    """Returns the most confident correct or wrong predictions, at most one per class."""
    assert predictions.scores is not None
    scores_NK = predictions.scores.videos_NK
    labels_N = torch.tensor([-1 if label is None else label for label in predictions.videos.labels])
    best_N, guess_N = scores_NK.max(1)
    candidates = ((guess_N == labels_N) == right).nonzero().flatten().tolist()
    chosen: dict[int, int] = {}
    for index in sorted(candidates, key=lambda index: (-float(best_N[index]), index)):
        chosen.setdefault(int(labels_N[index]), index)
    return list(chosen.values())[:MAPS]


def maps_section(predictions: CentrePredictions, evaluation: Evaluation) -> Section:
    """Returns class activation maps of the most confident correct predictions and errors."""
    parts: list[str] = []
    try:
        for right, title in ((True, "Most confident correct predictions"), (False, "Most confident errors")):
            chosen = most_confident(predictions, right=right)
            parts += [page.heading(title)] if chosen else []
            parts += [_map_figure(predictions, index, evaluation) for index in chosen]
    except SetupError as missing:
        return Section("Class activation maps", [page.paragraph(str(missing))])
    return Section(
        "Class activation maps",
        parts,
        "Frames, and below them the evidence for the predicted class in space and time: bright is high.",
    )


def _map_figure(predictions: CentrePredictions, index: int, evaluation: Evaluation) -> str:
    """Returns a video's film strip with the class activation map of its predicted class."""
    clip_u8, true = predictions.clip(index), evaluation.classes[predictions.videos.labels[index] or 0]
    result = class_map(predictions.student, clip_u8)
    strip = heat_strip(clip_u8.numpy(), result.heat.numpy(), title="", label="", for_page=True)
    caption = f"{result.headline(evaluation.classes, true)}: {predictions.videos.keys[index]}"
    return page.png_figure(strip, caption)


def embedding_section(features: FeatureSet) -> Section:
    """Returns the t-SNE of a set's features, preferably those before the classifier."""
    layer = POOLED if POOLED in features.layers else next(iter(features.layers))
    try:
        svg = figures.to_svg(embedding_figure(embed(features, layer)))
    except DataError as few:
        return Section("Features", [page.paragraph(str(few))])
    caption = (
        f"Each point is one of {len(features):,} videos ({features.metadata.split}); colours are its class."
    )
    note = "Nearby points have similar features. Distances between far groups have no meaning."
    return Section("Features", [page.svg_figure(svg, caption)], note)
