"""Run folders written by hand: what a training run leaves, without the training."""

import json
from html.parser import HTMLParser
from pathlib import Path

import transfer3d
from transfer3d.recipes.load import dump, load_recipe

CLASSES = ("0_left", "0_right", "1_left")


def rows(steps, **values):
    """Log rows of a metric that goes evenly from its first to its last value."""
    return [
        {"step": step, "split": "train", **{k: a + (b - a) * step / steps for k, (a, b) in values.items()}}
        for step in range(1, steps + 1)
    ]


def write_run(
    path: Path, *, recipe="demo/tiny-finetune", log=(), classes=CLASSES, made=True, done=True, **facts
):
    """Writes a run folder; `facts` are keys of the recipe."""
    path.mkdir(parents=True)
    resolved = load_recipe(recipe, **{"max_steps": 10, "precision": "fp32", "data": "gone/", **facts})
    (path / "recipe.toml").write_text(dump(resolved))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    if made:
        student = transfer3d.create_model("p3d_tiny", num_classes=len(classes))
        said = {
            "made_by": resolved.task,
            "parent": {"checkpoint": None, "model": "p3d_tiny"},
            "data_digest": "d1",
        }
        transfer3d.save(student, path / "model.safetensors", class_names=classes, provenance=said)
    if done:
        (path / "finished.json").write_text(json.dumps({"steps": 10, "metrics": {}}))
    return path


class Page(HTMLParser):
    """A page's tags, what they refer to, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.references, self._text = set(), [], []
        self._open = ""
        self.feed(html)
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open = tag
        self.references += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "action", "data", "srcset")
        ]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        if self._open != "style":
            self._text.append(data)

    def handle_endtag(self, tag):
        self._open = ""
