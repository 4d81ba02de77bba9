"""Strips and moving pictures show the frames in order, and files play as they should."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from transfer3d.data.decode import Video
from transfer3d.errors import SetupError, UsageError
from transfer3d.insight.pictures.animation import check_animation_path, write_animation
from transfer3d.insight.pictures.film import Bar, motion, strip
from transfer3d.insight.pictures.overlay import heat_film, heat_strip, overlay

COLOURS = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 0], [0, 200, 200], [200, 0, 200]])


def plain(colours):
    """One frame of each colour."""
    return np.broadcast_to(colours[:, None, None], (len(colours), 8, 12, 3)).astype(np.uint8)


def runs(pixels):
    """The colours that follow one another along a line of pixels, white and antialiased ones left out."""
    known = {tuple(colour): number for number, colour in enumerate(COLOURS.tolist())}
    found = [known[tuple(pixel)] for pixel in pixels.tolist() if tuple(pixel) in known]
    return [number for i, number in enumerate(found) if i == 0 or found[i - 1] != number]


def test_a_strip_shows_evenly_chosen_frames_from_left_to_right_and_rows_below_one_another():
    rows = {"first": plain(COLOURS), "second": plain(COLOURS[::-1])}
    picture = np.asarray(Image.open(io.BytesIO(strip(rows, title="t", frames=3))).convert("RGB"))
    lines = [tuple(runs(line)) for line in picture if runs(line)]
    assert list(dict.fromkeys(lines)) == [(0, 2, 5), (5, 3, 0)]
    whole = np.asarray(Image.open(io.BytesIO(strip(rows, title="t"))).convert("RGB"))
    assert (0, 1, 2, 3, 4, 5) in {tuple(runs(line)) for line in whole}


def test_a_moving_figure_has_a_picture_for_each_frame():
    bar = Bar("inferno", "heat", ("none", "half", "most"))
    pictures = list(motion({"": (plain(COLOURS), plain(COLOURS[::-1]))}, ("a", "b"), title="t", bar=bar))
    assert len(pictures) == 6
    assert len({picture.shape for picture in pictures}) == 1
    for number, picture in enumerate(pictures):
        assert [number, 5 - number] in [runs(line) for line in picture]


def test_heat_has_the_colour_maps_colours_over_grey_frames():
    frame = np.full((1, 1, 3), 100, np.uint8)
    cold, hot = (overlay(frame, np.full((1, 1), heat, np.float32))[0, 0] for heat in (0, 1))
    inferno = 255 * np.array([matplotlib.colormaps["inferno"](heat)[:3] for heat in (0.0, 1.0)])
    np.testing.assert_allclose(cold, 0.7 * 100 + 0.3 * inferno[0], atol=1)
    np.testing.assert_allclose(hot, 0.25 * 100 + 0.75 * inferno[1], atol=1)
    red = overlay(np.array([[[255, 0, 0]]], np.uint8), np.zeros((1, 1), np.float32))[0, 0].astype(int)
    assert np.ptp(red) <= 1  # only heat has colours


def test_every_unit_has_its_rows():
    clip = np.zeros((3, 3, 2, 16, 16), np.uint8)
    heat = np.zeros((3, 2, 16, 16), np.float32)
    one, three = (
        Image.open(io.BytesIO(heat_strip(c, h, title="t", label="l"))).size
        for c, h in ((clip[0], heat[0]), (clip, heat))
    )
    assert three[1] > 2 * one[1]
    pictures = list(heat_film(clip, heat, title="t", label="l"))
    assert len(pictures) == 2
    assert pictures[0].shape[0] > pictures[0].shape[1]


def test_a_strip_of_a_page_is_as_wide_as_a_phone_can_show():
    clip, heat = np.zeros((3, 16, 32, 32), np.uint8), np.zeros((16, 32, 32), np.float32)
    whole, narrow = (
        Image.open(io.BytesIO(heat_strip(clip, heat, title="t" * 60, label="l", for_page=for_page))).size[0]
        for for_page in (False, True)
    )
    assert narrow < 720 < whole  # on a phone, letters of 14 points are then 10 pixels high


def pictures(count=5):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return [np.roll(base, 8 * t, axis=1) for t in range(count)]


def test_a_gif_plays_for_ever_at_its_rate(tmp_path):
    write_animation(tmp_path / "a.gif", pictures(), fps=5)
    write_animation(tmp_path / "b.gif", pictures(), fps=5)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (5, 200, 0)
        for number, picture in enumerate(pictures()):
            gif.seek(number)
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - picture).mean() < 8


def test_an_mp4_has_all_frames_at_its_rate(tmp_path):
    write_animation(tmp_path / "a.mp4", pictures(), fps=5)
    with Video(tmp_path / "a.mp4") as video:
        assert (video.frames, video.fps) == (5, pytest.approx(5))
        read = video.read(np.arange(5))
    assert np.abs(read.astype(int) - np.stack(pictures())).mean() < 8


def test_other_names_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"a.png: moving pictures are .gif or .mp4"):
        check_animation_path(tmp_path / "a.png")
    with pytest.raises(UsageError, match="is a folder"):
        check_animation_path(tmp_path)
    with pytest.raises(SetupError, match="cannot be written"):
        check_animation_path(tmp_path / "file" / "a.gif")


def test_names_with_dollars_are_no_formulas_in_strips_and_in_motion():
    rows = {"b$x_$": plain(COLOURS)}
    bar = Bar("inferno", "evidence for $\\frac$", ("none", "half", "most"))
    assert strip(rows, title="true $_$", bar=bar)
    moving = {name: [clip] for name, clip in rows.items()}
    assert len(list(motion(moving, ["$^$"], title="true $_$", bar=bar))) == len(COLOURS)
