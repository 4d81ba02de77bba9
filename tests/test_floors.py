"""The lowest versions that pyproject.toml allows resolve together, and the fast tests pass with them."""

import os
import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Linters and trackers are not among what the tests import.
EXTRAS = ("cam", "export", "flow", "parquet", "tensorboard", "test")


def lowest_requirements() -> list[str]:
    """Every requirement of the package and of its extras, at its lowest version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(line for e in EXTRAS for line in project["optional-dependencies"][e]),
    ]
    return [line.replace(">=", "==") for line in listed if not line.startswith("transfer3d[")]


def test_every_requirement_has_a_lowest_version():
    for line in lowest_requirements():
        assert re.fullmatch(r"[A-Za-z0-9_-]+(\[[a-z]+\])?==[0-9.]+", line), line


@pytest.mark.slow
@pytest.mark.proc
@pytest.mark.timeout(3600)
def test_the_fast_tests_pass_with_the_lowest_versions(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # From the index alone, as users get them: a folder of wheels in its settings may hold another build
    # of torch than torchvision's.
    (tmp_path / "wheels").mkdir()
    environment = {**os.environ, "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    install = [python, "-m", "pip", "install", "--quiet", *lowest_requirements()]
    subprocess.run([*map(str, install)], check=True, env=environment)
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    quick = ["-m", "not slow and not proc"]  # child processes run the same code again
    command = [str(python), "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *quick]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
