"""A frame of 8192x8192 is refused before memory is taken for it."""

import subprocess
import sys

import av
import numpy as np

SIDE = 8192
CHILD = """
import resource, sys
from pathlib import Path
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

with Video(Path(sys.argv[1])) as video:  # a small one: libraries are loaded now
    video.read([0])
before = peak_mib()
try:
    with Video(Path(sys.argv[2])) as video:
        video.read([0])
except BadVideo as fault:
    print(peak_mib() - before, fault)
"""


def write(path, side):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((side * 3 // 2, side), 128, np.uint8), format="yuv420p")
        file.mux([*stream.encode(frame), *stream.encode()])
    return path


def test_it_is_refused_and_takes_less_than_64_mib(tmp_path):
    small, huge = write(tmp_path / "small.mp4", 64), write(tmp_path / "huge.mp4", SIDE)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(small), str(huge)], capture_output=True, text=True, check=True
    )
    taken, reason = done.stdout.split(maxsplit=1)
    assert float(taken) < 64
    assert f"{SIDE}x{SIDE}" in reason
