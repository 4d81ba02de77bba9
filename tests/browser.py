"""A headless Chromium that opens pages, where the machine has one."""

import html
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT = "--virtual-time-budget=30000"
"""Milliseconds of the page's own clock, which runs as fast as it can, for what a script waits for."""
DARK, LIGHT = 0, 1  # as the browser's settings count them


def find_chromium() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or pytest.skip("no Chromium on this machine")


def find_axe() -> Path:
    """Returns axe-core's script, where npm has installed it (`npm install --global axe-core`)."""
    named = os.environ.get("TRANSFER3D_AXE")
    if named:
        return Path(named)
    npm = shutil.which("npm")
    if npm:
        root = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=False).stdout
        script = Path(root.strip(), "axe-core", "axe.min.js")
        if script.is_file():
            return script
    return pytest.skip("no axe-core on this machine: `npm install --global axe-core`")


def open_page(path, *, dark=False) -> str:
    """Returns the page's DOM as it is after loading."""
    profile = path.parent / f"profile-{path.stem}"
    scheme = f"--blink-settings=preferredColorScheme={DARK if dark else LIGHT}"
    command = [
        find_chromium(),
        *OPTIONS,
        scheme,
        f"--user-data-dir={profile}",
        WAIT,
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    shutil.rmtree(profile, ignore_errors=True)
    return done.stdout


def measure(page: str, script: str, folder, *, width: int, dark=False):
    """Returns what a JavaScript function finds in a page that is shown `width` pixels wide.

    The page is in a frame, since a window has a least width; the script looks at it from outside.

    Args:
        page: HTML.
        script: of a function of the page's window; it may return a promise.
        folder: for the file that is opened.
        width: pixels of CSS.
        dark: whether the reader prefers dark pages.
    """
    outer = folder / f"outer-{width}-{dark}.html"
    outer.write_text(
        f'<!doctype html><meta charset="utf-8"><pre id="found"></pre>'
        f'<iframe id="page" style="width:{width}px;height:800px;border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
        f"<script>onload = async () => {{ document.getElementById('found').textContent = "
        f"JSON.stringify(await ({script})(document.getElementById('page').contentWindow)) }}</script>",
        encoding="utf-8",
    )
    dom = open_page(outer, dark=dark)
    return json.loads(html.unescape(dom.split('<pre id="found">')[1].split("</pre>")[0]))
