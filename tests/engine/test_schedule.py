"""Learning rates, against timm's and torch's own schedulers."""

import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler

from transfer3d.engine.schedule import ScheduleConfig, count_plateaus, learning_rate, stale_validations
from transfer3d.errors import UsageError
from transfer3d.recipes.load import load_recipe

STEPS, LR = 40, 0.3


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)


def rates(config, scores=()):
    return [learning_rate(step, STEPS, LR, config, scores) for step in range(STEPS)]


def timm_rates(scheduler):
    found = []
    for step in range(STEPS):
        scheduler.step_update(step)
        found.append(scheduler.optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("warmup", [0, 8])
def test_cosine_is_timms(warmup):
    theirs = CosineLRScheduler(optimizer(), t_initial=STEPS, warmup_t=warmup, t_in_epochs=False)
    config = ScheduleConfig(kind="cosine", warmup=warmup / STEPS)
    assert rates(config) == pytest.approx(timm_rates(theirs))


def test_step_is_torchs_and_warms_up_in_a_line():
    given = optimizer()
    theirs = torch.optim.lr_scheduler.MultiStepLR(given, [10, 30], 0.1)
    expected = []
    for _ in range(STEPS):
        expected.append(given.param_groups[0]["lr"])
        given.step()
        theirs.step()
    config = ScheduleConfig(kind="step", milestones=(0.25, 0.75), decay=0.1)
    assert rates(config) == pytest.approx(expected)
    warm = rates(config.model_copy(update={"warmup": 5 / STEPS}))
    assert warm[:6] == pytest.approx([LR * step / 5 for step in range(6)])
    assert warm[6:] == pytest.approx(expected[6:])


def test_constant_and_manual_are_what_they_say():
    assert set(rates(ScheduleConfig(kind="constant"))) == {LR}
    found = rates(ScheduleConfig(kind="manual", rates=((0.25, 0.1), (0.5, 0.02))))
    assert found == [LR] * 10 + [0.1] * 10 + [0.02] * 20


@pytest.mark.parametrize("seed", range(5))
def test_plateaus_are_torchs(seed):
    """ReduceLROnPlateau(threshold=0, patience=p) acts on the validation p + 1 without a better score."""
    scores = torch.rand(30, generator=torch.Generator().manual_seed(seed)).round(decimals=1).tolist()
    given = optimizer()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(given, "max", 0.5, patience=2, threshold=0)
    config = ScheduleConfig(kind="plateau", patience=3, decay=0.5)
    for count in range(1, len(scores) + 1):
        theirs.step(scores[count - 1])
        ours = learning_rate(7, STEPS, LR, config, scores[:count])
        assert ours == pytest.approx(given.param_groups[0]["lr"]), count


def test_plateaus_and_stale_validations_by_hand():
    assert count_plateaus([1, 1, 1, 1, 1], 2) == 2
    assert count_plateaus([1, 2, 3, 4], 1) == 0
    assert [stale_validations(scores) for scores in ([], [3], [3, 3], [1, 3, 2, 2])] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    "override", ["schedule.milestones=[0.5, 0.2]", "schedule.rates=[[2, 0.1]]", "schedule.rates=[[0.5, -1]]"]
)
def test_a_schedule_out_of_order_is_refused(override):
    with pytest.raises(UsageError, match="schedule"):
        load_recipe("default/finetune", [override])


def test_no_rate_depends_on_anything_but_the_step():
    config = ScheduleConfig(kind="cosine", warmup=0.1)
    assert learning_rate(20, STEPS, LR, config) == pytest.approx(LR * (1 + math.cos(math.pi / 2)) / 2)
