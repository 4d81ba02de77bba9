"""A run that is killed again and again in the middle of a save loses no more than that save."""

import json
import os
import statistics
import time
from random import Random

import pair
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training import Net, claim, make

from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.run_folder import MANIFEST, TENSORS, RunFolder
from transfer3d.files import PARTIAL

pytestmark = [pytest.mark.proc, pytest.mark.slow]
KILLS, STEPS, SEED = 30, 100, 0
DIGESTS = "digests.txt"


class WideNet(Net):
    """With so many weights that a save takes some time: 9 MB with the optimiser's state and the average."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(4 * 2 * 6 * 6, 2000), nn.Linear(2000, 3))


def _train(path):
    torch.set_num_threads(1)
    resume = (path / "recipe.toml").exists()
    folder = claim(path, resume)
    note_digests(folder)
    trainer, _ = make(
        folder, STEPS, net=WideNet(), save_every=1, keep_checkpoints=2,
        optimizer=OptimizerConfig(name="adamw", average=0.9),
    )  # fmt: skip
    if resume:
        trainer.resume()
    trainer.run()


def start(path):
    process = pair.FORKS.Process(target=_train, args=(path,))
    process.start()
    return process


def digest(folder):
    """The sha256 of a checkpoint's tensors, as its manifest says."""
    return json.loads((folder / MANIFEST).read_text())["files"][TENSORS]["sha256"]


def note_digests(run):
    """Lets a run folder note the digest of each checkpoint, which does not stay."""
    whole = run.save_checkpoint

    def save(step, *arguments, **options):
        whole(step, *arguments, **options)
        with (run.path / DIGESTS).open("a") as file:
            file.write(f"{step} {digest(run.checkpoints / f'step-{step}')}\n")

    run.save_checkpoint = save


def noted_digests(path):
    return {int(step): noted for step, noted in map(str.split, (path / DIGESTS).read_text().splitlines())}


def saves(path):
    """The names of whole checkpoints and of saves that are under way."""
    names = os.listdir(path / "checkpoints") if (path / "checkpoints").exists() else []
    begun = {name for name in names if name.startswith(PARTIAL)}
    return set(names) - begun, begun


def next_save(path, process):
    """Waits for the save after the next one to begin, and returns its folder's name; None at the end."""
    before, _ = saves(path)
    while process.is_alive():
        whole, begun = saves(path)
        if whole - before and begun:
            return begun.pop()
        time.sleep(0.0002)
    return None


def seconds_of_a_save(path, process):
    """Watches a run to its end; returns how long a save took, the median."""
    durations = []
    while name := next_save(path, process):
        started = time.monotonic()
        while name in saves(path)[1]:
            time.sleep(0.0002)
        durations.append(time.monotonic() - started)
    process.join()
    assert process.exitcode == 0
    return statistics.median(durations)


def newest_state(path):
    """What the newest checkpoint holds; none is damaged."""
    folder = RunFolder(path, resume=True)
    try:
        loaded = folder.load_checkpoint()
    finally:
        folder.close()
    assert loaded is not None
    tensors, state, damaged = loaded
    assert not damaged
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values())
    return state["step"]


@pytest.mark.timeout(900)  # a minute on two idle cores
def test_thirty_kills_in_the_middle_of_a_save_leave_the_same_bits(tmp_path):
    straight, out, random = tmp_path / "straight", tmp_path / "killed", Random(SEED)
    window_s = seconds_of_a_save(straight, start(straight))
    straight_digests = noted_digests(straight)
    assert set(straight_digests) == set(range(1, STEPS + 1))
    kills, stages, step = 0, set(), 0
    while kills < KILLS:
        process = start(out)
        name = next_save(out, process)
        assert name is not None, f"the run ended after {kills} kills, saves take {window_s} s"
        time.sleep(random.uniform(0, window_s))
        process.kill()
        process.join()
        partial = out / "checkpoints" / name
        if partial.exists():  # else it was complete just before
            kills += 1
            stages.add(tuple(sorted(path.name for path in partial.iterdir() if path.name[0] != ".")))
        now = newest_state(out)
        assert now > step
        assert digest(out / "checkpoints" / f"step-{now}") == straight_digests[now], f"kill {kills}"
        assert not partial.exists()
        step = now
    last = start(out)
    last.join(240)
    assert last.exitcode == 0, f"after {kills} kills at step {step}"
    assert len(stages) > 1, "all kills hit the same moment"
    files = [folder / "checkpoints" / f"step-{STEPS}" / "state.safetensors" for folder in (straight, out)]
    ours, theirs = map(load_file, files)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    print(f"{kills} kills in saves of {window_s:.3f} s, at {len(stages)} stages")
