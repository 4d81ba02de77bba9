"""The search for a batch that fits, and what is said where none does."""

from types import SimpleNamespace

import pytest
import torch
from training import Net, Task, make

from transfer3d.batch import ClipBatch
from transfer3d.engine import memory_plan
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.memory_plan import MemoryPlan, plan_batch
from transfer3d.engine.out_of_memory import is_out_of_memory
from transfer3d.errors import SetupError

GPU_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU_FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")


def clips(count):
    pixels = torch.randint(0, 256, (count, 3, 4, 8, 8), dtype=torch.uint8)
    names = [str(number) for number in range(count)]
    return ClipBatch(pixels, torch.zeros(count, dtype=torch.long), names, names)


def planned(monkeypatch, free, batch_size=None, task=None):
    monkeypatch.setattr(memory_plan, "free_memory", lambda _device: free)
    return plan_batch(task or Task(Net()), make_accelerator("fp32"), clips, batch_size=batch_size, largest=32)


def test_the_batch_is_halved_until_it_is_expected_to_fit(monkeypatch):
    plenty = planned(monkeypatch, 10**12)
    assert (plenty.batch_size, plenty.fits) == (32, True)
    for free in (plenty.step_bytes, plenty.step_bytes // 2, plenty.step_bytes // 4):
        found = planned(monkeypatch, free)
        assert found.fits
        assert found.batch_size in (4, 8, 16)
        twice = planned(monkeypatch, free, batch_size=2 * found.batch_size)
        assert not twice.fits  # the largest that does
    assert planned(monkeypatch, 0).batch_size == 2  # no smaller one has a negative pair


def test_a_given_batch_size_is_not_changed(monkeypatch):
    assert planned(monkeypatch, 0, batch_size=24).batch_size == 24


def test_the_search_leaves_no_trace(monkeypatch):
    task = Task(Net())
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    planned(monkeypatch, 10**12, task=task)
    after = task.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())  # statistics too
    assert all(parameter.grad is None for parameter in task.parameters())


@pytest.mark.parametrize(("most", "runs"), [(8, True), (7, False)])
def test_a_gpu_is_asked_by_making_the_step(monkeypatch, most, runs):
    def step(_objective, _accelerator, batch):
        if len(batch.keys) > most:
            raise GPU_FULL
        return 0

    monkeypatch.setattr(memory_plan, "_step", step)
    accelerator = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    plan = MemoryPlan(batch_size=8, step_bytes=1, free_bytes=10, step_seconds=0.0)
    assert memory_plan._runs(Task(Net()), accelerator, clips, plan) == runs


@pytest.mark.parametrize("error", [GPU_FULL, CPU_FULL])
def test_a_step_that_does_not_fit_is_said_in_a_sentence(monkeypatch, error):
    def full(_task):
        raise error

    trainer, _ = make(None, at_step={2: full})
    with pytest.raises(SetupError, match=r"does not fit into memory.*Set a smaller batch_size") as caught:
        trainer.run()
    assert caught.value.exit_code == 5
    with pytest.raises(SetupError, match="does not fit into memory"):
        planned(monkeypatch, 0, task=Task(Net(), {0: full}))


def test_other_errors_are_what_they_are():
    def broken(_task):
        raise RuntimeError("shapes do not fit")

    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    trainer, _ = make(None, at_step={2: broken})
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trainer.run()
