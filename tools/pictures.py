"""Makes the pictures of the documentation: runs on the built-in digits, and pages as Chromium shows them.

What a command left in `build/pictures` is kept: `make clean` removes it. Without Chromium the pictures of
pages stay as they are.
"""

from __future__ import annotations

import html
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from transfer3d.data.moving_digits import CLASSES, FPS, SynthConfig, draw_video, encode_mp4

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WORK = ROOT / "build" / "pictures"


class View(NamedTuple):
    """What a picture shows of a page.

    Attributes:
        page: its file.
        width: pixels of CSS.
        height: likewise.
        dark: whether the reader prefers dark pages.
        sections: the page is shown once from the top of each of these, side by side; "" = of the page.
    """

    page: str
    width: int
    height: int
    dark: bool = False
    sections: tuple[str, ...] = ("",)


TUNE = "finetune p3d_tiny --data digits/shards --recipe demo/tiny-finetune --set max_steps=250"
COMMANDS = {
    "digits/shards/index.json": "synth digits --train 12 --val 2 --test 6 --unlabelled 1 --size 48",
    "runs/tuned/model.safetensors": f"{TUNE} -o runs/tuned",
    "runs/mirrored/model.safetensors": f"{TUNE} --set augment.flip=true -o runs/mirrored",
    "report.html": "report runs/tuned -o report.html",
    "comparison.html": "report runs/tuned runs/mirrored -o comparison.html",
    "test.safetensors": "features runs/tuned/model.safetensors --data digits/shards --split test --clips 1 "
    "-o test.safetensors",
    "tsne.png": "tsne test.safetensors -o tsne.png",
    "cam/test-000013.gif": "cam runs/tuned/model.safetensors "
    "digits/videos/test/3_left/test-000013.mp4 -o cam",
    "deepdraw.png": "deepdraw runs/tuned/model.safetensors --class 1_left -o deepdraw.gif",
    "inflated.safetensors": "inflate test_resnet --to r3d --weights none --frames 8 --size 32 "
    "-o inflated.safetensors",
    "runs/inflated/model.safetensors": "finetune inflated.safetensors --data digits/shards "
    "--recipe demo/tiny-finetune --set max_steps=100 -o runs/inflated",
    "kernels.png": "kernels runs/inflated/model.safetensors -o kernels.png",
    "order.png": "order runs/tuned/model.safetensors --data digits/shards -o order.png",
    "timeline.png": "predict runs/tuned/model.safetensors joined.mp4 --timeline --window 1 "
    "--plot timeline.png",
    "seen.mp4": "predict runs/tuned/model.safetensors joined.mp4 --window 1 --save-video seen.mp4",
}
"""Arguments of transfer3d, in order, by what each leaves."""
COPIES = {
    **{name: name for name in ("tsne.png", "deepdraw.png", "kernels.png", "order.png", "timeline.png")},
    "cam.png": "cam/test-000013.png",
    "cam.gif": "cam/test-000013.gif",
}
"""Pictures that a command draws, and where it leaves them."""
PAGES = {
    "report.png": View("report.html", 1280, 1400),
    "report-phone.png": View("report.html", 390, 1000, True, ("", "Confusion", "Class activation maps")),
    "comparison.png": View("comparison.html", 1280, 1400),
}
"""Pictures of pages."""
FILM = "seen.png"
MADE = {*COPIES, *PAGES, FILM}
ELSEWHERE = {
    "correspondence-curves.png": "tools/correspondence_curves.py",
    "demo.png": "transfer3d demo",
    "label_curve.png": "tools/transfer_result.py",
}
"""Pictures of the documentation that come from other commands, copied from what these leave."""

JOINED = ("0_down", "0_right", "3_left", "1_right", "0_down", "7_down", "2_left")
SECONDS = 6  # of each
MOMENT = 0.55  # of the film: where its picture is taken
LARGE = 250_000  # bytes
GAP = 20  # pixels between views of a page
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


def run_commands() -> None:
    """Runs what has not left its file yet."""
    for left, arguments in COMMANDS.items():
        if (WORK / left).exists():
            continue
        print(f"transfer3d {arguments}", flush=True)
        command = [sys.executable, "-m", "transfer3d", *shlex.split(arguments)]
        failed = subprocess.run(command, cwd=WORK, check=False).returncode
        if failed:
            sys.exit(failed)  # the command has said why


def join_digits(path: Path) -> None:
    """Writes a film in which one class follows another."""
    config = SynthConfig(seed=1, frames=SECONDS * FPS, size=48)
    parts = [draw_video(config, "test", CLASSES.index(name)).frames for name in JOINED]
    path.write_bytes(encode_mp4(np.concatenate(parts), fps=FPS))


def film_frame(path: Path) -> Image.Image:
    """Returns the frame of a film at `MOMENT`."""
    with av.open(path) as film:
        frames = [frame.to_image() for frame in film.decode(video=0)]
    return frames[int(MOMENT * len(frames))]


def page_views(browser: str, view: View) -> Image.Image:
    """Returns a picture of a page, which is in frames, since a window has a least width."""
    page, width, height = WORK / view.page, view.width, view.height
    found = re.findall(r'<section id="(\w+)"><h2>(.*?)</h2>', page.read_text(encoding="utf-8"))
    numbers = {html.unescape(title): name for name, title in found}
    frames = "".join(
        f'<iframe src="{page.as_uri()}{f"#{numbers[section]}" if section else ""}"></iframe>'
        for section in view.sections
    )
    outer, picture, profile = (page.with_name(f"views{ending}") for ending in (".html", ".png", ".profile"))
    outer.write_text(
        f"<!doctype html><style>body {{ margin: 0; display: flex; gap: {GAP}px; background: #808080; }}"
        f"iframe {{ width: {width}px; height: {height}px; border: 0; flex: none; }}</style>{frames}",
        encoding="utf-8",
    )
    whole = width * len(view.sections) + GAP * (len(view.sections) - 1)
    options = (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", f"--user-data-dir={profile}",
        f"--blink-settings=preferredColorScheme={0 if view.dark else 1}",
        f"--window-size={max(whole, 600)},{height + 200}", "--virtual-time-budget=10000",
    )  # fmt: skip
    command = [browser, *options, f"--screenshot={picture}", outer.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    shutil.rmtree(profile, ignore_errors=True)
    with Image.open(picture) as shown:
        return shown.crop((0, 0, whole, height))


def png(picture: Image.Image) -> bytes:
    """Returns a PNG, of 256 colours where it would be large."""
    picture, file = picture.convert("RGB"), io.BytesIO()
    picture.save(file, "png", optimize=True)
    if file.tell() > LARGE:
        file = io.BytesIO()
        picture.quantize(256, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


def make_pages(folder: Path) -> list[str]:
    """Writes the pictures of pages into a folder and returns their names; none without Chromium."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        print(f"no Chromium here: {', '.join(PAGES)} stay as they are")
        return []
    for name, view in PAGES.items():
        (folder / name).write_bytes(png(page_views(browser, view)))
    return list(PAGES)


def main() -> None:
    """Makes all pictures of `MADE`."""
    WORK.mkdir(parents=True, exist_ok=True)
    join_digits(WORK / "joined.mp4")
    run_commands()
    for name, left in COPIES.items():
        drawn = (WORK / left).read_bytes()
        picture = png(Image.open(io.BytesIO(drawn))) if name.endswith(".png") else drawn
        (IMAGES / name).write_bytes(picture)
    (IMAGES / FILM).write_bytes(png(film_frame(WORK / "seen.mp4")))
    made = [*COPIES, FILM, *make_pages(IMAGES)]
    print(f"wrote {len(made)} pictures to {IMAGES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
