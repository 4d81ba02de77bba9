"""What a step in parts must not do: move buffers twice, draw other numbers, hold more than a part."""

from contextlib import nullcontext

import torch
from pairwise import make_batch, make_objective

from transfer3d.engine.accumulation import backward_mean, backward_pairwise, split_batch

PLAIN = {"autocast": nullcontext, "no_sync": nullcontext}
CONFIG = {"match": 1.0, "feature": 1.0}


def kept_bytes(step):
    """The most that autograd holds at a time for backward passes."""
    held, peak = {}, 0

    class Saved:
        def __init__(self, tensor):
            nonlocal peak
            self.tensor = tensor
            held[id(self)] = tensor.untyped_storage().nbytes()
            peak = max(peak, sum(held.values()))

        def __del__(self):
            held.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        step()
    return peak


def test_buffers_move_as_in_one_forward_pass_of_each_part():
    parts = split_batch(make_batch(), 4)
    objective, expected = make_objective(CONFIG).train(), make_objective(CONFIG).train()
    backward_pairwise(objective, objective, parts, **PLAIN)
    with torch.no_grad():
        features = [expected.embed(part) for part in parts]
        expected.compare(type(features[0]).concatenate(features))
    moved = dict(objective.named_buffers())
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(moved[name], buffer, rtol=1e-5, atol=1e-6, msg=name)
        if name.endswith("num_batches_tracked"):
            assert int(buffer) == (1 if name.startswith("feature") else 4)


def test_both_forward_passes_of_a_part_draw_the_same_dropout():
    objective = make_objective({"match": 1.0}).train()
    objective.student.dropout.p = 0.5
    masks = []
    objective.student.dropout.register_forward_hook(lambda _m, _i, output: masks.append(output.detach() == 0))
    backward_pairwise(objective, objective, split_batch(make_batch(), 2), **PLAIN)
    assert len(masks) == 4
    assert torch.equal(masks[0], masks[2])
    assert torch.equal(masks[1], masks[3])
    assert not torch.equal(masks[0], masks[1])


def test_memory_stays_that_of_a_part():
    batch = make_batch()
    objective = make_objective({"match": 0.0, "infonce": 1.0}).train()
    whole = kept_bytes(lambda: backward_mean(objective, [batch], **PLAIN))
    parts = kept_bytes(lambda: backward_pairwise(objective, objective, split_batch(batch, 4), **PLAIN))
    one = kept_bytes(lambda: backward_mean(objective, [batch[:4]], **PLAIN))
    assert parts < 1.3 * one < 0.5 * whole
