"""The trainer: exact resume, clean stops, and no step on a non-finite loss."""

import os
import signal

import pytest
import torch
from training import assert_same, claim, make, weights

from transfer3d.batch import ClipBatch
from transfer3d.errors import Interrupted, NonFiniteError, Preempted


class CrashError(Exception):
    pass


def crash(_task):
    raise CrashError


@pytest.mark.parametrize("stop_at", [1, 3, 5, 7])
def test_a_run_that_died_resumes_to_bit_equal_weights(tmp_path, stop_at):
    straight, _ = make(claim(tmp_path / "straight"))
    straight.run()
    folder = claim(tmp_path / "broken")
    broken, _ = make(folder, at_step={stop_at: crash})
    with pytest.raises(CrashError):
        broken.run()
    folder.close()
    folder = claim(tmp_path / "broken", resume=True)
    resumed, _ = make(folder)
    resumed.resume()
    assert resumed.step == stop_at // 3 * 3
    resumed.run()
    assert_same(weights(straight), weights(resumed))
    logged = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("straight", "broken")]
    assert logged == [8, 8]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Preempted), (signal.SIGINT, Interrupted)])
def test_a_signal_finishes_the_step_and_saves_it(tmp_path, number, error):
    straight, _ = make(claim(tmp_path / "straight"))
    straight.run()
    folder = claim(tmp_path / "stopped")
    stopped, published = make(folder, at_step={4: lambda _task: os.kill(os.getpid(), number)})
    with pytest.raises(error, match="step 5 of 8.*--resume"):
        stopped.run()
    assert published[-1] == "model"
    folder.close()
    resumed, _ = make(claim(tmp_path / "stopped", resume=True))
    resumed.resume()
    assert resumed.step == 5
    resumed.run()
    assert_same(weights(straight), weights(resumed))


def test_a_non_finite_loss_stops_before_the_step_and_saves_nothing(tmp_path):
    def poison(task):
        with torch.no_grad():
            task.student.trunk["stem"].weight[0] = float("nan")

    folder = claim(tmp_path / "run")
    trainer, _ = make(folder, at_step={4: poison})
    with pytest.raises(NonFiniteError, match=r"step 5: loss nan.*clips 4"):
        trainer.run()
    tensors, state, _ = folder.load_checkpoint()
    assert state["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_every_clip_of_a_batch_that_is_not_finite_is_named():
    trainer, _ = make(None)
    keys = [str(number) for number in range(10, 16)]
    clips = torch.zeros(6, 3, 4, 8, 8, dtype=torch.uint8)
    trainer.batches = lambda _first: [ClipBatch(clips, torch.zeros(6, dtype=torch.long), keys, keys)]
    trainer.objective.student.head.weight.data.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match="clips 10, 11, 12, 13, 14, 15"):
        trainer.run()


def test_the_best_is_published_when_the_score_rises(tmp_path):
    scores = iter([0.2, 0.5, 0.4, 0.9])
    trainer, published = make(
        claim(tmp_path / "run"), validate=lambda: {"score": next(scores)}, validate_every=2
    )
    trainer.run()
    assert published.count("best") == 3
    assert trainer.best == 0.9


def test_the_learning_rate_warms_up_and_falls_to_zero_by_a_cosine(tmp_path):
    import json
    import math

    trainer, _ = make(claim(tmp_path / "run"), steps=10)
    trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["lr"] for row in rows]
    assert rates[:2] == [0.0, 0.025]
    expected = [0.05 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(2, 10)]
    assert rates[2:] == pytest.approx(expected)
