"""Plain lines of progress: the time that is left follows the rate, not the start of processes."""

import io

import pytest
from rich.console import Console

from transfer3d import progress as module
from transfer3d.progress import progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_the_first_estimate_leaves_out_the_start(clock):
    file = io.StringIO()
    with progress("sharding", 300, console=Console(file=file)) as meter:
        for step in range(300):
            clock[0] += 9.5 if not step else 0.25
            meter.update()
    lines = file.getvalue().splitlines()
    assert lines[0] == "sharding: 3/300, 74 s left"
    assert lines[1] == "sharding: 43/300, 64 s left"
    assert lines[-1] == "sharding: 300/300, 84 s"


def test_one_slow_item_gives_no_estimate(clock):
    file = io.StringIO()
    with progress("training", 5, console=Console(file=file), start=2) as meter:
        clock[0] += 20
        meter.update(note="loss 1")
        clock[0] += 20
        meter.update()
    assert file.getvalue().splitlines() == ["training: 3/5 loss 1", "training: 4/5, 20 s left"]
