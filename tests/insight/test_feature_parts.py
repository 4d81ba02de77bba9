"""Parts of features that somebody changed: refused in a sentence, with what to do."""

import json

import pytest
import torch
from safetensors.torch import save_file

from transfer3d.errors import DataError
from transfer3d.insight.features.parts import FeatureParts

FOUR = ["a", "b", "c", "d"]
ROWS = torch.arange(6.0).reshape(2, 3)


@pytest.fixture
def parts(tmp_path):
    parts = FeatureParts(tmp_path / "f.parts")
    parts.claim({"layers": ["pool5"]}, resume=False)
    parts.add(["a", "c"], {"pool5": ROWS})
    yield parts
    parts.release()


def put(parts, keys, layers):
    path = parts.folder / "0-00001.safetensors"
    save_file(layers, path, metadata={"keys": keys if isinstance(keys, str) else json.dumps(keys)})
    return path


def test_parts_are_joined_in_the_order_of_the_videos(parts):
    put(parts, ["d", "b"], {"pool5": ROWS + 10})
    expected = torch.stack([ROWS[0], ROWS[1] + 10, ROWS[1], ROWS[0] + 10])
    assert torch.equal(parts.join(FOUR)["pool5"], expected)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("[" * 5000 + "]" * 5000, "nests too deep"),
        ("7", "not a list of names"),
        ("{}", "not a list of names"),
        ([["b"], ["d"]], "not a list of names"),
        (["b", "b"], "a key appears twice"),
        (["b", "e"], "e is of no video"),
        (["a", "b"], "a is of no video, or in another part too"),
        (["b"], "'pool5' is not 1 rows"),
        ([], "'pool5' is not 0 rows"),
    ],
)
def test_odd_keys(parts, keys, said):
    path = put(parts, keys, {"pool5": ROWS})
    with pytest.raises(DataError, match=rf"{path}: damaged \(.*{said}.*\)\. Remove it, and continue"):
        parts.join(FOUR)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({}, "no features"),
        ({"pool5": torch.zeros(2, 4)}, "layers are not those"),
        ({"res4": ROWS}, "layers are not those"),
        ({"pool5": ROWS, "res4": ROWS + 1}, "layers are not those"),
        ({"pool5": torch.zeros(2)}, "not 2 rows"),
        ({"pool5": torch.zeros(3, 3)}, "not 2 rows"),
        ({"pool5": torch.zeros(2, 3, dtype=torch.int64)}, "not 2 rows"),
        ({"pool5": torch.full((2, 3), float("nan"))}, "not 2 rows of finite"),
    ],
)
def test_odd_layers(parts, layers, said):
    path = put(parts, ["b", "d"], layers)
    with pytest.raises(DataError, match=rf"{path}: damaged \(.*{said}.*\)\. Remove it, and continue"):
        parts.join(FOUR)
