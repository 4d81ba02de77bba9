"""Rooflines: the figures that were worked out by hand for an H200, and steps as shares of them."""

import pytest
import torch

from transfer3d.bench.case import run_cases
from transfer3d.bench.gpu import gpu_cases
from transfer3d.bench.roofline import MOVES, Rates, count_step, measure_rates

H200 = Rates(flops=729e12, bytes=4.8e12)


@pytest.mark.parametrize(("name", "milliseconds"), [("p3d63", 0.21), ("t3d121", 0.85)])
def test_the_rooflines_of_a_card(name, milliseconds):
    assert 1000 * H200.seconds(count_step(name, 1)) == pytest.approx(milliseconds, abs=0.005)


def test_a_step_counts_convolutions_and_scales_with_its_batch():
    one, four = count_step("p3d63", 1), count_step("p3d63", 4)
    assert one.bytes / (2 * MOVES) == pytest.approx(36.2e6, rel=1e-3)
    assert (four.flops, four.bytes) == (4 * one.flops, 4 * one.bytes)


def test_what_binds_is_the_slower_one():
    step = count_step("p3d63", 1)
    assert Rates(flops=step.flops, bytes=10 * step.bytes).seconds(step) == 1
    assert Rates(flops=10 * step.flops, bytes=step.bytes).seconds(step) == 1


@pytest.mark.slow
def test_steps_are_shares_of_the_roofline_here_too(monkeypatch):
    cpu = torch.device("cpu")
    rates = measure_rates(cpu, product=128, copy_bytes=1 << 20)
    assert rates.flops > 1e8
    assert rates.bytes > 1e7
    monkeypatch.setattr("transfer3d.bench.gpu.measure_rates", lambda device: rates)
    ways = {"3d": (False, False), "2d": (True, False)}
    results = list(run_cases(gpu_cases({"p3d_tiny": 2}, ways), cpu, pairs=1))
    assert [result.ours for result in results] == ["3d", "2d"]
    for result in results:
        assert result.ours_ms is not None
        assert result.ratio == pytest.approx(result.baseline_ms / result.ours_ms)
        tflops, of_roofline = result.per_second["TFLOP"]
        assert tflops / of_roofline == pytest.approx(result.ratio)
