"""Recipes: every key with odd values, odd TOML, and `--set`, in lines that begin with `#set `."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.edits import edited_bytes, edited_json
from fuzz.outcome import Outcome, of_call, of_command, worst

NAMES = ("demo/tiny-finetune", "demo/correspond")
SETS = (
    *("lr=nan", "lr=-inf", "lr=1e999", "max_steps=1e3", "max_steps=" + "9" * 5000, "max_steps=" + "[" * 5000),
    *(
        "=1",
        ".=1",
        "a..b=1",
        "lr.x=1",
        "clip.frames=0",
        "clip.crop=[1]",
        "clip.size=99999999",
        "x" * 9000 + "=1",
    ),
    *(
        ".".join(["a"] * 5000) + "=1",
        "student_args." + ".".join(["a"] * 3000) + "=1",
        "stages.a.b=1",
        "stages.=1",
    ),
    *(
        "student_args.in_chans=abc",
        "student_args.stages=3",
        "student=''",
        "teacher='../x'",
        "augment=1",
        "seed=-1",
    ),
    *(
        "student_args.a=1979-05-27",
        "stages={a={lr=1979-05-27}}",
        "student='hf_hub:../..'",
        "extends='x'",
        "lr='\\u0000'",
    ),
)


class Files:
    """See `fuzz.outcome.Target`."""

    attack = "recipes: keys, values and TOML changed, odd --set; shown and validated"
    suffix = ".toml"

    def __init__(self, place: Path) -> None:
        from transfer3d.recipes.load import dump, load_recipe

        self.recipes = [load_recipe(name) for name in NAMES]
        self.texts = [dump(recipe) for recipe in self.recipes]

    def cases(self) -> SearchStrategy[bytes]:
        """Returns recipes with changed values, damaged text, or odd `--set`."""
        import tomllib

        documents = [
            tomllib.loads(text) | {"stages": {"a": {"lr": 0.1}}, "student_args": {"c_scale": 1.0}}
            for text in self.texts
        ]
        changed = st.one_of(
            [
                edited_json(document, texts=("p3d_tiny", "resnet18", "cosine")).map(_toml)
                for document in documents
            ]
        )
        damaged = edited_bytes([text.encode() for text in self.texts], most=4)
        key = st.sampled_from(sorted(type(self.recipes[0]).model_fields)) | st.text(max_size=10)
        sets = st.sampled_from(SETS) | st.builds(
            lambda k, v: f"{k}={v}", key, st.text(max_size=10) | st.integers().map(str)
        )
        given = st.lists(sets, min_size=1, max_size=2).map(lambda some: _with_sets(self.texts[0], some))
        return st.one_of(changed, damaged, given)

    def attempt(self, case: Path) -> Outcome:
        """Shows the recipe as it resolves, and builds what it names."""
        lines = case.read_bytes().splitlines()
        sets = [line[5:].decode("utf-8", "replace") for line in lines if line.startswith(b"#set ")]
        options = [word for text in sets for word in ("--set", text)]
        shown = of_command("recipe", "show", str(case), *options)
        if shown.verdict != "read":
            return shown
        return worst(of_command("recipe", "validate", str(case)), of_call(lambda: _again(case, sets)))


def _again(case: Path, sets: list[str]) -> None:
    """What a run writes to its folder is read again as the same recipe."""
    from transfer3d.files import write_text
    from transfer3d.recipes.load import dump, load_recipe

    recipe, written = load_recipe(case, sets), case.with_name("written.toml")
    write_text(written, dump(recipe))
    assert load_recipe(written) == recipe, "the written recipe is another"


def _with_sets(text: str, sets: list[str]) -> bytes:
    lines = [f"#set {' '.join(line.splitlines())}" for line in sets]
    return "\n".join([*lines, text]).encode("utf-8", "replace")


def _toml(document: Any) -> bytes:
    """Writes what TOML can hold of a document."""
    try:
        return tomli_w.dumps(document).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, AttributeError, RecursionError):
        return repr(document).encode("utf-8", "surrogatepass")
