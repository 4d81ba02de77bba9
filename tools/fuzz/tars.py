"""Webdatasets of others: tar files without an index. Read through, and every member that it lists."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.checkpoints import write_video
from fuzz.edits import edited_bytes
from fuzz.outcome import Outcome, of_call

KINDS = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.DIRTYPE,
    b"S",
    b"L",
)
NAMES = (
    "a.mp4",
    "a.cls",
    "a.json",
    "b.mp4",
    "b.MP4",
    "b.cls",
    "./b.json",
    "../x.mp4",
    "/x.mp4",
    "x.pyd",
    "a.b.mp4",
)
LINKS = ("", "a.mp4", "/etc/passwd", "../../x")
CONTENTS = (
    b"",
    b"0",
    b"7",
    b"-1",
    b"jump",
    b"\xff",
    b'{"label": 1}',
    b'{"label": [1]}',
    b"[" * 90_000,
    b"9" * 9000,
)


class Files:
    """See `fuzz.outcome.Target`."""

    attack = "tar files: headers, links, names, labels and bytes changed; read as a webdataset"
    suffix = ".tar"

    def __init__(self, place: Path) -> None:
        video = place / "video.mp4"
        if not video.exists():
            write_video(video)
        content = video.read_bytes()
        members = [
            ("a.mp4", content),
            ("a.cls", b"0"),
            ("b.mp4", content),
            ("b.json", json.dumps({"label": 1}).encode()),
        ]
        self.examples = [
            _tar([(name, tarfile.REGTYPE, "", data) for name, data in members], kind) for kind in FORMATS
        ]

    def cases(self) -> SearchStrategy[bytes]:
        """Returns whole tar files with odd members, and damaged ones."""
        member = st.tuples(
            st.sampled_from(NAMES) | st.text(max_size=20),
            st.sampled_from(KINDS),
            st.sampled_from(LINKS),
            st.sampled_from(CONTENTS) | st.binary(max_size=40),
        )
        odd = st.builds(_tar, st.lists(member, min_size=1, max_size=5), st.sampled_from(FORMATS))
        return st.one_of(odd, edited_bytes(self.examples))

    def attempt(self, case: Path) -> Outcome:
        """Opens the file as a set of videos, and reads each."""
        return of_call(lambda: _read(case))


FORMATS = (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)


def _read(path: Path) -> None:
    from transfer3d.data.source import open_videos

    videos = open_videos(path, split="train", labelled=False)
    for index in range(len(videos)):
        videos.open(index)


def _tar(members: list[tuple[str, bytes, str, bytes]], kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind, errors="replace", encoding="utf-8") as tar:
        for name, what, link, content in members:
            entry = tarfile.TarInfo(name.encode("utf-8", "replace").decode() or "x")
            entry.type, entry.linkname, entry.size = what, link, len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()
