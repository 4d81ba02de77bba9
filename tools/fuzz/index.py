"""`index.json` of shards: every key of it, beside a shard as it was written. Opened, and every video read."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.edits import dumps, edited_bytes, edited_json
from fuzz.outcome import Outcome, of_call

TEXTS = ("train", "mp4", "cls", "0/1.tar", "../x.tar", "pipe:id.tar", "unlabelled")


class Files:
    """See `fuzz.outcome.Target`."""

    attack = "index.json: keys, labels, offsets, sizes and names changed; opened, every member read"
    suffix = ".json"

    def __init__(self, place: Path) -> None:
        self.folder = place / "shards"
        if not self.folder.exists():
            write_shards(self.folder)

    def cases(self) -> SearchStrategy[bytes]:
        """Returns indices with a few changes, most without the digest that would give each away."""
        content = (self.folder / "index.json").read_bytes()
        document = {**json.loads(content), "digest": ""}
        changed = edited_json(document, texts=TEXTS).map(
            lambda new: dumps(new).encode("utf-8", "surrogatepass")
        )
        return st.one_of(changed, changed, edited_bytes([content], most=3))

    def attempt(self, case: Path) -> Outcome:
        """Opens every split of the shards with this index."""
        with tempfile.TemporaryDirectory(dir=case.parent) as place:
            folder = Path(place) / "shards"
            shutil.copytree(self.folder, folder)
            shutil.copyfile(case, folder / "index.json")
            return of_call(lambda: read_all(folder))


def read_all(place: str | Path) -> None:
    """Opens every split of shards, and reads every member."""
    from transfer3d.data.shards import ShardVideos
    from transfer3d.data.source import open_shards

    opened = open_shards(place)
    if opened is None:
        return
    store, index = opened
    for split in index.counts:
        videos = ShardVideos(store, index, split=split, labelled=bool(index.classes))
        for number in range(min(len(videos), 4)):
            videos.open(number)
            videos.check_others(number)


def write_shards(folder: Path) -> None:
    """Writes a shard of four videos of two classes."""
    from fuzz.checkpoints import write_video
    from fuzz.outcome import of_command

    videos = folder.parent / "class_folders"
    for name in ("jump/1", "jump/2", "wave/1", "wave/2"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(videos / f"{name}.mp4")
    done = of_command("shard", str(videos), "-o", str(folder), "--name", "x")
    if done.verdict != "read":
        raise RuntimeError(done.detail)
