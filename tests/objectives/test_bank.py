"""A bank of the teacher's features: what it holds, whom it may contradict, and that runs continue with it."""

import pytest
import torch
from pairwise import CLIPS, SOURCES, make_batch, make_objective

from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.trainer import Trainer
from transfer3d.errors import NonFiniteError
from transfer3d.objectives.bank import FeatureBank
from transfer3d.objectives.correspondence import CorrespondenceConfig
from transfer3d.objectives.pairs import different_sources


@pytest.mark.parametrize("counts", [(2, 2), (3, 3, 3), (9,), (4, 1, 2)])
def test_it_holds_the_latest_features_in_order(counts):
    bank, rows = FeatureBank(5, 3), torch.arange(3 * sum(counts)).reshape(-1, 3).float()
    sources = torch.arange(sum(counts)) + 100
    for features_BD, sources_B in zip(rows.split(counts), sources.split(counts), strict=True):
        bank.add(features_BD, sources_B)
    held = min(sum(counts), 5)
    assert int(bank.filled) == held
    assert torch.equal(bank.features[5 - held :], rows[-held:])
    assert bank.sources[5 - held :].tolist() == sources[-held:].tolist()
    assert not bank.features[: 5 - held].any()


def test_what_is_compared_is_the_batch_and_what_the_bank_holds_but_no_empty_place():
    bank, features_BD, sources_B = FeatureBank(4, 2), torch.ones(3, 2), torch.tensor([0, 7, 5])
    assert all(map(torch.equal, bank.join(features_BD, sources_B), (features_BD, sources_B)))
    bank.add(torch.zeros(3, 2), torch.tensor([7, 0, 7]))
    joined, of_frames = bank.join(features_BD, sources_B)
    assert joined[:, 0].tolist() == [1, 1, 1, 0, 0, 0]
    different = different_sources(sources_B, of_frames)
    assert different[3:].tolist() == [[True, False, True], [False, True, True], [True, False, True]]
    assert torch.equal(different[:3], different_sources(sources_B))


def test_the_step_fills_it_in_training_alone_and_after_the_loss():
    objective, batch = make_objective({"bank": 12}), make_batch()
    before = objective.bank.features.clone()
    objective.training = False
    objective(batch)
    assert torch.equal(objective.bank.features, before)
    objective.training = True
    again, alone = objective(batch), make_objective({"bank": 12})(batch)
    assert torch.equal(again.total, alone.total)
    assert torch.equal(objective.bank.features, objective.teacher(batch.clips).features[-12:])
    assert int(objective.bank.filled) == 12
    changed = objective(batch)
    assert not torch.equal(changed.total, again.total)


def test_a_bank_of_the_same_videos_alone_adds_no_negative():
    """Every feature of the bank is of the one video that all clips come from."""
    found = []
    for size in (0, 8):
        objective, batch = make_objective({"match": 1, "infonce": 1, "bank": size}), make_batch()
        batch = type(batch)(batch.clips, batch.labels, batch.keys, ["one"] * CLIPS)
        if objective.bank is not None:
            objective.bank = FeatureBank(size, objective.teacher.num_features)
            objective(batch)
            assert int(objective.bank.filled) == size
        found.append(objective(batch).total)
    torch.testing.assert_close(found[0], found[1])


def test_without_one_nothing_of_it_is_saved():
    names = set(make_objective({"infonce": 1, "bank": 4}).state_dict())
    without = set(make_objective({"infonce": 1}).state_dict())
    assert names - without == {"bank.features", "bank.sources", "bank.filled"}
    assert without < names
    for size in (-1, 1 << 21):
        with pytest.raises(ValueError, match="bank"):
            CorrespondenceConfig(bank=size)


def trainer(folder, *, resume=False, ends=None):
    objective = make_objective({"infonce": 1, "bank": 12, "feature": 1}).train()

    def batches(first_step):
        for step in range(first_step, 4):
            batch = make_batch()
            clips = batch.clips.roll(step, 3)
            if step == ends:
                raise NonFiniteError("ended")
            yield type(batch)(clips, batch.labels, batch.keys, [f"{step} {source}" for source in SOURCES])

    config = TrainerConfig(
        steps=4, lr=0.05, save_every=2, batch_size=CLIPS, accumulate=2, precise_batch_norm=CLIPS,
        optimizer={"name": "adamw", "average": 0.9},
    )  # fmt: skip
    return Trainer(
        objective, batches, config, folder, accelerator=make_accelerator("fp32"), resume=resume,
        publish=lambda *_: None,
    )  # fmt: skip


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    straight = trainer(tmp_path / "straight")
    straight.run()
    with pytest.raises(NonFiniteError):
        trainer(tmp_path / "broken", ends=3).run()
    resumed = trainer(tmp_path / "broken", resume=True)
    assert resumed.step == 2
    resumed.run()
    expected, found = straight.objective.state_dict(), resumed.objective.state_dict()
    assert expected.keys() == found.keys()
    assert not [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])]
    assert int(found["bank.filled"]) == 12
