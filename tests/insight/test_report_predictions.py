"""A report's look against the bare student, one clip at a time, where memory holds few of them."""

import pytest
import torch
from feature_sets import facts_of
from rich.console import Console

from transfer3d.data.source import open_videos
from transfer3d.data.subset import Subset
from transfer3d.engine.distributed import make_accelerator
from transfer3d.insight.report.predictions import predict_centre_clips
from transfer3d.models.factory import create_model
from transfer3d.nn.pixels import normalise

FACTS = facts_of()


@pytest.mark.parametrize(("family", "classes"), [("p3d", 40), ("v4d", 40), ("p3d", 0)])
def test_memory_is_halved_until_it_suffices_and_nothing_changes(digits_folder, family, classes):
    videos = Subset(open_videos(digits_folder, split="test", labelled=True), range(0, 40, 7))
    student = create_model(f"{family}_tiny", num_classes=classes, seed=1)
    largest, seen = 2 * student.clip.units, []

    def limited(module, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > largest:
            raise torch.OutOfMemoryError

    handle = student.trunk.steps()[0][1].register_forward_pre_hook(limited)
    look = predict_centre_clips(student, videos, FACTS, make_accelerator("fp32"), console=Console(quiet=True))
    handle.remove()
    assert max(seen) > largest  # so that it was halved at all
    assert len(look.features.layers["pool5"]) == len(videos) == 6
    assert (look.scores is None) is (classes == 0)
    for index in range(len(videos)):
        clip = normalise(look.clip(index)[None], student.clip.mean, student.clip.std)
        with torch.no_grad():
            pooled_1D = student.forward_features(clip).mean((2, 3, 4))
            torch.testing.assert_close(look.features.layers["pool5"][index], pooled_1D[0])
            if look.scores:
                torch.testing.assert_close(look.scores.views_VK[index], student(clip).softmax(-1))
