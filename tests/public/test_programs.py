"""The programs of the docs run as they stand, in an empty folder, with public names alone."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from media import write_numbered

import transfer3d

PROGRAMS = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
DIGITS = [
    "synth",
    "digits/",
    "--train",
    "2",
    "--val",
    "1",
    "--test",
    "1",
    "--unlabelled",
    "40",
    "--size",
    "32",
]
QUICK = {"own_loop", "own_student", "webcam"}
ARGUMENTS = {"webcam": ["model.safetensors", "camera.mp4"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the small built-in dataset that the programs' page makes first, a model and a film."""
    folder = tmp_path_factory.mktemp("programs")
    student = transfer3d.create_model("p3d_tiny", num_classes=2)
    transfer3d.save(student, folder / "model.safetensors", class_names=["walk", "run"])
    write_numbered(folder / "camera.mp4", 100)
    make_digits(folder)
    return folder


def make_digits(folder):
    subprocess.run([sys.executable, "-m", "transfer3d", *DIGITS], cwd=folder, check=True, capture_output=True)


def run(program, folder):
    """Runs a program as it stands; returns what it prints."""
    done = subprocess.run(
        [sys.executable, str(program), *ARGUMENTS.get(program.stem, ())],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, f"{program}: {done.stderr}"
    assert "Traceback" not in done.stderr, f"{program}: {done.stderr}"
    return done.stdout


@pytest.mark.proc
@pytest.mark.parametrize(
    "program",
    [path if path.stem in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in PROGRAMS],
    ids=lambda path: path.stem,
)
def test_a_program_runs(program, folder):
    printed = run(program, folder)
    if program.stem == "webcam":
        assert [line.split()[0] for line in printed.splitlines()] == ["2.0", "2.5", "3.0", "3.5", "4.0"]
        assert all(line.split()[2] in ("walk", "run") for line in printed.splitlines())


@pytest.mark.slow
@pytest.mark.proc
@pytest.mark.timeout(1200)
def test_the_originals_of_the_programs_run_too(programs_folder, tmp_path):
    """The examples are copies with small changes."""
    make_digits(tmp_path)
    for program in sorted(programs_folder.glob("*.py")):
        check_names(program)
        run(program, tmp_path)


def public_names(program):
    """The names of transfer3d that a program uses, with the module that it takes them from."""
    for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("transfer3d"):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "transfer3d":
            yield "transfer3d", node.attr


def test_there_are_programs():
    assert {"own_dataset", "own_loop", "own_objective", "own_student"} <= {file.stem for file in PROGRAMS}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_uses_public_names_alone(program):
    check_names(program)


def check_names(program):
    used = set(public_names(program))
    assert used
    for module, name in used:
        assert module in ("transfer3d", "transfer3d.data", "transfer3d.recipes"), f"{module} is private"
        assert name in __import__(module, fromlist=["__all__"]).__all__


def test_every_public_name_is_there_documented_and_says_its_arguments():
    for name in transfer3d.__all__:
        found = getattr(transfer3d, name)
        assert inspect.getdoc(found), name
        if callable(found) and not (isinstance(found, type) and issubclass(found, Exception)):
            parameters = inspect.signature(found).parameters.values()
            bare = [
                p.name for p in parameters if p.annotation is inspect.Parameter.empty and p.name != "self"
            ]
            assert not bare, f"{name}: {bare}"
    assert list(inspect.signature(transfer3d.inflate).parameters)[:2] == ["image_model", "to"]
    assert set(transfer3d.__all__) <= set(dir(transfer3d))


def test_refusals_are_value_errors_too():
    for error in (transfer3d.UsageError, transfer3d.DataError, transfer3d.WeightsError):
        assert issubclass(error, ValueError)
