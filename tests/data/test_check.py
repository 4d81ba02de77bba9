"""`transfer3d check` against files that are whole, cut, changed, empty, something else, or deadly."""

import contextlib
import csv
import io
import json
import shutil
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from faulty_server import serving
from media import audio_only, encode, numbered_frames, write_numbered
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.data.check import check_videos
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video
from transfer3d.data.isolated import Fault, Limits, isolated_map
from transfer3d.data.prepare import inspect


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_bad_ones_are_named_and_the_rest_is_checked(tmp_path, run):
    folder = tmp_path / "set"
    good = write_numbered(folder / "good.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(good[: len(good) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "sound.mp4").write_bytes(audio_only())
    (folder / "text, or what.mp4").write_text("not a video")
    (folder / "playlist.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    write_numbered(folder / "sub" / "good.mkv", 9, container="matroska")
    result = run(folder)
    assert result.exit_code == 3
    assert "add -o bad_videos.csv" in " ".join(result.output.split())
    assert [path.name for path in Path().iterdir()] == ["set"]
    result = run(folder, "-o", "bad_videos.csv")
    assert result.exit_code == 3
    assert "5 of 7 videos are bad" in result.output
    with Path("bad_videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    bad = {"cut.mp4", "empty.mp4", "sound.mp4", "text, or what.mp4", "playlist.mp4"}
    assert {row["path"] for row in rows} == bad
    assert next(row["reason"] for row in rows if row["path"] == "sound.mp4").startswith(
        "sound.mp4: no video stream"
    )
    assert all(name in result.output for name in bad)
    facts = {row["path"]: row for row in json.loads(run(folder, "--json").stdout)}
    assert set(facts) == bad | {"good.mp4", "sub/good.mkv"}
    assert (facts["good.mp4"]["frames"], facts["good.mp4"]["fps"]) == (30, 25)
    assert (facts["sub/good.mkv"]["width"], facts["sub/good.mkv"]["height"]) == (64, 48)


def test_all_good(tmp_path, run):
    (tmp_path / "notes.txt").touch()
    write_numbered(tmp_path / "one.mp4", 5)
    write_numbered(tmp_path / "two.mp4", 7)
    result = run(tmp_path, "--workers", 2, "-o", "bad_videos.csv")
    assert result.exit_code == 0
    assert not Path("bad_videos.csv").exists()
    assert "2 videos, 12 frames, all good" in result.output
    assert "files that are not videos are ignored: 1 .txt" in result.output
    assert "1 video, 5 frames" in run(tmp_path / "one.mp4").output
    assert run(tmp_path / "gone").exit_code == 2


def test_what_takes_too_long_is_named(tmp_path):
    write_numbered(tmp_path / "one.mp4", 5)
    (found,) = check_videos(tmp_path, workers=1, limits=Limits(seconds=0.0))
    assert (found.reason, found.path) == ("not decoded within 0 s", "one.mp4")


def test_shards_are_checked_member_by_member(digits_folder, tmp_path, run):
    folder = shutil.copytree(digits_folder / "shards", tmp_path / "shards")
    assert "220 videos" in run(folder).output
    index = json.loads((folder / "index.json").read_text())
    shard = index["shards"][0]
    sample = shard["samples"][5]
    offset, size, _ = sample["members"]["mp4"]
    data = bytearray((folder / shard["file"]).read_bytes())
    data[offset + size // 2] ^= 1
    (folder / shard["file"]).write_bytes(data)
    result = run(folder, "-o", "bad_videos.csv")
    assert result.exit_code == 3
    assert "1 of 220 videos are bad" in result.output
    assert sample["key"] in result.output
    assert "sha256 differs" in Path("bad_videos.csv").read_text()


def test_members_beside_the_videos_are_checked_too(digits_folder, tmp_path, run):
    folder = shutil.copytree(digits_folder / "shards", tmp_path / "shards")
    index = json.loads((folder / "index.json").read_text())
    shard = index["shards"][0]
    for number, suffix in ((3, "cls"), (4, "json")):
        offset, size, _ = shard["samples"][number]["members"][suffix]
        data = bytearray((folder / shard["file"]).read_bytes())
        data[offset + size // 2] ^= 1
        (folder / shard["file"]).write_bytes(data)
    result = run(folder)
    assert result.exit_code == 3
    assert "2 of 220 videos are bad" in result.output
    assert f"{shard['samples'][3]['key']}.cls: sha256 differs" in " ".join(result.output.split())


def test_shards_are_checked_over_http_too(digits_folder, run):
    with serving(digits_folder / "shards") as (address, _):
        assert "220 videos" in run(address).output
        gone = run(f"{address}/nowhere")
    assert gone.exit_code in (3, 5)
    assert f"{address}/nowhere" in " ".join(gone.output.split())


def index_first(file, tmp_path):
    """Writes the same packets with the index before them."""
    path = tmp_path / "first.mp4"
    with av.open(io.BytesIO(file)) as source, av.open(
        str(path), "w", options={"movflags": "faststart"}
    ) as target:  # fmt: skip
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("layout", ["index at the end", "index first", "avi", "matroska", "fragments"])
def test_a_cut_file_is_refused_or_decodes_as_the_original(layout, tmp_path):
    """RELIABILITY: reject unless the decoded frames equal the original's bit for bit."""
    options = {"avi": {"codec": "mpeg4", "container": "avi"}, "matroska": {"container": "matroska"}}
    if layout == "fragments":
        options[layout] = {"muxer": {"movflags": "frag_keyframe+empty_moov"}}
    whole = encode(numbered_frames(40), **options.get(layout, {}), g=10)
    if layout == "index first":
        whole = index_first(whole, tmp_path)
    frames = decoded(whole)
    for length in (*(len(whole) * percent // 100 for percent in (25, 50, 80, 95, 99)), len(whole) - 1):
        cut = whole[:length]
        with contextlib.suppress(BadVideo):
            assert inspect(cut, name="cut").frames == 40, length
            assert np.array_equal(decoded(cut), frames), length


def decoded(file):
    with Video(file) as video:
        return video.read(np.arange(video.frames))


@pytest.mark.parametrize(
    "container",
    ["mp4", pytest.param("avi", marks=pytest.mark.slow), pytest.param("matroska", marks=pytest.mark.slow)],
)
def test_mutations_end_in_facts_or_in_a_reason(container):
    whole = encode(numbered_frames(12), container=container, codec="mpeg4")
    rng = np.random.default_rng(0)
    mutated = []
    for _ in range(150):
        file = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(len(file), size=rng.integers(1, 30))
        file[where] = rng.integers(256, size=len(where))
        mutated.append(file.tobytes())
    found = list(isolated_map(partial(inspect, name="x"), mutated, limits=Limits(seconds=20)))
    reasons = [answer.reason for answer in found if isinstance(answer, Fault)]
    assert reasons
    assert not [reason for reason in reasons if "crashed" in reason or "not decoded within" in reason]
    assert all(reason.startswith("x: ") for reason in reasons)


@pytest.mark.parametrize(("student", "aspect"), [("p3d_tiny", 8), ("v4d_tiny", 8)])
def test_clips_to_look_at(digits_folder, run, student, aspect):
    from PIL import Image

    options = ("--student", student, "--set", "clip.size=32", "--set", "augment.rand_augment=2")
    result = run(digits_folder, "--browse", 3, *options)
    assert result.exit_code == 0, result.output
    pictures = sorted(Path("browse").iterdir())
    assert len(pictures) == 3
    assert all("_" in path.stem for path in pictures)  # named by class: digit and motion
    with Image.open(pictures[0]) as picture:
        assert picture.width > (aspect - 0.5) * picture.height
