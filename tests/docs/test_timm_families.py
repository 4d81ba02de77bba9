"""docs/timm-families.md says what inflation does with timm's families."""

import runpy

import pytest
from blocks import ROOT

TOOL = runpy.run_path(str(ROOT / "tools" / "timm_families.py"))
PAGE = TOOL["PAGE"].read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_is_what_the_tool_writes():
    assert TOOL["page"]() == PAGE


def test_every_family_of_timm_has_a_network():
    assert not TOOL["missing"]()
    assert len({TOOL["family_of"](name) for name in TOOL["EXAMPLES"]}) == len(TOOL["EXAMPLES"])


@pytest.mark.parametrize("name", ["repvit_m0_9", "levit_128s", "test_vit", "beit_base_patch16_224"])
def test_some_rows(name):
    assert TOOL["row"](name) in PAGE.splitlines()


def test_a_refusal_is_shortened():
    sentence = (
        "i3d: a_net has no spatial convolution (depths [1] at 1, 1/2 of the input's size); B has no 3D form."
    )
    reason = TOOL["reason"]
    assert reason(sentence) == "has no spatial convolution; B has no 3D form"
    assert reason("a_net has the architecture Beit, which no family supports.") == "has the architecture Beit"
