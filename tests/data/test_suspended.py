"""Ctrl-Z and fg: the time in which a run was suspended does not count against the video that it read."""

import os
import signal
import subprocess
import sys
import time

import pytest
from media import write_numbered
from misopening import PAUSE_S

START = """
import sys
from pathlib import Path

from misopening import MisopenedVideo, work

from transfer3d.data import workers
from transfer3d.data.child import Limits
from transfer3d.data.decoder import Decoder
from transfer3d.data.isolated import isolated_map
from transfer3d.data.pipeline import view_batches
from transfer3d.data.video_list import VideoList
from transfer3d.layout import ClipSpec

LIMITS = Limits(seconds=2.5)


class Pausing(MisopenedVideo):
    def __init__(self, source, *, name="", **hooks):
        super().__init__(source, name="pause in read", **hooks)


if __name__ == "__main__":
    path = Path(sys.argv[1])
"""
READERS = {
    "decoder": """
    with Decoder(LIMITS, MisopenedVideo).open(path, name="pause in read") as video:
        assert len(video.read(range(4))) == 4
""",
    "isolated": """
    assert [*isolated_map(work, ["pause in work"], limits=LIMITS)] == ["pause in work"]
""",
    "worker": """
    workers.LIMITS, workers.Video = LIMITS, Pausing
    batches = view_batches(VideoList([path]), ClipSpec(frames=4, stride=1, size=16), batch_size=1, workers=1)
    assert len([*batches]) == 1
""",
}


@pytest.mark.proc
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot suspend a process")
@pytest.mark.parametrize("reader", READERS)
def test_a_suspended_run_goes_on(tmp_path, reader):
    script = tmp_path / "run.py"
    script.write_text(START + READERS[reader])
    video = write_numbered(tmp_path / "a.mp4", 8)
    process = subprocess.Popen(
        [sys.executable, str(script), str(video)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "paused\n"
    time.sleep(PAUSE_S / 2)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4)
    os.killpg(process.pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
