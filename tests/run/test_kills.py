"""Two processes that are killed and resumed as two end with the bits of a run that nothing disturbed."""

import json
import shutil
import time
from random import Random
from signal import SIGKILL, SIGTERM

import pair
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.proc
STEPS, SAVE_EVERY = 8, 3
OPTIONS = [
    part
    for value in (
        f"max_steps={STEPS}", f"save_every={SAVE_EVERY}", "batch_size=8", "log_every=1", "validate_every=2",
        "augment.flip=true", "dropout=0.5", "accumulate=2", "optimizer.average=0.9", "head_first=4",
        "schedule.kind=plateau", "schedule.patience=1", "precise_batch_norm=16",
    )
    for part in ("--set", value)
]  # fmt: skip


def arguments(data, out, *more):
    return [*map(str, ("finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", data, "-o", out)),
            "--workers", "0", "--precision", "fp32", *OPTIONS, *more]  # fmt: skip


def resumed(out, *more):
    return ["finetune", "-o", str(out), "--resume", *more]


def said(path):
    return path.with_name(f"{path.name}.0").read_text() + path.with_name(f"{path.name}.1").read_text()


@pytest.fixture(scope="module")
def undisturbed(digits_folder, tmp_path_factory):
    """The run that nothing disturbs, and the seconds that it takes."""
    out = tmp_path_factory.mktemp("straight") / "run"
    pair.end(pair.start(["--version"], out.with_name("warm")))  # the first start imports what later ones have
    started = time.monotonic()
    codes = pair.end(pair.start(arguments(digits_folder / "shards", out), out.with_name("said")))
    assert codes == [0, 0], said(out.with_name("said"))
    return out, time.monotonic() - started


@pytest.fixture(scope="module")
def straight(undisturbed):
    return undisturbed[0]


def assert_same_end(out, straight):
    for name in ("model", "best"):
        ours, theirs = (load_file(folder / f"{name}.safetensors") for folder in (out, straight))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    newest = f"checkpoints/step-{STEPS}/state.safetensors"  # the optimiser and the average too
    ours, theirs = (load_file(folder / newest) for folder in (out, straight))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert log(out) == log(straight)


def log(out):
    """What metrics.jsonl says, but for the time that things took."""
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{key: row[key] for key in row if key not in ("clips_per_second", "data_wait")} for row in rows]


@pytest.mark.slow
def test_kills_in_a_step_and_in_a_checkpoint_leave_the_same_bits(straight, digits_folder, tmp_path):
    out, output = tmp_path / "run", tmp_path / "said"
    killed = pair.end(
        pair.start(arguments(digits_folder / "shards", out), output, (pair.signal_in_step, 5, SIGKILL))
    )
    assert killed == [-9, -9], said(output)
    writing = pair.end(pair.start(resumed(out), output, (pair.die_in_checkpoint, 6, 6)))
    assert writing == [-9, 5], said(output)  # the other one says whom it lost
    assert "resuming at step 3" in said(output)
    assert "lost another process" in said(output)
    assert [path.name for path in (out / "checkpoints").iterdir() if path.name[0] != "."] == ["step-3"]
    assert pair.end(pair.start(resumed(out), output)) == [0, 0], said(output)
    assert "resuming at step 3" in said(output)
    assert_same_end(out, straight)


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_ends_both(straight, digits_folder, tmp_path):
    out, output = tmp_path / "run", tmp_path / "said"
    fault = (pair.signal_in_step, 5, SIGTERM, [1])
    assert pair.end(pair.start(arguments(digits_folder / "shards", out), output, fault)) == [75, 75]
    assert f"step 5 of {STEPS}" in said(output)
    assert (out / "checkpoints" / "step-5").is_dir()
    assert pair.end(pair.start(resumed(out), output)) == [0, 0], said(output)
    assert_same_end(out, straight)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kills_at_any_time_leave_the_same_bits(undisturbed, digits_folder, tmp_path, seed):
    straight, seconds = undisturbed
    out, output, random, kills = tmp_path / "run", tmp_path / "said", Random(seed), 0
    while not (out / "finished.json").exists():
        begun = (out / "recipe.toml").exists()
        both = pair.start(resumed(out) if begun else arguments(digits_folder / "shards", out), output)
        # Before its end at first; then longer and longer, so that an end is certain.
        both[0].join(seconds * random.uniform(0.1, 0.4 if kills < 4 else kills / 6))
        kills += pair.kill(both)
        assert kills < 40
    assert kills >= 4
    assert_same_end(out, straight)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_kill_before_any_step_on_the_disk_leaves_the_same_bits(straight, digits_folder, tmp_path, first):
    output, base, moments = tmp_path / "said", tmp_path / "base", 0
    begun = pair.start(arguments(digits_folder / "shards", base), output, (pair.signal_in_step, 5, SIGKILL))
    assert pair.end(begun) == [-9, -9], said(output)
    for moment in range(first, 100, 3):
        out = tmp_path / str(moment)
        shutil.copytree(base, out)
        codes = pair.end(pair.start(resumed(out), output, (pair.die_in_checkpoint, 6, moment)))
        if codes[0] != -9:
            break
        assert pair.end(pair.start(resumed(out), output)) == [0, 0], said(output)
        assert_same_end(out, straight)
        moments += 1
    assert moments > 3
