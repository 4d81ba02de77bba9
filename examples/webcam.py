"""What a camera shows, named while it shows it: `python webcam.py model.safetensors [/dev/video0 or a.mp4]`.

Frames come through PyAV, which transfer3d needs anyway. `--show` opens a window if OpenCV is installed.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

import transfer3d

CAMERAS = {
    "linux": ("v4l2", "/dev/video0"),
    "darwin": ("avfoundation", "0"),
    "win32": ("dshow", "video=Integrated Camera"),  # its name: ffmpeg -list_devices true -f dshow -i dummy
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="checkpoint with a classifier")
parser.add_argument("camera", nargs="?", help="device, or a video file; default: the first camera")
parser.add_argument("--window", type=float, default=2.0, help="seconds that a prediction looks back")
parser.add_argument("--stride", type=float, default=0.5, help="seconds from one prediction to the next")
parser.add_argument("--show", action="store_true", help="show the frames, by OpenCV; q ends")
options = parser.parse_args()
shown = ""  # what the last prediction said


def camera_frames() -> Iterator[tuple[float, Any]]:
    """Yields each frame, RGB uint8 [H, W, 3], with its time in seconds."""
    driver, first = CAMERAS[sys.platform]
    camera = options.camera or first
    with av.open(camera, format=None if Path(camera).is_file() else driver) as container:
        while True:
            try:
                for frame in container.decode(video=0):
                    pixels = frame.to_ndarray(format="rgb24")
                    if options.show and not show(pixels):
                        return
                    yield frame.time, pixels
                return
            except BlockingIOError:  # macOS: the next frame is not there yet
                time.sleep(0.005)


def show(pixels: Any) -> bool:
    """Shows a frame and the last prediction; false when q was pressed."""
    import cv2

    picture = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    cv2.putText(picture, shown, (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    cv2.imshow("transfer3d", picture)
    return cv2.waitKey(1) != ord("q")


student = transfer3d.load(options.model)
names = student.class_names or [f"class {number}" for number in range(student.num_classes)]
for seen in transfer3d.stream(
    student, camera_frames(), window=options.window, stride=options.stride, clips=1
):
    best = int(seen.scores_K.argmax())
    shown = f"{names[best]} {seen.scores_K[best]:.0%}"
    print(f"{seen.end:8.1f} s  {shown}", flush=True)
