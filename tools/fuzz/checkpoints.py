"""Checkpoints: their header, what it says of the network, and their tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.edits import dumps, edited_bytes, edited_json, rows
from fuzz.outcome import Outcome, of_command, worst

PREFIX = "transfer3d."
SPEC = {"depths": [1, 1, 1, 1], "kinds": ["basic"] * 4, "widths": [2, 2, 2, 2], "stem": [2]}
CLIP: dict[str, Any] = {"frames": 8, "size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
NAMES = ["zero", "one", "two"]
TEXTS = (
    *("p3d", "v4d", "f4d", "t3d", "i3d", "r3d_tiny", "t3d_densenet121", "no such student", "i3d_tiny"),
    *(
        "resnet18",
        "vit_tiny_patch16_224",
        "convnext_femto",
        "hf_hub:a/b",
        "basic",
        "bottleneck",
        "F32",
        "I64",
    ),
)


class Files:
    """See `fuzz.outcome.Target`."""

    attack = "checkpoints: metadata, shapes, offsets and bytes changed; info, export, predict"
    suffix = ".safetensors"

    def __init__(self, place: Path) -> None:
        self.example = place / "example.safetensors"
        self.video = place / "video.mp4"
        if not self.video.exists():
            write_example(self.example)
            write_video(self.video)

    def cases(self) -> SearchStrategy[bytes]:
        """Returns files with a changed description, changed bytes, or both."""
        document, body = read(self.example.read_bytes())
        edited = [
            edited_json(document[part], texts=TEXTS).map(lambda new, part=part: {**document, part: new})
            for part in ("parsed", "parsed", "plain", "tensors")
        ]
        described = st.one_of(*edited, self._arguments(document)).map(lambda changed: write(changed, body))
        return st.one_of(described, described, edited_bytes([self.example.read_bytes()], most=3))

    def _arguments(self, document: Any) -> SearchStrategy[Any]:
        """Returns documents with other arguments of a network, some of another family."""
        arguments = edited_json(document["parsed"]["transfer3d.model_args"], most=2, texts=TEXTS)
        models = st.sampled_from(("p3d", "p3d", "v4d", "f4d", "i3ds", "r3d", "t3d", "densenet3d", "i3d"))
        return st.builds(
            lambda model, new: {
                **document,
                "plain": {**document["plain"], "transfer3d.model": model},
                "parsed": {**document["parsed"], "transfer3d.model_args": new},
            },
            models,
            arguments,
        )

    def attempt(self, case: Path) -> Outcome:
        """Describes the file, uses it on a video, and writes it for the hub."""
        out = str(case.with_name("exported"))
        return worst(
            of_command("info", str(case)),
            of_command("export", str(case), "--format", "hub", "--force", "-o", out),
            of_command("predict", str(case), str(self.video), "--precision", "fp32", "--clips", "1"),
        )


def write_example(path: Path) -> None:
    """Writes a checkpoint of a few kilobytes."""
    import transfer3d
    from transfer3d.layout import ClipSpec

    clip = ClipSpec.from_dict(CLIP)
    student = transfer3d.create_model("p3d", 3, clip=clip, spec=SPEC, drop_rate=0.1)
    transfer3d.save(student, path, class_names=NAMES, provenance={"recipe": "none", "metrics": {"top1": 0.5}})


def write_video(path: Path) -> None:
    """Writes a video of twelve frames."""
    import numpy as np

    from transfer3d.data.transcode import encode_frames

    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    content, _ = encode_frames(iter(frames), [number / 25 for number in range(12)], gop=4)
    path.write_bytes(content)


def read(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns what a checkpoint's header says, in one document, and what follows it."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    plain = {
        key: text
        for key, text in metadata.items()
        if key in ("format", *map(named, ("version", "model", "digest")))
    }
    parsed = {key: json.loads(text) for key, text in metadata.items() if key not in plain}
    return {"plain": plain, "parsed": parsed, "tensors": header}, content[8 + length :]


def named(key: str) -> str:
    """Returns a key as it is in the file."""
    return PREFIX + key


def write(document: Any, body: bytes) -> bytes:
    """Writes the document of `read` back, whatever has become of it."""
    if isinstance(document, dict) and all(isinstance(v, dict) for v in document.values()):
        plain, parsed = document.get("plain", {}), document.get("parsed", {})
        strings = [(key, dumps(value)) for key, value in rows(plain)]
        strings += [(key, dumps(dumps(value))) for key, value in rows(parsed)]
        table = ", ".join(f"{dumps(key)}: {text}" for key, text in strings)
        tensors = [f"{dumps(key)}: {dumps(value)}" for key, value in rows(document.get("tensors", {}))]
        text = "{" + ", ".join([f'"__metadata__": {{{table}}}', *tensors]) + "}"
    else:
        text = dumps(document)
    header = text.encode("utf-8", "surrogatepass")
    return len(header).to_bytes(8, "little") + header + body
