"""States that somebody edited and signed again: what they say is checked before it is used."""

import json
import shutil

import pytest
import torch
from endless import ENDLESS, place_endless
from safetensors.torch import load_file, save_file
from training import claim, make, weights

from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.run_folder import MANIFEST, STATE, TENSORS, RunFolder
from transfer3d.errors import UsageError, WeightsError
from transfer3d.files import sha256_file

STEPS = 4
MOMENTS, COUNT = "optimizer.0.exp_avg", "optimizer.0.step"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four steps with checkpoints of the second and the last, not marked as finished."""
    path = tmp_path_factory.mktemp("run") / "run"
    folder = claim(path)
    make(folder, STEPS, save_every=2)[0].run()
    folder.close()
    (path / "finished.json").unlink()
    return path


def edited(run, tmp_path, change, step=STEPS):
    """A copy whose checkpoint `change(tensors, state)` has edited, with a manifest that is right again."""
    path = tmp_path / "edited"
    shutil.copytree(run, path)
    place = path / "checkpoints" / f"step-{step}"
    tensors, state = load_file(place / TENSORS), json.loads((place / STATE).read_text())
    content = change(tensors, state)
    save_file(tensors, place / TENSORS)
    (place / STATE).write_text(content if isinstance(content, str) else json.dumps(state))
    sign(place)
    return path


def sign(place):
    files = {
        name: {"bytes": (place / name).stat().st_size, "sha256": sha256_file(place / name)}
        for name in (TENSORS, STATE)
    }
    (place / MANIFEST).write_text(json.dumps({"step": STEPS, "files": files}))


def resumed(path, **options):
    folder = claim(path, resume=True)
    try:
        trainer, _ = make(folder, STEPS, save_every=2, **options)
        trainer.resume()
        return trainer
    finally:
        folder.close()


def put(key, value):
    return lambda tensors, state: state.__setitem__(key, value)


def in_group(key, value):
    return lambda tensors, state: state["optimizer"]["param_groups"][0].__setitem__(key, value)


def tensor(name, value):
    return lambda tensors, state: tensors.__setitem__(name, value)


REFUSED = {
    "metrics that are not numbers": put("metrics", {"loss": "x"}),
    "scores that are not a list": put("scores", {"a": 1}),
    "identity that is a list": put("identity", ["x"]),
    "no processes": put("processes", 0),
    "half a process": put("processes", 1.5),
    "an optimiser that is a list": put("optimizer", []),
    "slots of a name": lambda _, state: state["optimizer"]["scalars"].update({"x": {"step": 1}}),
    "no groups": lambda _, state: state["optimizer"].update(param_groups=[]),
    "a group less": lambda _, state: state["optimizer"]["param_groups"].pop(),
    "parameters of others": in_group("params", [99]),
    "nothing but a step": lambda _, state: [state.pop(key) for key in list(state) if key != "step"],
    "moments of another shape": tensor(MOMENTS, torch.zeros(3)),
    "moments that are numbers": tensor(MOMENTS, torch.zeros(4, 3, 3, 3, 3, dtype=torch.int64)),
    "moments that are not finite": tensor(MOMENTS, torch.full((4, 3, 3, 3, 3), float("nan"))),
    "no moments": lambda tensors, _: tensors.pop(MOMENTS),
    "moments of nobody": tensor("optimizer.99.exp_avg", torch.zeros(1)),
    "a step before the first": tensor(COUNT, torch.tensor(-1.0)),
    "a step that is not a number": tensor(COUNT, torch.tensor(float("nan"))),
    "a step of many": tensor(COUNT, torch.ones(7)),
    "more steps than the run": tensor(COUNT, torch.tensor(1e9)),
    "the moments of SGD": lambda tensors, _: [
        tensors.__setitem__(f"optimizer.{i}.momentum_buffer", tensors.pop(f"optimizer.{i}.exp_avg"))
        for i in range(6)
    ],
    "weights that are not finite": tensor("model.student.head.bias", torch.full((3,), float("inf"))),
    "weights of another shape": tensor("model.student.head.bias", torch.zeros(4)),
}


@pytest.mark.parametrize("edit", REFUSED)
def test_an_edited_state_is_refused_in_a_sentence(run, tmp_path, edit):
    with pytest.raises(WeightsError, match="belongs to another network or run: .") as caught:
        resumed(edited(run, tmp_path, REFUSED[edit]))
    assert "\n" not in str(caught.value)


DAMAGED = {
    "a step beyond the end": put("step", STEPS + 9),
    "a step before the start": put("step", -1),
    "a step that is not a number": put("step", float("nan")),
    "a step of another checkpoint": put("step", 2),
    "no step": lambda _, state: state.pop("step"),
    "a list": lambda *_: "[]",
    "nothing": lambda *_: "",
    "endless nesting": lambda *_: "[" * 100_000,
}


@pytest.mark.parametrize("edit", DAMAGED)
def test_a_state_of_another_step_is_passed_over(run, tmp_path, edit, caplog):
    trainer = resumed(edited(run, tmp_path, DAMAGED[edit]))
    assert trainer.step == 2
    assert f"checkpoint step-{STEPS} is damaged" in caplog.text


def test_a_checkpoint_beyond_the_end_is_refused(run, tmp_path):
    path = edited(run, tmp_path, put("step", 9))
    (path / "checkpoints" / f"step-{STEPS}").rename(path / "checkpoints" / "step-9")
    with pytest.raises(WeightsError, match="step 9 of 4"):
        resumed(path)


def test_other_data_are_named_before_other_networks(run, tmp_path):
    path = edited(run, tmp_path, put("identity", {}))
    folder = claim(path, resume=True)
    trainer, _ = make(folder, STEPS)
    trainer.identity = {"data": "x"}
    with pytest.raises(UsageError, match="another data"):
        trainer.resume()
    folder.close()


@pytest.mark.parametrize("key", ["lr", "weight_decay", "lr_scale", "betas", "initial_lr"])
@pytest.mark.parametrize("value", [float("nan"), -1e9, "x", None])
def test_rates_are_those_of_the_recipe_whatever_a_state_says(run, tmp_path, key, value):
    trainer = resumed(edited(run, tmp_path, in_group(key, value), step=STEPS))
    fresh, _ = make(None, STEPS)
    group, expected = trainer.optimizer.param_groups[0], fresh.optimizer.param_groups[0]
    assert {k: v for k, v in group.items() if k != "params"} == {
        k: v for k, v in expected.items() if k != "params"
    }


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "momentum"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_state_that_nobody_edited_goes_on_with_the_same_bits(tmp_path, optimizer, momentum):
    options = {"optimizer": OptimizerConfig(name=optimizer, momentum=momentum, average=0.9), "save_every": 2}
    straight, _ = make(None, STEPS, **options)
    straight.run()
    path = tmp_path / "run"
    folder = claim(path)
    make(folder, STEPS, **options)[0].run()
    folder.close()
    shutil.rmtree(path / "checkpoints" / f"step-{STEPS}")
    folder = claim(path, resume=True)
    trainer, _ = make(folder, STEPS, **options)
    trainer.resume()
    assert trainer.step == 2
    trainer.run()
    folder.close()
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trainer).values(), weights(straight).values(), strict=True)
    )


@pytest.mark.parametrize("name", [MANIFEST, STATE, TENSORS])
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_no_file_is_passed_over_and_not_waited_for(run, tmp_path, name, kind):
    path = tmp_path / "edited"
    shutil.copytree(run, path)
    place = path / "checkpoints" / f"step-{STEPS}"
    (place / name).unlink()
    place_endless(place / name, kind)
    if name != MANIFEST:
        files = json.loads((place / MANIFEST).read_text())
        files["files"][name]["bytes"] = 0
        (place / MANIFEST).write_text(json.dumps(files))
    folder = RunFolder(path, resume=True)
    _, state, damaged = folder.load_checkpoint()
    folder.close()
    assert (state["step"], damaged) == (2, [f"step-{STEPS}"])
