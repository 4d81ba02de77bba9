"""Decoding in a child: the same frames, and files that crash it, hang it or fill its memory."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from media import encode, numbered_frames, numbers, write_numbered
from misopening import MisopenedVideo

from transfer3d.data import decode_server, isolated
from transfer3d.data.child import Limits
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video
from transfer3d.data.decode_server import CHUNK_BYTES
from transfer3d.data.decoder import Decoder


@pytest.fixture(scope="module")
def data():
    return encode(numbered_frames(40), bf=2, g=12)


@pytest.fixture
def decoder():
    made = Decoder(Limits(seconds=2.0, memory_gib=1.0), MisopenedVideo)
    yield made
    made.close()


def children():
    # The server that children are forked from stays.
    return [p for p in psutil.Process().children(recursive=True) if len(p.cmdline()) and not p.children()]


def test_a_child_whose_parent_was_killed_ends_without_a_traceback(monkeypatch):
    """At its start, when it says that it is ready."""
    for module in (decode_server, isolated):
        monkeypatch.setattr(module, "ignore_signals", lambda: None)
        monkeypatch.setattr(module, "write_no_core", lambda: None)
    monkeypatch.setattr(isolated, "MemoryLimit", lambda gib: None)
    for serve, work in ((decode_server.serve, (Limits(), Video)), (isolated._serve, (len, Limits()))):
        ours, theirs = multiprocessing.Pipe()
        ours.close()
        serve(theirs, *work)


def test_it_gives_what_a_video_here_gives(data, tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    for source in (data, path, Path("a.mp4")):
        with decoder.open(source) as there, Video(source) as here:
            assert (there.frames, there.fps) == (here.frames, here.fps)
            np.testing.assert_array_equal(there.seconds(), here.seconds())
            for indices, side in (([3, 3, 0, 39], None), ([5], 16)):
                ours = there.read(np.array(indices), short_side=side)
                theirs = here.read(np.array(indices), short_side=side)
                np.testing.assert_array_equal(ours, theirs)
                assert (ours.dtype, ours.flags.writeable) == (theirs.dtype, theirs.flags.writeable)
            np.testing.assert_array_equal(list(there.stream(short_side=24)), list(here.stream(short_side=24)))
    decoder.close()


def test_frames_that_were_read_before_are_left_alone(data):
    decoder = Decoder()
    with decoder.open(data) as video:
        first = video.read(np.arange(10))
        video.read(np.arange(10, 20))
        assert numbers(first) == list(range(10))
    decoder.close()


def test_large_frames_stream_in_several_chunks():
    height = 4096
    assert height * 64 * 3 * 12 > 2 * CHUNK_BYTES
    decoder = Decoder()
    with decoder.open(encode(numbered_frames(12, height=height))) as video:
        assert numbers(np.stack(list(video.stream()))) == list(range(12))
    decoder.close()


def test_two_videos_and_two_streams_at_a_time(data):
    decoder = Decoder()
    other = encode(numbered_frames(30)[10:])
    with decoder.open(data) as one, decoder.open(other) as two:
        assert (one.frames, two.frames) == (40, 20)
        assert numbers(one.read(np.array([7]))) == [7]
        assert numbers(two.read(np.array([7]))) == [17]
        found = [numbers(np.stack(pair)) for pair in zip(one.stream(), two.stream(), strict=False)]
        assert found == [[n, n + 10] for n in range(20)]
    decoder.close()


def test_threads_may_share_one(data):
    decoder, wrong = Decoder(), []

    def work(first):
        for n in range(first, first + 8):
            with decoder.open(data) as video:
                if numbers(video.read(np.array([n]))) != [n]:
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    decoder.close()


@pytest.mark.parametrize("place", ["open", "read", "stream"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("crash", "SIGSEGV"), ("exit", "exit 3"), ("hang", "no progress for 2 s"), ("memory", "limit is 1 GiB")],
)
def test_what_goes_wrong_costs_its_own_video_only(decoder, data, fault, reason, place):
    name = f"{fault} in {place}"
    started = time.monotonic()

    def use():
        with decoder.open(data, name=name) as video:
            video.read(np.array([0]))
            list(video.stream())

    with pytest.raises(BadVideo, match=f"^{name}: .*{reason}"):
        use()
    assert time.monotonic() - started < 15
    with decoder.open(data, name="fine") as video:
        assert numbers(video.read(np.array([39]))) == [39]


def test_a_bug_in_the_child_is_a_bug_here(decoder, data):
    with (
        pytest.raises(RuntimeError, match="ZeroDivisionError"),
        decoder.open(data, name="bug in read") as video,
    ):
        video.read(np.array([0]))
    with decoder.open(data, name="fine") as video, pytest.raises(RuntimeError, match="IndexError"):
        video.read(np.array([40]))


def test_bad_videos_are_named_as_here(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(BadVideo) as here:
        Video(path, name="text.mp4")
    with pytest.raises(BadVideo) as there, Decoder().open(path, name="text.mp4"):
        pass
    assert str(there.value) == str(here.value)


def test_a_video_that_fails_in_a_used_child_is_tried_once_more_in_a_fresh_one(decoder, data):
    with decoder.open(data, name="fine"):
        pass
    with decoder.open(data, name="crash when used") as video:
        assert numbers(video.read(np.array([39]))) == [39]


def test_work_that_takes_longer_than_the_limit_but_goes_on_is_let_go_on(decoder, data):
    with decoder.open(data, name="slow") as video:
        assert numbers(video.read(np.array([1]))) == [1]


def test_one_child_opens_many_videos_and_ends_with_its_decoder(data):
    before = {p.pid for p in children()}
    decoder = Decoder()
    for _ in range(5):
        with decoder.open(data) as video:
            video.read(np.array([0]))
    started = [p for p in children() if p.pid not in before]
    assert len(started) == 1
    del decoder, video
    assert not psutil.pid_exists(started[0].pid) or started[0].status() == psutil.STATUS_ZOMBIE


def test_the_child_loads_no_torch(data):
    decoder = Decoder()
    with decoder.open(data):
        pass
    maps = Path(f"/proc/{decoder._child.process.pid}/maps").read_text()
    assert "libavcodec" in maps
    assert "libtorch" not in maps
    decoder.close()


def decode_in_worker(queue, decoder, data):
    with decoder.open(data) as video:
        queue.put((numbers(video.read(np.array([9]))), len(psutil.Process().children())))


def test_a_worker_that_may_have_no_children_decodes_itself(data):
    decoder = Decoder()
    with decoder.open(data):
        pass  # the copy that is forked has a child that is not its own
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=decode_in_worker, args=(queue, decoder, data), daemon=True)
    process.start()
    assert queue.get(timeout=60) == ([9], 0)
    process.join()
    with decoder.open(data) as video:
        assert numbers(video.read(np.array([9]))) == [9]
    assert isinstance(pickle.loads(pickle.dumps(decoder)), Decoder)
    decoder.close()


SCRIPT = """
print("started")
from pathlib import Path
from transfer3d.data.video_list import VideoList
from transfer3d.data.decoder import Decoder
videos = VideoList([Path("a.mp4")])
decoder = Decoder()
with decoder.open(videos.open(0)) as video:
    print(len(videos), video.frames)
"""


def test_a_plain_script_works_in_a_folder_that_holds_anything(tmp_path):
    """It has no `if __name__ == "__main__"`, and ends with its decoder open; `av.py` is not imported."""
    write_numbered(tmp_path / "here" / "a.mp4", 6)
    (tmp_path / "here" / "av.py").write_text("open('imported', 'w')\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        cwd=tmp_path / "here", env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["started", "1", "6"], "")
    assert not (tmp_path / "here" / "imported").exists()
