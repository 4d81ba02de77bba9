"""`activation_checkpointing=true` through the trainer: the same weights and statistics, of every family."""

import copy
from contextlib import nullcontext

import pytest
import torch
from pairwise import make_batch, make_objective

from transfer3d.batch import ClipBatch
from transfer3d.engine.accumulation import backward_pairwise, split_batch
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.network_options import recompute_activations
from transfer3d.engine.trainer import Trainer
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models
from transfer3d.objectives.classification import Classification

STEPS = 2
FAST = ("p3d_tiny", "t3d_tiny", "v4d_tiny", "vivit_tiny", "test_efficientnet")
SLOW = (
    *(name for name in list_models("*_tiny") if name not in FAST),
    *("p3d_resnet18", "i3ds_resnet18_extra", "tsn_i3ds_resnet18", "r3d_resnet18", "i3d_googlenet"),
    *("v4d_resnet18", "f4d_resnet18", "densenet3d_densenet121", "t3d_densenet121", "vivit_small"),
    *("timesformer_small", "convnext_atto", "mobilenetv3_small_050", "regnety_002", "test_nfnet"),
)


def student_of(name):
    if name in list_models():
        return create_model(name, num_classes=3, drop_rate=0.5)
    return create_model("i3d", num_classes=3, drop_rate=0.5, spec={"architecture": name})


def trained(student, *, recomputed):
    """Trains a copy on small clips; returns its state."""
    student = copy.deepcopy(student)
    units = (student.clip.units,) if student.clip.units > 1 else ()
    size = student.clip.size if "vi" in student.model_name or "former" in student.model_name else 32

    def batches(first_step):
        for step in range(first_step, STEPS):
            generator = torch.Generator().manual_seed(step)
            shape = (2, *units, 3, min(student.clip.frames, 8), size, size)
            clips_u8 = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            yield ClipBatch(clips_u8, torch.arange(2), ["a", "b"], ["a", "b"])

    config = TrainerConfig(steps=STEPS, lr=1e-3, activation_checkpointing=recomputed)
    Trainer(Classification(student), batches, config, accelerator=make_accelerator("fp32")).run()
    return student.state_dict()


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_run_ends_with_the_same_weights_and_statistics(name):
    student = student_of(name)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    plain, recomputed = (trained(student, recomputed=flag) for flag in (False, True))
    for key, value in plain.items():
        torch.testing.assert_close(recomputed[key], value, rtol=1e-4, atol=1e-6, msg=key)
        if key.endswith("num_batches_tracked"):
            assert int(value) == int(recomputed[key]) == int(before[key]) + STEPS
    assert any(not torch.equal(value, before[key]) for key, value in plain.items())


def test_statistics_move_once_where_parts_are_computed_twice():
    """Correspondence in parts: each is embedded without a graph, then with one, then recomputed."""
    plain, recomputed = (make_objective({"match": 1.0}).train() for _ in range(2))
    recompute_activations(recomputed)
    for objective in (plain, recomputed):
        parts = split_batch(make_batch(), 2)
        backward_pairwise(objective, objective, parts, autocast=nullcontext, no_sync=nullcontext)
    for (key, ours), theirs in zip(recomputed.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=key)
        if key.endswith("num_batches_tracked"):
            assert int(ours) == len(parts)
    for (key, ours), theirs in zip(recomputed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=key)
