"""Algorithm 1 of V4D against enumeration: every combination through the whole net, one by one."""

import itertools
from fractions import Fraction

import pytest
import torch

from transfer3d.errors import UsageError
from transfer3d.models.combinations import combination_scores
from transfer3d.models.factory import create_model

SPEC = {"depths": [1, 2, 2, 1], "kinds": ["basic"] * 4, "widths": [4, 6, 8, 8], "stem": [4]}
PLACES = {
    "one block": ["res3"],
    "two blocks": ["res3", "res4"],
    "from res2, four blocks": ["res2", "res3.0", "res3.1", "res5"],
    "none": [],
}


def awake_v4d(**options):
    """A V4D whose 4D blocks all do something, as after training."""
    student = create_model("v4d", spec=SPEC, num_classes=5, **options).double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in student.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif "after" in name and tensor.is_floating_point():
            tensor.normal_(0, 0.5, generator=generator)
    return student


def videos(units, batch=1):
    generator = torch.Generator().manual_seed(units)
    return torch.randn(batch, units, 3, 2, 32, 32, generator=generator, dtype=torch.float64)


@torch.no_grad()
def brute_force(student, clips, train_units):
    ends = [round(Fraction(part * clips.shape[1], train_units)) for part in range(train_units + 1)]
    sections = [range(*bounds) for bounds in itertools.pairwise(ends)]
    scores = [student(clips[:, list(chosen)]).softmax(-1) for chosen in itertools.product(*sections)]
    return torch.stack(scores).mean(0), len(scores)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    "units, train_units, combinations", [(4, 4, 1), (8, 4, 16), (10, 4, 36), (6, 3, 8), (5, 4, 2)]
)
def test_equals_enumeration(units, train_units, combinations, places):
    student, clips = awake_v4d(stages=places), videos(units)
    expected, count = brute_force(student, clips, train_units)
    assert count == combinations
    scores = combination_scores(student, clips, train_units=train_units)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-10)
    assert scores.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("options", [{"kernel": [5, 1, 1, 1]}, {"kernel": [3, 3, 3, 3]}, {"norm_act": False}])
def test_equals_enumeration_for_every_form_of_block(options):
    student, clips = awake_v4d(**options), videos(7, batch=2)
    expected, _ = brute_force(student, clips, 4)
    torch.testing.assert_close(combination_scores(student, clips), expected, rtol=0, atol=1e-10)


def test_in_single_precision_too():
    student, clips = awake_v4d().float(), videos(10).float()
    expected, _ = brute_force(student, clips, 4)
    torch.testing.assert_close(combination_scores(student, clips), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_no_layer_ever_sees_more_than_a_chunk(chunk):
    student, clips = awake_v4d(), videos(9)
    seen = []
    for block in student.trunk.modules():
        if isinstance(block, torch.nn.Conv3d):
            block.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    expected = combination_scores(student, clips)
    assert max(seen) > 10
    seen.clear()
    scores = combination_scores(student, clips, chunk=chunk)
    assert max(seen) <= chunk
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-10)


def test_computes_each_neighbourhood_once():
    """Sections of 2, 3, 3, 2: 6 + 18 + 18 + 6 neighbourhoods of one step, 18 + 36 + 36 + 18 of two."""
    student, seen = awake_v4d(), {}
    for stage in ("stem.0", "res4.0", "res5.0"):
        student.trunk.get_submodule(stage).register_forward_pre_hook(
            lambda module, args, stage=stage: seen.update({stage: seen.get(stage, 0) + len(args[0])})
        )
    combination_scores(student, videos(10), chunk=36)
    assert seen == {"stem.0": 10, "res4.0": 48, "res5.0": 108}


def test_fewer_units_than_sections_are_refused():
    with pytest.raises(UsageError, match="3 units for 4 sections"):
        combination_scores(awake_v4d(), videos(3))


def test_other_families_are_refused():
    with pytest.raises(UsageError, match="one pass"):
        combination_scores(create_model("f4d_tiny").eval(), videos(4).float())
    with pytest.raises(UsageError, match="not a V4D"):
        combination_scores(create_model("p3d_tiny").eval(), videos(4).float())
