"""A batch in parts."""

import pytest
import torch

from transfer3d.batch import ClipBatch
from transfer3d.engine.accumulation import mean_report, split_batch
from transfer3d.objectives.objective import LossReport


def test_parts_make_up_the_batch_and_reports_their_mean():
    clips = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1, 1)
    targets = torch.eye(6)
    batch = ClipBatch(clips, torch.arange(6), list("abcdef"), list("ABCDEF"), targets)
    parts = split_batch(batch, 3)
    assert [part.keys for part in parts] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [source for part in parts for source in part.sources] == batch.sources
    assert torch.equal(torch.cat([part.clips for part in parts]), clips)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert torch.equal(torch.cat([part.targets for part in parts]), targets)
    (whole,) = split_batch(batch, 1)
    assert whole.keys == batch.keys
    assert torch.equal(whole.clips, batch.clips)
    with pytest.raises(ValueError, match="6 clips are not divisible by 4"):
        split_batch(batch, 4)
    reports = [LossReport(torch.tensor(value), {"loss": torch.tensor(value)}) for value in (1.0, 3.0)]
    assert float(mean_report(reports).total) == float(mean_report(reports).parts["loss"]) == 2.0
