"""What a recipe may ask of the trainer: each option does what it says, and none breaks the resume."""

import json

import pytest
import torch
from torch import nn
from training import Net, assert_same, batches, claim, make, weights

from transfer3d.engine.config import GpuConfig
from transfer3d.engine.network_options import compile_network
from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.schedule import ScheduleConfig
from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model

SCORES = [0.1, 0.5, 0.4, 0.5, 0.3, 0.2, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1]


class Scores:
    """Validation scores by step: what a resumed run would find too."""

    def __init__(self):
        self.trainer, self.seen = None, []

    def __call__(self):
        state = self.trainer.objective.student.state_dict()
        self.seen.append({name: tensor.clone() for name, tensor in state.items()})
        return {"score": SCORES[self.trainer.step - 1]}


def validated(folder, **options):
    scores = Scores()
    scores.trainer, published = make(folder, validate=scores, validate_every=1, **options)
    return scores.trainer, scores, published


def rates(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row["lr"] for row in rows if row["split"] == "train"]


class CrashError(Exception):
    pass


def crash(_task):
    raise CrashError


OPTIONS = {
    "average": {"optimizer": OptimizerConfig(average=0.9)},
    "accumulate": {"accumulate": 2},
    "head first": {"head_first": 4},
    "plateau": {"schedule": ScheduleConfig(kind="plateau", patience=2)},
    "precise": {"precise_batch_norm": 8, "batch_norm": "partial"},
    "clipped": {"optimizer": OptimizerConfig(name="momentum", clip_grad_norm=0.1)},
    "scaled": {"optimizer": OptimizerConfig(name="adamw", layer_decay=0.5, lr_scale={"trunk.norm": 0})},
    "gpu": {
        "gpu": GpuConfig(convolutions="2d", prefetch=True, fused_optimizer=True, gradient_views=True),
    },
    "fused, head first": {
        "gpu": GpuConfig(fused_optimizer=True),
        "optimizer": OptimizerConfig(name="sgd"),
        "head_first": 4,
    },
    "all": {
        "optimizer": OptimizerConfig(average=0.9, clip_grad_norm=1.0, layer_decay=0.7),
        "schedule": ScheduleConfig(kind="plateau", patience=2, warmup=0.2),
        "accumulate": 2,
        "head_first": 0.4,
        "precise_batch_norm": 8,
        "early_stop": 7,
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("stop_at", [4, 7])
def test_a_run_that_died_resumes_to_bit_equal_weights(tmp_path, options, stop_at):
    straight, seen, _ = validated(claim(tmp_path / "straight"), **options)
    straight.run()
    folder = claim(tmp_path / "broken")
    broken, _, _ = validated(folder, at_step={stop_at: crash}, **options)
    with pytest.raises(CrashError):
        broken.run()
    folder.close()
    resumed, again, _ = validated(claim(tmp_path / "broken", resume=True), **options)
    resumed.resume()
    assert 0 < resumed.step <= stop_at
    resumed.run()
    assert_same(weights(straight), weights(resumed))
    assert straight.scores == resumed.scores
    assert rates(tmp_path / "straight") == rates(tmp_path / "broken")
    for first, second in zip(seen.seen[-len(again.seen) :], again.seen, strict=True):
        assert_same(first, second)  # what was validated: averages, new statistics
    if straight.average is not None:
        assert_same(straight.average.module.state_dict(), resumed.average.module.state_dict())


def test_the_average_is_what_is_validated_and_the_run_goes_on_with_its_own_weights(tmp_path):
    """ModelEmaV3 with warm-up: decay of update n = min(decay, 1 - n ** (-2 / 3)), the first update copies."""
    plain, own, _ = validated(claim(tmp_path / "plain"))
    plain.run()
    averaged, shown, published = validated(
        claim(tmp_path / "averaged"), optimizer=OptimizerConfig(name="adamw", average=0.6)
    )
    averaged.run()
    assert_same(weights(plain), weights(averaged))
    expected = own.seen[0]
    for number, state in enumerate(own.seen):
        decay = min(0.6, 1 - (1 + number) ** (-2 / 3)) if number else 0.0
        expected = {
            name: decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
        for name, value in expected.items():
            torch.testing.assert_close(shown.seen[number][name], value, msg=f"{name} at {number}")
    assert "best" in published


def test_the_parts_of_a_batch_are_the_batch(tmp_path):
    found = []
    for accumulate in (1, 2, 4):
        trainer, _ = make(None, net=Net(dropout=0.0), accumulate=accumulate, batch_norm="frozen",
                          optimizer=OptimizerConfig(name="momentum"))  # fmt: skip
        trainer.run()
        found.append(weights(trainer))
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)


def test_only_the_head_learns_first(tmp_path):
    trainer, seen, _ = validated(None, head_first=3, schedule=ScheduleConfig(kind="constant"))
    start = weights(trainer)
    trainer.run()
    for step, state in enumerate(seen.seen, 1):
        moved = {name for name, value in state.items() if not torch.equal(value, start[name])}
        assert "head.weight" in moved
        trunk = {name for name in moved if name.startswith("trunk.")}
        assert bool(trunk) == (step > 3), (step, trunk)  # statistics included


def test_a_share_of_the_steps_is_counted_in_steps():
    assert make(None, steps=10, head_first=0.25)[0].config.head_steps == 2
    assert make(None, steps=10, head_first=7)[0].config.head_steps == 7
    assert make(None, steps=10)[0].config.head_steps == 0


def test_the_run_ends_when_the_score_no_longer_rises_and_does_not_go_on(tmp_path):
    folder = claim(tmp_path / "run")
    trainer, _, published = validated(folder, early_stop=3, steps=12)
    trainer.run()
    assert trainer.step == 5  # 0.5 at step 2, then three without a better one
    assert published[-1] == "model"
    assert trainer.ended
    folder.close()
    again, _, _ = validated(claim(tmp_path / "run", resume=True), early_stop=3, steps=12)
    again.resume()
    assert again.ended
    assert again.run()["score"] == 0.3
    assert again.step == 5


def test_the_rate_falls_when_the_score_no_longer_rises(tmp_path):
    trainer, _, _ = validated(
        claim(tmp_path / "run"), steps=8, schedule=ScheduleConfig(kind="plateau", patience=2, decay=0.1)
    )
    trainer.run()
    assert rates(tmp_path / "run") == pytest.approx([0.05] * 4 + [0.005] * 2 + [0.0005] * 2)


def test_the_rate_follows_the_batch(tmp_path):
    trainer, _ = make(
        claim(tmp_path / "run"), lr_base_batch=64, batch_size=16, schedule=ScheduleConfig(kind="constant")
    )
    trainer.run()
    assert set(rates(tmp_path / "run")) == {0.05 * 16 / 64}


@pytest.mark.parametrize("options", [{"early_stop": 2}, {"schedule": ScheduleConfig(kind="plateau")}])
def test_what_acts_on_scores_is_refused_where_there_are_none(options):
    with pytest.raises(UsageError, match="early_stop"):
        make(None, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"optimizer": OptimizerConfig(lr_scale={"*": 0})}, "no parameter is left to train"),
        ({"optimizer": OptimizerConfig(lr_scale={"head": 0}), "head_first": 2}, "no trainable head"),
    ],
)
def test_a_run_in_which_nothing_would_learn_is_refused(options, named):
    with pytest.raises(UsageError, match=named):
        make(None, **options)


def test_new_statistics_are_shown_and_the_run_keeps_its_own(tmp_path):
    trainer, seen, _ = validated(None, precise_batch_norm=12, batch_norm="frozen", steps=2)
    before = weights(trainer)["trunk.norm.running_mean"]
    trainer.run()
    shown = seen.seen[-1]
    assert torch.equal(weights(trainer)["trunk.norm.running_mean"], before)
    stem = nn.functional.conv3d  # by hand: the mean over the first three batches of what the stem gives
    means = [
        stem(batch.clips.float() / 255, shown["trunk.stem.weight"], shown["trunk.stem.bias"]).mean(
            (0, 2, 3, 4)
        )
        for _, batch in zip(range(3), batches(0), strict=False)
    ]
    torch.testing.assert_close(shown["trunk.norm.running_mean"], torch.stack(means).mean(0))


def test_a_clipped_gradient_has_the_norm_that_was_asked_for():
    trainer, _ = make(
        None, steps=1, lr=1.0, schedule=ScheduleConfig(kind="constant"),
        optimizer=OptimizerConfig(name="momentum", momentum=0.0, weight_decay=0.0, clip_grad_norm=0.01),
    )  # fmt: skip
    before = {name: value.detach().clone() for name, value in trainer.objective.student.named_parameters()}
    trainer.run()
    moved = [before[name] - value.detach() for name, value in trainer.objective.student.named_parameters()]
    assert float(torch.cat([part.flatten() for part in moved]).norm()) == pytest.approx(0.01, rel=1e-4)


def test_a_compiled_run_keeps_the_names_of_its_weights(monkeypatch, caplog):
    caplog.set_level("INFO", "transfer3d")
    calls = []

    def compiled(function, **_options):
        def run(*arguments, **options):
            calls.append(function.__self__)
            return function(*arguments, **options)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    student = create_model("p3d_tiny", num_classes=3)
    names = set(student.state_dict())
    trainer, _ = make(None, net=student, compile=True, steps=2)
    trainer.run()
    assert calls == [student.trunk] * 2
    assert set(weights(trainer)) == names
    assert "the first step took" in caplog.text


def test_a_dense_net_is_compiled_block_by_block():
    student = create_model("t3d_tiny", num_classes=3)
    compile_network(student)
    compiled = {name for name, module in student.named_modules() if module._compiled_call_impl is not None}
    assert compiled == {f"trunk.{name}" for name, _ in student.trunk.parts()}


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_a_fused_optimiser_takes_the_same_steps(name, tmp_path):
    ends = []
    for fused in (False, True):
        options = {"optimizer": OptimizerConfig(name=name), "head_first": 3}
        trainer, _ = make(tmp_path / str(fused), gpu=GpuConfig(fused_optimizer=fused), **options)
        trainer.run()
        ends.append(weights(trainer))
    # BatchNorm takes the stem's bias away: its gradient is rounding, which AdamW scales up.
    for key in ends[0].keys() - {"trunk.stem.bias", "trunk.norm.running_mean"}:
        torch.testing.assert_close(ends[1][key], ends[0][key], rtol=1e-4, atol=1e-6)
