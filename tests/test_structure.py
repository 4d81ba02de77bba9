"""The house: layers, file lengths, and a help text that loads nothing heavy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import transfer3d

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "transfer3d"
LAYERS = (
    {"errors", "layout"},
    {"files", "scratch", "progress", "batch"},
    {"nn", "data", "weights"},
    {"models"},
    {"inflation", "export"},
    {"objectives"},
    {"engine"},
    {"evaluation"},
    {"insight"},
    {"bench"},
    {"recipes"},
    {"run"},
    {"cli"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
NO_DATA = {"objectives", "models", "inflation", "export", "nn", "weights"}


def imported_names(path: Path) -> set[str]:
    """The modules that a file imports, and the names from them, at any depth of its syntax tree."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.startswith("transfer3d.")}


def imported_parts(path: Path) -> set[str]:
    """The first-level parts of transfer3d that a file imports."""
    return {name.split(".")[1] for name in imported_names(path)} & RANK.keys()


def violations(part: str, imports: set[str]) -> set[str]:
    wrong = {other for other in imports if other != part and RANK[other] >= RANK[part]}
    if part in NO_DATA:
        wrong |= imports & {"data"}
    if part == "data":
        wrong |= imports & {"nn", "models", "weights"}
    return wrong


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_imports_go_down_only():
    wrong = {}
    for path in python_files():
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part in RANK and (bad := violations(part, imported_parts(path))):
            wrong[str(path.relative_to(ROOT))] = bad
    assert not wrong


def imported_files(path: Path) -> set[Path]:
    """The files of transfer3d that a file imports; a folder's is its `__init__.py`."""
    places = [ROOT / name.replace(".", "/") for name in imported_names(path)]
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return {file for file in files if file.is_file()}


def circle_in(graph: dict[Path, set[Path]]) -> list[Path]:
    """Files that import each other in a circle, or none."""
    done: set[Path] = set()

    def visit(file: Path, way: list[Path]) -> list[Path]:
        if file in way:
            return way[way.index(file) :]
        if file in done:
            return []
        circles = (visit(other, [*way, file]) for other in graph.get(file, set()))
        found = next((circle for circle in circles if circle), [])
        done.add(file)
        return found

    return next((circle for file in graph if (circle := visit(file, []))), [])


def test_no_files_import_each_other_in_a_circle():
    assert not circle_in({path: imported_files(path) for path in python_files()})


def test_the_circle_test_sees_one():
    a, b, c = (Path(name) for name in "abc")
    assert circle_in({a: {b}, b: {c}, c: {b}}) == [b, c]
    assert not circle_in({a: {b, c}, b: {c}, c: set()})


def test_every_folder_has_a_layer():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(RANK)


def test_the_layer_test_sees_an_upward_import(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from transfer3d.engine.trainer import Trainer\n")
    assert imported_parts(file) == {"engine"}
    assert violations("models", {"engine"}) == {"engine"}
    assert violations("data", {"nn"}) == {"nn"}
    assert violations("objectives", {"data"}) == {"data"}
    assert not violations("engine", {"data", "objectives", "models"})


def test_no_family_imports_another():
    from transfer3d.models.registry import FAMILY_MODULES

    families = set(FAMILY_MODULES)
    assert len(families) > 2
    for family in families:
        text = (PACKAGE / "models" / f"{family}.py").read_text(encoding="utf-8")
        others = {other for other in families - {family} if f"transfer3d.models.{other}" in text}
        assert not others, f"{family} imports {others}"


@pytest.mark.parametrize("folder", ["transfer3d", "tests", "tools"])
def test_no_file_is_longer_than_400_lines(folder):
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert not {str(path): length for path, length in lengths.items() if length > 400}


def test_changelog_is_of_this_version():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == transfer3d.__version__


HELP = """
import sys
sys.argv = ["transfer3d", *{arguments!r}]
from transfer3d.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {{"torch", "timm", "av", "torchvision", "accelerate", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.proc
@pytest.mark.parametrize("arguments", [["--help"], ["inflate", "--help"], ["correspond", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = HELP.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
