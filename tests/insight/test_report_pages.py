"""Pages from facts: what stands in them, and that names of classes, files and keys are text."""

import re
from dataclasses import replace

import numpy as np
import pytest
from reports import CLASSES, Page, rows, write_run

from transfer3d.insight.report.compare import comparison_page
from transfer3d.insight.report.record import Evaluation
from transfer3d.insight.report.run_page import run_page
from transfer3d.insight.report.sections import classes_section, confusion_section
from transfer3d.run.pages.run_record import differing_keys, read_run

NASTY = '<script>alert(1)</script>"><img src=//x.y/z onerror=alert(2)>'


def evaluation(confusion, classes, right=None, data="d"):
    confusion = np.array(confusion)
    top1 = float(np.trace(confusion) / confusion.sum())
    metrics = {"scored": int(confusion.sum()), "video_top1": top1, "confusion": confusion.tolist()}
    return Evaluation(
        metrics=metrics, classes=classes, split="test", source="of a test", data=data, right=right or {}
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    log = [
        *rows(5, loss=(4, 1), clip_accuracy=(0, 1), lr=(0.1, 0)),
        {"step": 5, "split": "val", "video_top1": 0.625},
    ]
    first = read_run(write_run(root / "first", log=log, seed=3))
    second = read_run(write_run(root / "second", log=log, seed=4, lr=0.02))
    right = {f"v{i}": i < 5 for i in range(10)}
    better = {f"v{i}": i < 8 for i in range(10)}
    return [
        replace(first, evaluation=evaluation([[2, 2, 0], [0, 2, 1], [2, 0, 1]], CLASSES, right)),
        replace(second, evaluation=evaluation([[4, 0, 0], [0, 2, 1], [1, 0, 2]], CLASSES, better)),
    ]


def test_a_page_shows_numbers_with_intervals_recipe_and_data(records):
    page = Page(run_page(records[0]))
    assert "50.0 % 23.7 to 76.3 %" in page.text  # scipy's Wilson interval of 5 of 10
    assert "val, top-1, last 62.5 %" in page.text
    assert "training accuracy 100.0 %" in page.text
    assert "nearest built-in recipe is demo/tiny-finetune" in page.text
    assert "seed 0 3" in page.text
    assert "digest of the training videos d1" in page.text
    assert page.references
    assert all(reference.startswith(("#", "data:")) for reference in page.references)


def test_a_comparison_shows_differences_by_run_key_and_class(records):
    page = Page(comparison_page(records, differing_keys(records)))
    assert "lr 0.06 0.02" in page.text
    assert "seed 3 4" in page.text
    assert "precision" not in page.text
    # (3.5 - 0.5) / 12 ± 1.96 / 12 * sqrt(4 - 9 / 12)
    assert "+30.0 -4.4 to +54.4 3 0 10" in page.text
    assert "0_left 50.0 % 100.0 % +50.0" in page.text
    assert "1_left 33.3 % 66.7 % +33.3 0_right" in page.text


def test_a_comparison_shows_how_far_runs_are_and_how_sure_their_numbers(records):
    begun = replace(records[1], finished=False)
    text = Page(comparison_page([records[0], begun], [])).text
    assert "steps 10 10, not finished" in text
    assert "test, top-1 50.0 % 23.7 to 76.3 % 80.0 % 49.0 to 94.3 %" in text


def verdict(records):
    return Page(comparison_page(records, [])).text.split("Verdict")[2].split("Numbers")[0]


def test_a_comparison_opens_with_which_run_is_better_by_how_much_and_how_sure(records):
    first, second = (record.name for record in records)
    # (3.5 - 0.5) / 12 ± 1.96 / 12 * sqrt(4 - 9 / 12), as above: it contains 0
    said = verdict(records)
    assert f"No run is clearly the best: {second} is ahead of {first} by 30.0 points" in said
    assert "(95 % interval -4.4 to 54.4, which contains 0): top-1 on the same 10 videos (test)." in said
    assert "No run is clearly the best: " in verdict([records[0], replace(records[0], name="twin")])
    assert f"{first} and twin are equal" in verdict([records[0], replace(records[0], name="twin")])
    ten = {f"{key}-{n}": right for key, right in records[0].evaluation.right.items() for n in range(10)}
    better = {key: right or key.startswith("v5") for key, right in ten.items()}
    big = [
        replace(record, evaluation=replace(record.evaluation, right=rights))
        for record, rights in zip(records, (ten, better), strict=True)
    ]
    # (10.5 - 0.5) / 102 ± 1.96 / 102 * sqrt(11 - 100 / 102)
    assert f"{second} is better than {first} by 10.0 points (95 % interval 3.7 to 15.9)" in verdict(big)
    assert "on the same 100 videos (test)." in verdict(big)
    third = replace(big[0], name="third", evaluation=None)
    said = verdict([*big, third])
    assert f"{second} is better than {first}" in said
    assert "Not compared, since they lack the same evaluation: third" in said
    said = verdict([*big, replace(big[0], name="third")])
    assert f"{second} is the best of 3 runs, better than the next, {first}, by 10.0 points" in said


def test_there_is_no_verdict_on_runs_that_were_not_evaluated_alike(records):
    other = replace(records[1], evaluation=replace(records[1].evaluation, data="others"))
    assert "No verdict: no two runs were evaluated on the same videos" in verdict([records[0], other])
    other = replace(records[1], evaluation=None)
    assert "No verdict: fewer than two of the runs were evaluated" in verdict([records[0], other])
    without = [replace(r, evaluation=replace(r.evaluation, right={})) for r in records]
    assert "ahead of" in verdict(without)
    assert "the uncertainty is unknown" in verdict(without)


def test_the_best_is_marked_and_views_are_beside_each_score(records):
    seen = [
        replace(record, evaluation=replace(record.evaluation, views=views))
        for record, views in zip(records, (3.0, 3.0), strict=True)
    ]
    html = comparison_page(seen, [])
    best = '<td class="number best"><b>80.0 %</b><small>49.0 to 94.3 %, 3\N{NO-BREAK SPACE}views</small></td>'
    assert best in html
    assert html.count('best"><b>50.0 %') == 0
    assert "23.7 to 76.3 %, 3\N{NO-BREAK SPACE}views" in html
    other = replace(seen[1], evaluation=replace(seen[1].evaluation, protocol={"name": "dense"}))
    assert 'best"><b>' not in comparison_page([seen[0], other], [])
    assert "3\N{NO-BREAK SPACE}views" in run_page(seen[0])


def test_tables_name_their_rows_and_columns_and_the_page_its_parts(records):
    for html in (run_page(records[0]), comparison_page(records, differing_keys(records))):
        assert not re.search(r"<th[^>]*>\s*</th>", html)
        heads, rows = html.count("<thead>"), html.count("<tr>")
        assert html.count('scope="row"') == rows - heads
        assert {"header", "nav", "main"} <= Page(html).tags


def test_drawings_have_the_colours_of_the_page(records):
    html = comparison_page(records, [])
    assert "<svg" in html
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "fill: #ffffff" not in drawings
    assert "#000000" not in drawings
    assert drawings.count("<svg") == drawings.count('role="img" aria-label="')


def test_only_videos_that_both_runs_were_tested_on_count(records):
    first, second = (record.evaluation for record in records)
    fewer = {key: right for key, right in second.right.items() if key not in ("v0", "v7")}
    other = replace(records[1], evaluation=replace(second, right=fewer | {"another": True}))
    assert len(first.right) == 10
    # Of v1 to v6, v8 and v9: the second tells v5 and v6 too. (2.5 - 0.5) / 10 ± 1.96 / 10 * sqrt(3 - 4 / 10)
    assert "+25.0 -11.6 to +51.6 2 0 8" in Page(comparison_page([records[0], other], [])).text


def test_of_many_classes_those_that_gained_and_lost_most_come_first(records):
    """Class k gains k - 11 points of its 100 videos."""
    classes = [f"class {k:02}" for k in range(23)]

    def evaluation_of(rights):
        confusion = np.diag(rights)
        confusion[np.arange(23), (np.arange(23) + 1) % 23] = 100 - rights
        return evaluation(confusion, classes)

    pair = [
        replace(record, evaluation=evaluation_of(np.full(23, 50) + gain))
        for record, gain in zip(records, (0, np.arange(23) - 11), strict=True)
    ]
    text = Page(comparison_page(pair, [])).text
    gained, lost = (text.split(title)[1] for title in ("Gained most", "Lost most"))
    shown = [re.findall(r"class (\d\d) 50", part)[:10] for part in (gained, lost)]
    assert shown[0] == [f"{k:02}" for k in range(22, 12, -1)]
    assert shown[1] == [f"{k:02}" for k in range(10)]
    assert "class 22 50.0 % 61.0 % +11.0" in gained
    assert "class 00 50.0 % 39.0 % -11.0" in lost


@pytest.mark.parametrize(
    ("gains", "headed"), [([3, 0], ["Gained most"]), ([0, -2], ["Lost most"]), ([0, 0], []), ([1, -1], None)]
)
def test_a_class_that_did_not_gain_is_not_among_those_that_gained_most(records, gains, headed):
    """Two classes change, 21 do not."""
    classes = [f"class {k:02}" for k in range(23)]
    rights = np.array([[50] * 23, [50 + gains[0], 50 + gains[1], *[50] * 21]])
    confusions = [np.diag(row) + np.roll(np.diag(100 - row), 1, 1) for row in rights]
    pair = [
        replace(record, evaluation=evaluation(confusion, classes))
        for record, confusion in zip(records, confusions, strict=True)
    ]
    text = Page(comparison_page(pair, [])).text
    assert [title for title in ("Gained most", "Lost most") if title in text] == (
        ["Gained most", "Lost most"] if headed is None else headed
    )
    before = text.split("All 23 classes")[0]
    assert sorted(re.findall(r"class \d\d", before)) == [f"class 0{k}" for k in (0, 1) if gains[k]]


def test_classes_that_are_never_told_are_not_the_best_and_those_always_told_not_the_worst():
    def headed(confusion):
        text = Page("".join(classes_section(evaluation(confusion, [*"abcd"]), {}).parts)).text
        return re.findall(r"Best|Worst|\b[abcd]\b", text)

    assert headed(np.eye(4, dtype=int)) == ["Best", "a", "b"]
    assert headed(np.roll(np.eye(4, dtype=int), 1, 1)) == ["Worst", "d", "c"]
    assert headed(np.eye(4, dtype=int)[[0, 0, 2, 0]]) == ["Best", "a", "c", "Worst", "d", "b"]


def test_runs_on_other_videos_are_not_compared_video_by_video(records):
    other = replace(records[1], evaluation=replace(records[1].evaluation, data="others"))
    assert "Video by video" not in comparison_page([records[0], other], [])
    assert "Video by video" in comparison_page(records, [])


def test_runs_on_other_views_are_named_and_not_compared_video_by_video(records):
    other = replace(records[1], evaluation=replace(records[1].evaluation, protocol={"name": "dense"}))
    text = Page(comparison_page([records[0], other], [])).text
    assert f"{other.name} is not compared: it was evaluated with other views." in text
    assert "only it right" not in text
    text = Page(comparison_page([records[0], other, replace(records[1], name="third")], [])).text
    assert f"{other.name} is not compared" in text
    assert "third +30.0 -4.4 to +54.4 3 0 10" in text


@pytest.mark.parametrize(("count", "drawn"), [(3, True), (40, True), (101, False), (401, False)])
def test_a_confusion_that_could_not_be_read_becomes_a_table(count, drawn):
    confusion = np.eye(count, dtype=int) * 5
    confusion[1, 0], confusion[0, 2] = 4, 3
    section = confusion_section(evaluation(confusion, [f"class {k}" for k in range(count)]))
    html = "".join(section.parts)
    assert ("<svg" in html) is drawn
    assert "class 1 class 0 4 of 9 class 0 class 2 3 of 8" in Page(html).text


@pytest.mark.parametrize("mark", ["\u202e", "\u200f", "\u2066", "\x1b", "\udcff"])
def test_marks_that_turn_the_text_after_them_are_visible(records, mark):
    classes = (f"{mark}evil", "b", "c")
    found = evaluation([[2, 2, 0], [0, 2, 1], [2, 0, 1]], classes)
    record = replace(records[0], name=f"run{mark}", evaluation=found)
    for html in (
        run_page(record, [confusion_section(found)]),
        comparison_page([record, replace(record, name="other")], []),
    ):
        assert mark not in html
        assert f"{mark.encode('unicode-escape').decode()}evil" in html
        html.encode("utf-8")


def test_equal_runs_have_no_best(records):
    drawn = ("best</text>" in comparison_page([records[0], other], []) for other in
             (records[1], replace(records[0], name="twin")))  # fmt: skip
    assert list(drawn) == [True, False]


@pytest.mark.parametrize("name", [NASTY, "$x_{$", "_hidden", "$\\frac$ and $", "a" * 300, "名前"])
def test_names_are_text(tmp_path, name, records):
    log = [*rows(3, loss=(2, 1)), {"step": 3, "split": "val", "video_top1": 0.5}]
    classes = (name, "<b>", "&amp;")
    record = read_run(write_run(tmp_path / "run", log=log, classes=classes, data=f"{name}/", student=name))
    found = evaluation(np.eye(3, dtype=int), classes)
    record = replace(record, name=name, evaluation=found)
    for html in (
        run_page(record, [confusion_section(found)]),
        comparison_page([record, records[0]], differing_keys([record, records[0]])),
    ):
        page = Page(html)
        assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form"}
        assert " ".join(name.split()) in page.text
        assert all(reference.startswith(("#", "data:")) for reference in page.references)
