"""The folder of a demo: one demo at a time, and nothing of others is removed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from transfer3d.errors import SetupError, UsageError
from transfer3d.files import LOCK, PARTIAL, Lock
from transfer3d.run.demo import MARKER, _claim

BEGUN = '{"started": "2026-11-29 12:00:00"}'
LEFT = f"{PARTIAL}{'0' * 32}-report.html"


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.proc
def test_a_second_demo_leaves_the_data_of_a_live_one(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "transfer3d", "demo", "-o", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        try:
            end = time.monotonic() + 300
            while not list(out.glob("data/images/val/*/*.png")):
                assert first.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            os.kill(first.pid, signal.SIGSTOP)  # so that what it has written can be compared
            before = tree(out)
            second = subprocess.run(command, capture_output=True, text=True, check=False)
            assert second.returncode == 5, second.stderr
            assert f"{out} is in use by pid {first.pid} on " in second.stderr
            assert tree(out) == before
        finally:
            first.kill()


@pytest.mark.parametrize("part", ["data", "finetune-scratch"])
def test_a_run_in_an_earlier_demo_is_not_removed_while_it_is_continued(tmp_path, part):
    (tmp_path / part).mkdir()
    (tmp_path / MARKER).write_text(BEGUN)
    for path in (tmp_path / part / "metrics.jsonl", tmp_path / LEFT):
        path.write_text("{}")
    held = Lock(tmp_path / part / LOCK, "the run")
    before = tree(tmp_path)
    with pytest.raises(SetupError, match=f"{part} is in use by pid"):
        _claim(tmp_path)
    assert tree(tmp_path) == before
    held.close()
    _claim(tmp_path).close()
    assert tree(tmp_path) == [MARKER]


@pytest.mark.parametrize("is_demo", [False, True])
def test_nothing_is_removed_beside_a_file_of_others(tmp_path, is_demo):
    for name in (LEFT, LOCK, "thesis.txt", *([MARKER] if is_demo else [])):
        (tmp_path / name).write_text(BEGUN)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"holds thesis\.txt" if is_demo else "not an earlier demo"):
        _claim(tmp_path)
    assert tree(tmp_path) == before


def test_what_a_killed_demo_left_is_replaced(tmp_path):
    (tmp_path / LOCK).write_text("pid 1")
    (tmp_path / LEFT).write_text("half")  # killed before it wrote its marker
    lock = _claim(tmp_path)
    assert tree(tmp_path) == [LOCK, MARKER]
    assert "started" in json.loads((tmp_path / MARKER).read_text())
    lock.close()


@pytest.mark.parametrize("content", ["{}", "[]", "", "[" * 5000, '{"started": "now", "port": 80}', None])
def test_a_demo_json_of_others_marks_no_demo(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    if content is None:
        (tmp_path / MARKER).mkdir()
    else:
        (tmp_path / MARKER).write_text(content)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="not an earlier demo"):
        _claim(tmp_path)
    assert tree(tmp_path) == before
