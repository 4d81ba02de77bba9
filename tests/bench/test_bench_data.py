"""`transfer3d bench data`: the baselines decode the same frames; missing decoders are reported."""

import importlib.util
import json
from functools import partial

import pytest
from media import write_numbered
from typer.testing import CliRunner

from transfer3d.bench import data
from transfer3d.bench.data import _sequential
from transfer3d.bench.videos import bench_videos, clips_of
from transfer3d.cli.main import app
from transfer3d.data.decode import Video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    for number in range(2):
        write_numbered(root / f"{number}.mp4", 60 + number, bf=2, g=20)
    return root


def test_the_baseline_decodes_the_same_frames(folder):
    for clip in clips_of(bench_videos(folder, folder)):
        with Video(clip.path) as video:
            assert (video.read(clip.indices) == _sequential(clip)).all()
        assert len(clip.indices) == 16


@pytest.mark.slow
def test_the_command(folder, monkeypatch):
    monkeypatch.setattr(data, "clips_of", partial(clips_of, count=4))
    monkeypatch.setattr(data, "BATCHES", 2)
    done = CliRunner().invoke(app, ["bench", "data", "--data", str(folder), "--pairs", "1", "--json"])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    rows = {row["baseline"]: row for row in results}
    for name in ("torchcodec", "decord"):
        row = rows[f"{name}, 1 thread"]
        assert (row["skipped"] is None) == (importlib.util.find_spec(name) is not None)
    measured = [row for row in results if row["skipped"] is None]
    assert len(measured) >= 5
    assert all(row["ratio"] > 0 for row in measured)
    assert rows["PyAV from the start to the clip's end"]["difference"] == 0
    wrong = CliRunner().invoke(app, ["bench", "data", "--data", str(folder), "--only", "nothing"])
    assert (wrong.exit_code, "no case contains 'nothing'" in wrong.output) == (2, True)
