"""The manifest of a run, for its report: the machine and the videos."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from transfer3d.data.source import VideoSet
from transfer3d.engine.run_folder import STARTED
from transfer3d.files import sha256_file, write_text
from transfer3d.run.environment import describe
from transfer3d.run.training.recipe_options import CHECKPOINTS
from transfer3d.run.training.session import Session


def write_manifest(session: Session, videos: VideoSet, held_out: VideoSet | None) -> None:
    """Writes `started.json` into the run folder, on the main process; a resumed run overwrites it.

    Args:
        session: the open session.
        videos: the training videos.
        held_out: the validation videos.
    """
    if session.folder is None:
        return
    counts = Counter(label for labels in videos.label_sets for label in labels)
    data = {
        "videos": len(videos),
        "classes": {name: counts[label] for label, name in enumerate(videos.classes)} if counts else {},
        "held_out": len(held_out) if held_out else 0,
        "dropped": [[dropped.path, dropped.reason] for dropped in videos.dropped],
        "digest": videos.digest,
    }
    files = {
        key: sha256_file(Path(path))
        for key in CHECKPOINTS
        if (path := getattr(session.recipe, key)) and Path(path).is_file()
    }
    manifest = {"environment": _environment(session), "data": data, "files": files}
    write_text(session.path / STARTED, json.dumps(manifest, indent=2) + "\n")


def _environment(session: Session) -> dict[str, Any]:
    """Returns the report's description of the machine, without names of users, hosts or folders."""
    machine = describe()
    versions, hardware = machine["versions"], machine["hardware"]
    cuda = hardware["cuda devices"]
    device = f"CPU, {hardware['cpu capability']}" if cuda == "none" else ", ".join(cuda)
    packages = ("python", "torch", "torchvision", "timm", "accelerate", "av", "numpy")
    return {
        "started": time.strftime("%F %T %z"),
        "device": device,
        "processes": session.accelerator.num_processes,
        "machine": hardware["machine"],
        "transfer3d": versions["transfer3d"],
        **{name: versions[name] for name in packages},
        "cuda, cudnn": "not used" if cuda == "none" else f"{hardware['cuda']}, {hardware['cudnn']}",
    }
