"""The table of dense transfer says what the records say."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

ROOT = Path(__file__).parents[2]
MEASURES = ("probe", "finetune", "where")


def half(values):
    return t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5


def test_the_page_has_means_and_intervals_of_the_records():
    records = json.loads((ROOT / "docs" / "results" / "dense.json").read_text(encoding="utf-8"))["records"]
    page = (ROOT / "docs" / "own-teacher.md").read_text(encoding="utf-8")
    lines = page.split("| term | ")[1].split("\n\n")[0].splitlines()[2:]
    of = {name: [r for r in records if r["row"] == name] for name in {r["row"] for r in records}}
    assert len(lines) == len(of) == 5
    for line in lines:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert [r["seed"] for r in of[name]] == [r["seed"] for r in of["match"]] == [0, 1, 2]
        for measure, shown, against in zip(MEASURES, cells[::2], cells[1::2], strict=True):
            values = 100 * np.array([r[measure] for r in of[name]])
            paired = values - 100 * np.array([r[measure] for r in of["match"]])
            expected = [values.mean(), half(values)]
            assert list(map(float, shown.split(" ± "))) == pytest.approx(expected, abs=0.051)
            if name != "match":
                expected = [paired.mean(), half(paired)]
                assert list(map(float, against.split(" ± "))) == pytest.approx(expected, abs=0.051)
