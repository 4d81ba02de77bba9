"""Lists as other programs write them, and as nobody should: read, or refused in a sentence."""

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from miniatures import activitynet, charades, kinetics

from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.errors import DataError


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a.mp4;run\nb.mp4;jump, high\n", ("jump, high", "run")),
        ("a.mp4\trun\nb.mp4\tjump\n", ("jump", "run")),
        ("path;label;split\na.mp4;run;train\nb.mp4;jump;train\n", ("jump", "run")),
        ("a.mp4,=cmd()\nb.mp4,@x\n", ("=cmd()", "@x")),
        (",path,label\n0,a.mp4,run\n1,b.mp4,jump\n", ("jump", "run")),
        (",file,sport\n0,a.mp4,run\n1,b.mp4,jump\n", ("jump", "run")),
        ("text,path\nrun,a.mp4\njump,b.mp4\n", ("jump", "run")),
        ("class,movie\nrun,a.mp4\njump,b.mp4\n", ("jump", "run")),
        ("movie,class\na.mp4,run\nb.mp4,jump\n", ("jump", "run")),
        ("movie,sport\na.mp4,run\nb.mp4,jump\n", ("jump", "run")),
        ("video,label\na.mp4,run\nb.mp4,jump\n", ("jump", "run")),
        ("\tpath\tlabel\n0\ta.mp4\trun\n1\tb.mp4\tjump\n", ("jump", "run")),
        ("path\tsplit\tlabel\tnote\na.mp4\ttrain\trun\t\nb.mp4\ttrain\tjump\t\n", ("jump", "run")),
    ],
)
def test_cells_of_other_spreadsheets(text, classes, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "video").mkdir()
    (tmp_path / "list.csv").write_text(text)
    listing = read_listing(Request(tmp_path / "list.csv"))[1]
    assert listing.classes == classes
    assert [entry.name for entry in listing.found] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("run\\1.mp4,run\njump\\1.mp4,jump\n", "run/1.mp4 jump/1.mp4"),
        ("run/1,run\njump/1,jump\n", "run/1.mp4 jump/1.mp4"),
        ("video_id,label\n7,run\nb.c,jump\n", "jump/7.webm b.c.mp4"),
        ("n/2,run\n7,jump\n", "jump/run/2.mp4 jump/7.webm"),
    ],
)
def test_paths_of_windows_and_names_without_suffix(text, files, tmp_path, monkeypatch):
    for name in ("run/1.mp4", "jump/1.mp4", "jump/7.webm", "jump/run/2.mp4", "b.c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text(text.replace("n/2", "run/2"))
    for folder in (tmp_path, Path()):
        listing = read_listing(Request(folder / "list.csv"))[1]
        assert [entry.path for entry in listing.entries] == [folder / file for file in files.split()]
        assert listing.classes == ("jump", "run")
        monkeypatch.chdir(tmp_path)


def test_names_of_classes_that_look_like_one_are_said(tmp_path, caplog):
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("a.mp4,Long Jump\nb.mp4,long_jump\nc.mp4,run\n")
    assert read_listing(Request(tmp_path / "list.csv"))[1].classes == ("Long Jump", "long_jump", "run")
    assert "list.csv: the classes Long Jump and long_jump have similar names" in caplog.text
    assert caplog.text.count("similar") == 1


ODD_LISTS = {
    "device": (b"/dev/zero,run\n", "line 1: /dev/zero is a device or a pipe"),
    "latin-1": ("a.mp4,caf\u00e9\n".encode("latin-1"), "line 1: it is not UTF-8"),
    "UTF-16": ("a.mp4,run\n".encode("utf-16"), "line 1: it is not UTF-8"),
    "NUL": (b"a\0.mp4,run\n", "no videos"),
    "an open quote": (b'"a.mp4,run\n', "line 1: .* is not 'path,label'"),
    "a huge cell": (b"a.mp4," + b"x" * 200_000 + b"\n", "line 1: field larger"),
    "a huge path": (b"x" * 5000 + b".mp4,run\n", "no videos"),
    "no labels": (b"path,split\na.mp4,train\n", "line 1: the header 'path,split' has no columns"),
    "one file twice": (b"a.mp4,run\n./a.mp4,jump\n", "line 2: ./a.mp4 is listed before, in line 1"),
    "two files of a name": (b"1,run\n2,jump\n", "line 1: 1 may be .*/1.mp4 or .*/1.mp4"),
    "a row without its split": (b"path,label,split\na.mp4,run\n", "line 2: '' is not one of train, val"),
    "a row of nothing": (b",,,,\n", "line 1: .* is not 'path,label'"),
}


@pytest.mark.parametrize("odd", ODD_LISTS)
def test_odd_lists_are_refused_in_a_sentence(odd, tmp_path):
    content, said = ODD_LISTS[odd]
    for name in ("a.mp4", "run/1.mp4", "jump/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_listing(Request(tmp_path / "list.csv"))
    assert len(str(caught.value)) < 6000


def test_json_lists_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "v_a.mp4").write_bytes(b"x")
    note = {"database": {"a": {"subset": "training", "annotations": [{"segment": [0, 1], "label": "run"}]}}}
    (tmp_path / "activity_net.json").write_text(json.dumps(note), encoding="utf-8-sig")
    assert read_listing(Request(tmp_path))[1].classes == ("run",)
    note["database"]["a"]["annotations"][0]["label"] = "\ud800"
    (tmp_path / "activity_net.json").write_text(json.dumps(note))
    with pytest.raises(DataError, match="activity_net.json: not valid JSON .text that is not Unicode"):
        read_listing(Request(tmp_path))


def test_a_number_of_thousands_of_digits_is_no_bug(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Run\n")
    (tmp_path / "trainlist01.txt").write_text(f"Run/v_Run_g01_c01.avi {'9' * 5000}\n")
    (tmp_path / "testlist01.txt").write_text("")
    with pytest.raises(DataError, match="Run is class 1 in classInd.txt"):
        read_listing(Request(tmp_path))


@pytest.mark.parametrize("segment", [[0, 10**400], [-(10**400), 1]])
def test_a_time_beyond_any_number_is_refused(segment, tmp_path):
    root = activitynet(tmp_path)
    (path,) = root.rglob("*.json")
    content = json.loads(path.read_text())
    next(v for v in content["database"].values() if v["annotations"])["annotations"][0]["segment"] = segment
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"{path.name}: not ActivityNet's JSON"):
        read_listing(Request(root))


@pytest.mark.parametrize(("make", "name"), [(kinetics, "train.csv"), (charades, "Charades_v1_train.csv")])
def test_names_of_columns_may_have_spaces_around_them(make, name, tmp_path):
    root = make(tmp_path)
    plain = read_listing(Request(root))
    (path,) = tmp_path.rglob(name)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([" , ".join(header.split(",")) + " ", *rows]))
    assert read_listing(Request(root)) == plain


def test_rows_that_end_early_are_refused(tmp_path):
    (path,) = kinetics(tmp_path / "kinetics").rglob("train.csv")
    path.write_text("time_start,time_end,youtube_id,label\n1,2\n")
    with pytest.raises(DataError, match=r"train.csv, line 2: a video without an id"):
        read_listing(Request(tmp_path / "kinetics"))
    (path,) = charades(tmp_path / "charades").rglob("Charades_v1_train.csv")
    path.write_text("actions,id\nc000 1 2\n")
    with pytest.raises(DataError, match=r"Charades_v1_train.csv, line 2: a video without an id"):
        read_listing(Request(tmp_path / "charades"))


@pytest.mark.parametrize("name", ["big.csv", "Charades_v1_train.csv"])
def test_a_huge_line_is_not_read_to_find_the_layout(name, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").write_bytes(b"x")
    with (tmp_path / name).open("wb") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    try:
        assert read_listing(Request(tmp_path))[0] == "folders"
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_spaces_within_a_label_take_no_time(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    label = "a" + " " * 100_000 + "b"
    (tmp_path / "list.csv").write_text(f"a.mp4,{label}\n")
    started = time.monotonic()
    assert read_listing(Request(tmp_path / "list.csv"))[1].classes == (label,)
    assert time.monotonic() - started < 5  # the square of their number was two minutes
