"""Every block of the README and of docs/ is run, or held against the command line's own options."""

import re

import pytest
import typer
from blocks import FILE, FILES, LANGUAGES, MARKS, ROOT, Block, blocks_of, check, commands, parse, run

import transfer3d
import transfer3d.data
from transfer3d.cli.main import app
from transfer3d.recipes.load import load_recipe, stages_of

EVERY = [block for path in FILES for block in blocks_of(path)]
TUTORIALS = [path for path in FILES if any(block.mark == "run" for block in blocks_of(path))]
QUICK = {"README.md", "python.md"}
"""The others take as long, and what they call has tests of its own."""
SLOW = [path for path in FILES if any(block.mark == "run-slow" for block in blocks_of(path))]


@pytest.mark.parametrize("block", EVERY, ids=lambda block: block.where)
def test_a_block_says_how_it_is_tested_and_its_commands_have_these_options(block):
    if block.language in LANGUAGES:
        known = block.mark in MARKS or block.mark.startswith(FILE)
        assert known, f"{block.where}: put {FILE}PATH or one of {sorted(MARKS)} on the line before it"
        check(block)
    else:
        assert block.language, f"{block.where}: name its language after the fence"
        assert not block.mark, f"{block.where}: only {sorted(LANGUAGES)} are marked"


def options_of(command):
    """Returns the options of a command and of its subcommands."""
    own = {name for parameter in command.params for name in parameter.opts}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_in_sentences_have_these_options(path):
    commands = typer.main.get_command(app).commands
    measured = commands["bench"].commands  # a table names `bench models` only `models`
    sentences = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for span in re.findall(r"`(?:transfer3d )?(\w+ [^`\n]*)`", sentences):
        name = span.split()[0]
        if name in commands:
            known = options_of(commands[name]) | (options_of(measured[name]) if name in measured else set())
            assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", span)) <= known | {"--help"}, span


@pytest.mark.timeout(900)  # a whole tutorial
@pytest.mark.parametrize(
    "path",
    [path if path.name in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in TUTORIALS],
    ids=lambda path: path.name,
)
def test_a_files_blocks_run_one_after_the_other_in_an_empty_folder(path, tmp_path, monkeypatch):
    run_marked(path, {"run"}, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", SLOW, ids=lambda path: path.name)
def test_the_slow_ones_run_among_them(path, tmp_path, monkeypatch):
    run_marked(path, {"run", "run-slow"}, tmp_path, monkeypatch)


def run_marked(path, marks, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    for block in blocks_of(path):
        if block.mark in marks:
            run(block, names)


def test_there_is_something_to_run():
    assert ROOT / "README.md" in TUTORIALS
    assert len(EVERY) > 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_picture_and_file_that_a_page_names_is_there(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(\s*([^)#\s]+)(?:#[^)]*)?\)", text)
    named = [path.parent / link for link in links if "://" not in link]
    named += [ROOT / tool for tool in re.findall(r"`(tools/[\w./]+)", text)]
    assert not [str(file) for file in named if not file.exists()]


def test_every_example_is_on_the_page_about_python_and_every_public_name():
    page = ROOT / "docs" / "python.md"
    marks = {block.mark for block in blocks_of(page)}
    assert {f"{FILE}examples/{file.name}" for file in (ROOT / "examples").glob("*.py")} <= marks
    for module in (transfer3d, transfer3d.data, transfer3d.recipes):
        below = page.read_text(encoding="utf-8").split(f"\n`{module.__name__}`:\n")[1]
        table = below.strip().split("\n\n")[0]
        cells = " ".join(line.split("|")[1] for line in table.splitlines()[2:])
        assert sorted(re.findall(r"`(\w+)`", cells)) == sorted(module.__all__)


def test_a_block_that_differs_from_its_file_is_seen():
    text = (ROOT / "examples" / "own_loop.py").read_text(encoding="utf-8")
    check(Block("page.md:4", "python", f"{FILE}examples/own_loop.py", text))
    with pytest.raises(AssertionError, match=r"page.md:4 differs from examples/own_loop.py"):
        check(Block("page.md:4", "python", f"{FILE}examples/own_loop.py", f"{text}\n"))


def test_the_stages_of_the_page_about_training_are_a_recipe(tmp_path):
    page = ROOT / "docs" / "training.md"
    toml = next(block for block in blocks_of(page) if block.language == "toml")
    (tmp_path / "staged.toml").write_text(toml.text)
    stages = stages_of(load_recipe(tmp_path / "staged.toml", ["stages.target.data=my_videos"]))
    assert [stage.student for stage in stages.values()] == ["i3ds_resnet50", "v4d_resnet50", "v4d_resnet50"]
    assert stages["target"].data == "my_videos"


TEXT = """Words.

<!-- needs: nodes -->
```bash
torchrun --nnodes 2 \\
    -m transfer3d finetune p3d_tiny --data a/ $RESUME  # a comment; and more
transfer3d models p3d | head -1 && transfer3d env --json > env.json
```

```python
print("no mark")
```
"""


def test_blocks_and_their_commands_are_found():
    bash, python = parse(TEXT, "page.md")
    assert (bash.where, bash.language, bash.mark) == ("page.md:4", "bash", "needs: nodes")
    assert commands(bash) == [
        ["finetune", "p3d_tiny", "--data", "a/"],
        ["models", "p3d"],
        ["env", "--json"],
    ]
    assert (python.where, python.mark) == ("page.md:10", "")


@pytest.mark.parametrize(
    "line",
    [
        "transfer3d finetun p3d_tiny",
        "transfer3d finetune p3d_tiny --dat videos/",
        "transfer3d predict model.safetensors",
        "transfer3d predict model.safetensors video.mp4 --top many",
        "transfer3d recipe show",
        "transfer3d models && transfer3d shard videos/",
        "for",
    ],
)
def test_a_wrong_command_is_seen(line):
    with pytest.raises(AssertionError, match=r"page.md:4"):
        check(Block("page.md:4", "bash", "needs: data", line))


def test_a_block_that_fails_is_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Block("page.md:4", "bash", "run", "echo 1 > one.txt\ntest -s one.txt\n"), {})
    for line in ("transfer3d info nothing.safetensors", "ls nothing", "echo 1 | grep -q nothing"):
        with pytest.raises(AssertionError, match=r"page.md:4"):
            run(Block("page.md:4", "bash", "run", line), {})
