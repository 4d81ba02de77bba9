"""Names in every script: a font that has their characters is found, and text of pages stays text."""

import io
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import FontEntry, fontManager
from PIL import Image

from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.embedding import Embedding
from transfer3d.insight.pictures import figures, fonts
from transfer3d.insight.pictures.annotated_film import AnnotatedFilm
from transfer3d.insight.pictures.embedding import embedding_figure

JUMP, OLD = "\u8df3", "\U00012000"  # a Chinese character, and a cuneiform one
BOXES = "no font here has all characters of the names"


@pytest.fixture
def square_font(tmp_path, monkeypatch):
    """The machine's only other font: its one character is a filled square as large as the font's size."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(JUMP): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1000, usWinAscent=1000)
    builder.setupPost()
    file = tmp_path / "square.ttf"
    builder.save(file)
    only_these(monkeypatch, FontEntry(str(file), "Square", "normal", weight=400))
    return str(file)


def only_these(monkeypatch, *entries):
    own = [entry for entry in fontManager.ttflist if "DejaVu" in entry.name]  # matplotlib looks for it, too
    monkeypatch.setattr(fontManager, "ttflist", [*own, *entries])
    fonts.font_for.cache_clear()


@pytest.fixture(autouse=True)
def _forget():
    yield
    fonts.font_for.cache_clear()


def test_the_font_is_the_one_that_has_the_characters(square_font):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts.font_for("Łódź, פתח, a\u200d\ufe0f b") == fonts.OWN
        assert fonts.font_for(JUMP) == square_font


def test_characters_of_no_font_are_a_warning(square_font):
    with pytest.warns(UserWarning, match=BOXES):
        assert fonts.font_for(f"{JUMP}{OLD}") == square_font


def test_a_font_of_boxes_and_a_file_that_is_no_font_do_not_count(monkeypatch, tmp_path):
    (tmp_path / "no.ttf").write_text("no")
    boxes = Path(fonts.OWN).with_name("LastResortHE-Regular.ttf")
    only_these(
        monkeypatch,
        FontEntry(str(boxes), "Last Resort High-Efficiency", "normal", weight=400),
        FontEntry(str(tmp_path / "no.ttf"), "no", "normal", weight=400),
        FontEntry(str(tmp_path / "gone.ttf"), "gone", "normal", weight=400),
    )
    with pytest.warns(UserWarning, match=BOXES):
        assert fonts.font_for(JUMP) == fonts.OWN


def test_a_figure_has_the_fonts_shapes(square_font):
    def darkness(title):
        figure = figures.new_figure(2, 1)
        figure.suptitle(title, fontsize=40)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = Image.open(io.BytesIO(figures.to_png(figure, dpi=72))).convert("L")
        return (np.asarray(picture) < 50).sum()

    assert darkness(JUMP) == pytest.approx(40 * 40, rel=0.1)


def test_a_film_has_the_fonts_shapes(square_font):
    film = AnnotatedFilm(240, 480, [Prediction(0.0, 1.0, torch.tensor([1.0]))], [JUMP])
    picture = film.frame([np.zeros((240, 480, 3), np.uint8)], 0.9)
    name = picture[240:260, :200].min(-1)
    assert (name > 200).sum() == pytest.approx(13 * 13, rel=0.2)


def test_what_a_font_lacks_is_one_warning_in_figures_and_films(monkeypatch):
    only_these(monkeypatch)
    figure = figures.new_figure(2, 1)
    figure.suptitle(JUMP + OLD)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        figures.to_png(figure)
    assert [str(one.message)[: len(BOXES)] for one in seen] == [BOXES]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.to_svg(figure)  # the reader may have a font


def test_names_in_a_drawing_are_text_in_the_readers_font_without_marks_that_turn_it():
    names = [JUMP, "\u202eevil\x1b", "long " * 40, *(f"c{k}" for k in range(12))]
    points = np.stack([np.arange(len(names)) % 2, np.arange(len(names))], 1) * 100.0
    drawn = Embedding(
        keys=[str(k) for k in range(len(names))], classes=names, labels_N=np.arange(len(names)),
        points_N2=points, layer="pool5", perplexity=2.0, neighbours=1, purity=None, feature_purity=None,
    )  # fmt: skip
    svg = figures.to_svg(embedding_figure(drawn))
    texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]
    assert {JUMP, "\\u202eevil\\x1b", figures.short(names[2])} <= set(texts)
    assert figures.short(names[2]) != names[2]
