"""The wheel: built, installed into an empty folder, and run from there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.proc
def test_the_wheel_holds_the_package_and_its_recipes(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    wheel = next(tmp_path.glob("transfer3d-*.whl"))
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, text=True)
    code = (
        "import transfer3d; from transfer3d.recipes.load import load_recipe\n"
        "from transfer3d.recipes.files import list_recipes, recipe_folder\n"
        "print(transfer3d.__file__); print(recipe_folder()); print(*list_recipes())\n"
        "load_recipe('demo/tiny-correspond')"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    package, recipes, names = done.stdout.splitlines()
    assert Path(package).is_relative_to(site)
    assert Path(recipes).is_relative_to(site)
    written = {
        p.relative_to(ROOT / "recipes").with_suffix("").as_posix() for p in (ROOT / "recipes").rglob("*.toml")
    }
    assert set(names.split()) == written
    assert (site / "transfer3d" / "py.typed").exists()
