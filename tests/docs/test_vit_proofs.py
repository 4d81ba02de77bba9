"""The proofs that docs/vision-transformers.md shows are those that `inflate` prints."""

import re

import pytest
from blocks import ROOT

from transfer3d import inflate
from transfer3d.models.image import create_image_model

PAGE = (ROOT / "docs" / "vision-transformers.md").read_text(encoding="utf-8")
PROOFS = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (Still clips: [^|]+) \|$", PAGE, re.MULTILINE))


def without_rounding(proof):
    """A proof without its differences, which are rounding and another machine's are other ones."""
    assert float(re.search(r"2D net (\S+)", proof)[1]) <= 1e-5
    return re.sub(r"\d\.\de[-+]\d\d (?=\(|\.)", "", proof)


def test_there_are_six_kinds_of_vision_transformers():
    assert len(PROOFS) >= 6
    assert all(without_rounding(proof).endswith("proved.") for proof in PROOFS.values())


def test_the_counts_of_the_first_example_are_those_printed():
    done = inflate(create_image_model("test_vit", "none"), "vivit", size=32, frames=8, num_classes=0)
    lines = re.search(r"```text\n(.*?)\n```", PAGE, re.DOTALL)[1].splitlines()
    assert lines[0] == done.weight_report.lines(tensors=False)[-1]
    assert without_rounding(lines[1]) == without_rounding(str(done.proof))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_is_the_one_shown(name):
    done = inflate(create_image_model(name, "none"), "vivit", size=112, frames=4)
    assert without_rounding(str(done.proof)) == without_rounding(PROOFS[name])
