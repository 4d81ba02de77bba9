"""The timeline's drawing, read back from its artists."""

import torch

from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.pictures.figures import COLOURS, new_figure
from transfer3d.insight.pictures.timeline import OTHERS, draw_timeline

NAMES = [f"c{k}" for k in range(9)]


def draw(leaders):
    """One window a second for each leader, each two seconds long; the leader has 60 %."""
    scores = torch.full((len(leaders), len(NAMES)), 0.05)
    for row, k in enumerate(leaders):
        scores[row, k] = 0.6
    predictions = [Prediction(float(n), n + 2.0, row) for n, row in enumerate(scores)]
    axes = new_figure(9, 4).subplots()
    draw_timeline(axes, predictions, NAMES, title="video.mp4")
    return axes


def steps(axes):
    return {patch.get_label(): patch.get_data() for patch in axes.patches}


def band(axes):
    """(from, to, colour) of each bar."""
    bars = [(bar.get_paths()[0].get_extents(), bar.get_facecolor()[0]) for bar in axes.collections]
    return [(box.x0, box.x1, tuple(colour[:3])) for box, colour in bars]


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_steps_stand_around_the_middles_of_their_windows_and_the_band_names_who_leads():
    axes = draw([4, 4, 4, 1, 1, 4])
    found = steps(axes)
    assert list(found) == ["c4", "c1"]
    assert found["c4"].edges.tolist() == [0, 1.5, 2.5, 3.5, 4.5, 5.5, 7]
    assert [round(value) for value in found["c4"].values] == [60, 60, 60, 5, 5, 60]
    blue, orange = map(rgb, COLOURS[:2])
    assert band(axes) == [(0, 3.5, blue), (3.5, 5.5, orange), (5.5, 7, blue)]
    assert [text.get_text() for text in axes.texts] == ["c4", "c1", "c4"]
    assert axes.get_xlabel() == "time in the video, seconds"


def test_of_many_leaders_the_longest_have_colours_and_the_others_are_counted():
    axes = draw([7, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6])
    assert list(steps(axes)) == ["c1", "c2", "c3", "c4", "c5", "c6"]
    assert [colour == rgb(OTHERS) for *_, colour in band(axes)] == [True, True, *[False] * 6]
    assert axes.get_legend().get_title().get_text() == "most likely class\n(grey: 2 others)"


def test_a_name_without_room_is_left_out():
    axes = draw([0] * 100 + [1] + [0] * 100)
    assert [text.get_text() for text in axes.texts] == ["c0", "c0"]
