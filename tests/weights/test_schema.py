"""Metadata that lie: each is refused in a sentence, at once, by whatever reads a checkpoint."""

import json
import time

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import transfer3d
from transfer3d.errors import UsageError, WeightsError
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("bounds") / "student.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=3), path, class_names=["a", "b", "c"])
    return path


def clip_with(strings, **changes):
    return json.dumps({**json.loads(strings["transfer3d.clip"]), **changes})


DEEP = "[" * 100_000 + "]" * 100_000
LIES = {
    "too few names": ("class_names", lambda _: '["a"]', "1 class names"),
    "names as a table": ("class_names", lambda _: '{"a": 1}', "class_names = .*a valid list"),
    "names as numbers": ("class_names", lambda _: "[1, 2, 3]", "class_names.0 = 1"),
    "a long name": ("class_names", lambda _: json.dumps(["a", "b", "c" * 10**6]), "at most 1000"),
    "negative": ("num_classes", lambda _: "-1", "num_classes = -1"),
    "a fraction": ("num_classes", lambda _: "3.0", "num_classes = 3.0"),
    "true": ("num_classes", lambda _: "true", "num_classes = True"),
    "empty lists": ("provenance", lambda _: '{"a": ' + "[" * 40 + "]" * 40 + "}", "nests too deep"),
    "a large crop": ("clip", lambda s: clip_with(s, crop=[10**6, 10**6]), "clip.crop = "),
    "endless": ("num_classes", lambda _: str(2**62), "num_classes = 4611"),
    "infinite": ("num_classes", lambda _: "Infinity", "the number inf"),
    "channels": ("model_args", lambda _: '{"in_chans": 1000000000000}', "in_chans = 1000000000000"),
    "not a number": ("model_args", lambda _: '{"drop_rate": NaN}', "the number nan"),
    "dropout": ("model_args", lambda _: '{"drop_rate": 1.5}', "drop_rate = 1.5"),
    "deep": ("model_args", lambda _: DEEP, "nests too deep"),
    "deep provenance": ("provenance", lambda _: DEEP, "nests too deep"),
    "rather deep": ("provenance", lambda _: '{"a":' * 40 + "1" + "}" * 40, "nests too deep"),
    "a list": ("clip", lambda _: "[]", r"clip = \[\]: input should be a table"),
    "large": ("clip", lambda s: clip_with(s, size=10**6, crop=10**6), "clip.size = 1000000"),
    r"clip.mean = \[\]": ("clip", lambda s: clip_with(s, mean=[], std=[]), r"clip.mean = \[\]"),
    "a name twice": ("model_args", lambda _: '{"in_chans": 3, "in_chans": 4}', "twice"),
    "an overflow": ("provenance", lambda _: '{"loss": 1e999}', "the number inf"),
    "half a character": ("provenance", lambda _: '{"a": "\\ud800"}', "not Unicode"),
    "no deviation": ("clip", lambda s: clip_with(s, std=[0, 1, 1]), "clip.std.0 = 0"),
    "other rows": ("num_classes", lambda _: "4", "class names for 4 classes"),
    "many blocks": (
        "model_args",
        lambda _: json.dumps({"spec": {"depths": [10**5, 1, 1, 1], "kinds": ["basic"] * 4}}),
        "100003 blocks in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_at_once(lie, checkpoint, tmp_path):
    key, change, said = LIES[lie]
    with safe_open(checkpoint, framework="pt") as file:
        strings = dict(file.metadata())
    strings[f"transfer3d.{key}"] = change(strings)
    path = tmp_path / "lie.safetensors"
    save_file(load_file(checkpoint), path, metadata=strings)
    started = time.monotonic()
    for read in (read_metadata, transfer3d.load):
        with pytest.raises(WeightsError, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf_hub:../..", "repository"),
        ("hf_hub:-a/b", "repository"),
        ("hf_hub:a--b/c", "must not contain --"),
        ("hf_hub:a/b.git", "must not contain --"),
        (f"hf_hub:a/{'b' * 5000}", "at most 96"),
        ("hf_hub:a/b@../../x", "revision"),
        ("hf_hub:a/b@x/../y", "must not contain --"),
        ("hf_hub:a/b@", "revision"),
    ],
)
def test_odd_hub_addresses_are_refused_before_the_hub_is_asked(address, said):
    with pytest.raises(UsageError, match=said) as caught:
        locate(address)
    assert len(str(caught.value)) < 1000
