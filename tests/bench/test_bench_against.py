"""A bench against an earlier one: the ratios of the cases of both, and what is noise."""

import json

import pytest
from typer.testing import CliRunner

from transfer3d.bench.against import changes, read_results
from transfer3d.bench.case import Case, Comparison, Result
from transfer3d.bench.paired import paired_ratio
from transfer3d.cli.main import app

CASE = {"name": "a network", "phase": "step", "ours": "bf16", "baseline": "torch", "at_least": None}
BELOW = json.dumps({"results": [{**CASE, "ratio": -1.0}]})


def test_the_change_is_the_quotient_of_the_ratios(tmp_path):
    old = tmp_path / "old.json"
    rows = [
        {**CASE, "ratio": 2.0, "spread": 0.1},
        {**CASE, "phase": "forward", "ratio": 4.0, "spread": 0.02},
        {**CASE, "phase": "of an old version", "ratio": 4.0},
        {**CASE, "ours": "x", "ratio": None},
    ]
    old.write_text(json.dumps({"results": rows}))
    results = [
        Result(**CASE, ratio=3.0, spread=0.1),
        Result(**{**CASE, "phase": "forward"}, ratio=4.4, spread=0.09),
        Result(**{**CASE, "phase": "of an old version"}, ratio=4.0, spread=0.1),
        Result(**{**CASE, "name": "another"}, ratio=1.0),
        Result(**{**CASE, "ours": "x"}, ratio=1.0),
    ]
    first, second, third = changes(results, read_results(old))
    assert (first["before"], first["now"], first["change"], first["within_noise"]) == (2.0, 3.0, 1.5, False)
    assert second["change"] == pytest.approx(1.1)
    assert second["within_noise"]  # of 0.02 + 0.09
    assert third["within_noise"] is None


@pytest.mark.parametrize(
    "content", ["no json", "[]", "{}", '{"results": [{"name": 1}]}', '{"results": 3}', BELOW]
)
def test_another_file_is_refused_before_anything_is_measured(tmp_path, content):
    old = tmp_path / "old.json"
    old.write_text(content)
    done = CliRunner().invoke(app, ["bench", "models", "--only", "P3D-63", "--against", str(old)])
    assert done.exit_code == 2
    assert "is not a benchmark" in done.output


def test_an_absent_file_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["bench", "models", "--against", str(tmp_path / "none.json")])
    assert done.exit_code == 2
    assert "none.json" in done.output


def test_the_spread_is_that_of_the_middle_half_of_the_pairs(monkeypatch):
    # Warm-up, then pairs whose ratios are 1, 2, 3, 4 and 5.
    seconds = iter([1, 1, 1, 1, 2, 1, 1, 3, 4, 1, 1, 5])
    now = [0.0]

    def clock():
        return now[0]

    def run():
        now[0] += next(seconds)

    monkeypatch.setattr("transfer3d.bench.paired.time.perf_counter", clock)
    paired = paired_ratio(run, run, pairs=5)
    assert paired.ratio == 3
    assert paired.spread == pytest.approx((4 - 2) / 3)


def test_the_command_compares_with_what_it_wrote(tmp_path, monkeypatch):
    def cases():
        for phase in ("forward", "gradients"):
            yield Case(**{**CASE, "phase": phase}, build=lambda _: Comparison(ours=list, baseline=dict))

    monkeypatch.setattr("transfer3d.bench.report.network_cases", cases)
    arguments = ["bench", "models", "--only", CASE["name"], "--pairs", "3", "--device", "cpu"]
    first = CliRunner().invoke(app, [*arguments, "--json"])
    old = tmp_path / "old.json"
    old.write_text(first.stdout)
    again = CliRunner().invoke(app, [*arguments, "--against", str(old), "--json"])
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert [row["phase"] for row in report["changes"]] == ["forward", "gradients"]
    for row, result in zip(report["changes"], report["results"], strict=True):
        assert row["now"] == result["ratio"]
        assert result["spread"] >= 0
