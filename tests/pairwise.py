"""One step of a correspondence objective, in any number of processes and parts, and a plain one beside it."""

import multiprocessing
import os
import socket
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from transfer3d.batch import ClipBatch
from transfer3d.engine.accumulation import backward_mean, backward_pairwise, split_batch
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.pairs import source_ids
from transfer3d.objectives.teacher import FrozenTeacher

CLIPS = 16
# The first six clips come from three videos.
SOURCES = [f"video {number // 2 if number < 6 else number}" for number in range(CLIPS)]


def make_batch():
    generator = torch.Generator().manual_seed(5)
    clips = torch.randint(0, 256, (CLIPS, 3, 8, 32, 32), dtype=torch.uint8, generator=generator)
    keys = [str(number) for number in range(CLIPS)]
    return ClipBatch(clips, torch.full((CLIPS,), -1), keys, SOURCES)


def make_objective(config):
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5, seed=3))
    student = create_model("p3d_tiny", num_classes=5 if config.get("kd") else 0, seed=1)
    objective = Correspondence(teacher, student, CorrespondenceConfig(**config), seed=2)
    objective.eval()  # BatchNorm frozen: its statistics would depend on the part
    if objective.head is not None:
        objective.head.train()  # its statistics are those of all pairs, whatever the parts
    if objective.bank is not None:
        features_ND, sources = banked(teacher.num_features)
        objective.bank.add(features_ND, source_ids(sources, torch.device("cpu")))
        objective.training = True  # the objective alone: its bank takes in the step's features
    return objective


def banked(features):
    """What a bank holds before the step: of five videos, two of them in the batch."""
    generator = torch.Generator().manual_seed(9)
    return torch.rand(5, features, generator=generator), [
        "video 0",
        "video 9",
        "other 1",
        "other 1",
        "other 2",
    ]


def rows(batch, rank, world):
    mine = len(batch) // world
    return batch[rank * mine : (rank + 1) * mine]


def one_step(config, *, rank=0, world=1, parts=1):
    """Returns loss, metrics and gradients of this process."""
    objective = make_objective(config)
    wrapped = objective if world == 1 else nn.parallel.DistributedDataParallel(objective)
    split = split_batch(rows(make_batch(), rank, world), parts)
    contexts = {"autocast": nullcontext, "no_sync": getattr(wrapped, "no_sync", nullcontext)}
    torch.manual_seed(11 + rank)
    step = partial(backward_pairwise, objective) if parts > 1 else backward_mean
    report = step(wrapped, split, **contexts)
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters()}
    return {
        "loss": report.total.detach(),
        "parts": {name: value.detach() for name, value in report.parts.items()},
        "gradients": gradients,
        "bank": dict(objective.bank.named_buffers()) if objective.bank is not None else {},
    }


def _process(rank, world, port, config, parts, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    torch.save(one_step(config, rank=rank, world=world, parts=parts), f"{results}.{rank}")
    torch.distributed.destroy_process_group()


@cache
def _pool():
    """Two processes that stay, since they take seconds to start.

    Not forks of this one: autograd refuses to work there once a test has started its threads.
    """
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def two_processes(config, folder, *, parts=1):
    """Returns what each of two gloo processes found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = folder / f"step-{parts}"
    calls = [_pool().submit(_process, rank, 2, port, config, parts, str(results)) for rank in range(2)]
    for call in calls:
        call.result(60)
    return [torch.load(f"{results}.{rank}", weights_only=True) for rank in range(2)]


def plain_step(config):
    """The same loss by loops over the whole batch and plain autograd, from the papers' formulas."""
    objective, batch = make_objective(config), make_batch()
    with torch.no_grad():
        taught = objective.teacher(batch.clips)
    student = objective.student
    maps = student.forward_features(normalise(batch.clips, student.clip.mean, student.clip.std))
    clips = maps.mean((2, 3, 4))
    frames, of_frames, count = taught.features, SOURCES, range(CLIPS)
    if config.get("bank"):
        features_ND, sources = banked(objective.teacher.num_features)
        frames, of_frames = torch.cat([frames, features_ND]), SOURCES + sources
    everything = range(len(frames))
    different = [(i, j) for i in everything for j in count if of_frames[i] != SOURCES[j]]
    total = torch.zeros(())
    if weight := config.get("match", 1.0):
        head = objective.head
        fc1 = torch.cat([head.fc1_frames.weight, head.fc1_clip.weight], 1)
        logits = {}
        for i in everything:
            for j in count:
                hidden = F.relu(F.linear(torch.cat([frames[i], clips[j]]), fc1, head.fc1_clip.bias))
                logits[i, j] = head.classifier(F.relu(head.fc2(hidden)))
        negatives = [different]
        if config.get("pairs") == "hard":
            margin = {pair: (logits[pair][1] - logits[pair][0]).item() for pair in different}
            of_clip = [[pair for pair in different if pair[1] == j] for j in count]
            negatives.append([p for pairs in of_clip for p in sorted(pairs, key=lambda p: -margin[p])[:4]])
        positive = torch.stack([-logits[i, i].log_softmax(0)[1] for i in count]).mean()
        losses = [
            (positive + torch.stack([-logits[p].log_softmax(0)[0] for p in pairs]).mean()) / 2
            for pairs in negatives
        ]
        total = total + weight * sum(losses) / len(losses)
    if weight := config.get("infonce"):
        head = objective.similarity
        a, b = F.normalize(head.frames(frames), dim=1), F.normalize(head.clips(clips), dim=1)
        similarity = a @ b.T / 0.1
        loss = torch.zeros(())
        for table, others in ((similarity, SOURCES), (similarity.T, of_frames)):
            for i in count:
                rivals = [j for j, other in enumerate(others) if j == i or SOURCES[i] != other]
                loss = loss + (torch.logsumexp(table[i, rivals], 0) - table[i, i]) / (2 * CLIPS)
        total = total + weight * loss
    total.backward()
    return SimpleNamespace(
        loss=total.detach(), gradients={n: p.grad for n, p in objective.named_parameters()}
    )
