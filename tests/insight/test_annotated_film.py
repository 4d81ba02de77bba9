"""What is drawn beneath a film: sizes, untrusted names, and bars as long as probabilities."""

import numpy as np
import pytest
import torch

from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.pictures.annotated_film import AnnotatedFilm

NAMES = ["$x_2$ <b>", "\x1b[31mred\nline", "\u202eevil", "日本 " * 4000, "", "\ud800half"]


def film_of(height, width, scores, names=None, **options):
    predictions = [Prediction(float(n), n + 1.0, torch.tensor(row)) for n, row in enumerate(scores)]
    names = names or [f"c{k}" for k in range(len(scores[0]))]
    return AnnotatedFilm(height, width, predictions, names, **options)


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(32, 32, 8), (97, 131, 3), (720, 1280, 1), (1, 1, 240), (1000, 3, 1), (3, 1500, 1), (720, 7680, 1 / 4)],
)
def test_small_pictures_are_enlarged_and_sizes_are_even(height, width, scale):
    film = film_of(height, width, [[0.5, 0.5]])
    picture = film.frame([np.full((height, width, 3), 200, np.uint8)], 0.0)
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    left = (picture.shape[1] - round(scale * width)) // 2
    assert (picture[: round(scale * height), left : left + round(scale * width)] == 200).all()
    assert (picture[: round(scale * height)].min(-1) == 200).sum() == round(scale * width) * round(
        scale * height
    )


def test_names_of_any_kind_are_drawn_as_text():
    scores = [[0.1] * 6 for _ in NAMES]
    for number, row in enumerate(scores):
        row[number] = 0.5
    film = film_of(64, 64, scores, NAMES, caption=lambda number: NAMES[number])
    pictures = [film.frame([np.zeros((64, 64, 3), np.uint8)], number + 0.5) for number in range(len(NAMES))]
    assert len({picture.shape for picture in pictures}) == 1


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
def test_a_bar_is_as_long_as_its_probability(score):
    film = film_of(240, 480, [[score, 1 - score]])
    picture = film.frame([np.zeros((240, 480, 3), np.uint8)], 0.0).astype(int)
    left, right = round(0.42 * 480), 480 - 9 - 4 * 13
    bar = picture[240 + 9 + 6, left:right]  # through the middle of the first
    grey = (np.abs(bar - 0x33).max(-1) < 3).sum()
    assert grey == pytest.approx((right - left) * (1 - max(score, 1 - score)), abs=2)


def test_a_moment_shows_the_window_around_it():
    film = film_of(240, 480, [[0.9, 0.1], [0.2, 0.8]])
    blank = [np.zeros((240, 480, 3), np.uint8)]
    early, late = film.frame(blank, 0.2), film.frame(blank, 1.2)
    assert (film.frame(blank, 0.2) == early).all()
    names = slice(240, 240 + 50), slice(0, 200)
    assert (early[names] != late[names]).any()
