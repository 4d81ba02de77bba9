"""What commands load before they answer: time at the prompt is mostly imports."""

import subprocess
import sys

import pytest
from media import write_numbered

from transfer3d.models.checkpoint import save
from transfer3d.models.costs import read_costs
from transfer3d.models.factory import create_model
from transfer3d.models.measure import measure
from transfer3d.models.registry import list_models

CODE = """
import contextlib, io, sys
from transfer3d.cli.main import main

def run(*arguments):
    sys.argv = ["transfer3d", *arguments]
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as stop:
            return stop.code or 0, out.getvalue(), errors.getvalue()

def loaded(*names):
    return sorted(set(names) & set(sys.modules))

HEAVY = "torch._dynamo sympy triton timm torchvision accelerate sklearn scipy matplotlib"
HEAVY = f"{HEAVY} webdataset huggingface_hub".split()

def expect(codes, *without):
    for arguments, expected in codes.items():
        answer = run(*arguments)
        assert answer[0] == expected, (arguments, answer)
        assert not loaded(*without), (arguments, loaded(*without))

code, text, _ = run("recipe", "ls")
assert code == 0 and "t3d" in text, text
expect(RECIPES, "torch", "numpy", "av", *HEAVY)
expect(COMMANDS, *HEAVY)
expect(PREDICTIONS, *(name for name in HEAVY if name != "accelerate"))
"""


@pytest.mark.proc
def test_commands_load_only_what_they_need(tmp_path):
    checkpoint, broken = tmp_path / "p3d.safetensors", tmp_path / "broken.safetensors"
    save(create_model("p3d_tiny", num_classes=3), checkpoint)
    broken.write_bytes(b"no checkpoint")
    video = tmp_path / "videos" / "a.mp4"
    video.parent.mkdir()
    write_numbered(video, 4)
    (tmp_path / "bad.toml").write_text('task = "finetune"\nlearning_rate = 1\n')
    commands = {
        ("models", "--json"): 0,
        ("models", "p3f*"): 2,
        ("info", str(checkpoint)): 0,
        ("info", str(broken)): 4,
        ("info", str(tmp_path / "absent.safetensors")): 4,
        ("check", str(tmp_path / "videos")): 0,
        ("check", str(tmp_path / "absent")): 2,
        ("predict", str(tmp_path / "absent.safetensors"), str(video)): 4,
        ("predict", str(broken), str(video)): 4,
        ("predict", str(video), str(video)): 2,
        ("predict", str(checkpoint), str(tmp_path / "absent.mp4")): 2,
        ("predict", str(checkpoint), str(video), "--json", "--csv"): 2,
    }
    recipes = {
        ("recipe", "show", "default/finetune"): 0,
        ("recipe", "show", "demo/correspond", "--set", "max_steps=3"): 0,
        ("recipe", "show", str(tmp_path / "bad.toml")): 2,
        ("recipe", "schema"): 0,
    }
    predictions = {("predict", str(checkpoint), str(video)): 0}
    code = CODE
    for name, codes in (("RECIPES", recipes), ("COMMANDS", commands), ("PREDICTIONS", predictions)):
        code = code.replace(f"({name}", f"({codes!r}")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_costs_in_the_package_are_of_the_registered_students():
    costs = read_costs()
    assert sorted(costs) == list_models()
    for name in list_models("*_tiny"):
        counted = measure(name)
        assert costs[name].parameters == counted.parameters
        assert costs[name].gmac == pytest.approx(counted.gmac, abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_the_costs_in_the_package_are_those_of_the_network(name):
    counted = measure(name)
    assert read_costs()[name].parameters == counted.parameters
    assert read_costs()[name].gmac == pytest.approx(counted.gmac, abs=6e-4)
