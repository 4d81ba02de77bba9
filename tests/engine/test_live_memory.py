"""Live memory counted by hand, and what recomputed activations save of it."""

import pytest
import torch
from torch import nn
from training import Net, Task, make

from transfer3d.engine.live_memory import LiveMemory, step_bytes
from transfer3d.engine.network_options import recompute_activations
from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model

KIB = 1024


def test_the_peak_is_that_of_the_tensors_that_live_together():
    x = torch.zeros(KIB // 4)  # made before: not counted
    with LiveMemory() as memory:
        y = x + 1  # 1 KiB
        z = torch.cat((y, y))  # and 2
        del y
        view, z = z[:4], z.add_(1)  # no new memory
        w = torch.cat((z, z))  # and 4
    assert memory.peak == memory.bytes == 6 * KIB
    del z, w
    assert memory.bytes == 2 * KIB  # a view keeps what it is of
    del view
    assert memory.bytes == 0


def test_the_backward_pass_counts():
    weight = torch.zeros(KIB // 4, requires_grad=True)
    with LiveMemory() as memory:
        loss = (weight * weight).exp().sum()
        forward = memory.bytes
        loss.backward()
    assert forward == pytest.approx(KIB, abs=16)  # exp keeps its result, the product's is gone
    assert memory.peak >= 3 * KIB
    assert weight.grad is not None


def test_a_step_counts_neither_weights_nor_gradients():
    linear = nn.Linear(KIB, KIB, bias=False)
    x = torch.ones(1, KIB)
    counted = step_bytes(linear, lambda: linear(x).square().sum())
    # y and its square, then the gradients of y and, until it is added, of the weight.
    assert 4 * KIB * KIB <= counted <= 4 * KIB * (KIB + 4)
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad, (2 * linear(x).detach()).T.expand(KIB, KIB))


def peak(name, recomputed, shape):
    with torch.device("meta"):
        student = create_model(name, num_classes=101).bfloat16().train()
        clips = torch.empty(shape, dtype=torch.bfloat16)
    student.set_grad_checkpointing(recomputed)
    return step_bytes(student, lambda: student(clips).square().mean())


@pytest.mark.slow
def test_t3d_takes_less_than_two_fifths_of_the_memory():
    shape = (2, 3, 16, 112, 112)
    assert peak("t3d_densenet121", True, shape) <= 0.4 * peak("t3d_densenet121", False, shape)


def test_the_trainer_turns_it_on():
    student = create_model("t3d_tiny", num_classes=2)
    task = Task(Net())
    task.student = student
    recompute_activations(task)
    assert student.trunk.grad_checkpointing
    assert student.trunk.blocks[0].grad_checkpointing


def test_a_network_that_cannot_is_named():
    with pytest.raises(UsageError, match=r"Linear cannot. Set activation_checkpointing=false"):
        recompute_activations(nn.Linear(1, 1))
    with pytest.raises(UsageError, match="activation_checkpointing"):
        make(None, activation_checkpointing=True)
