"""docs/distributed.md and the README's recipe: commands exist, scripts parse, the recipe is valid."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from transfer3d.cli.main import app
from transfer3d.recipes.load import load_recipe, stages_of

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_bash_and_its_command_has_these_options(block):
    assert subprocess.run(["bash", "-n"], input=block, text=True, check=False).returncode == 0
    line = next(line for line in block.replace("\\\n", " ").splitlines() if "-m transfer3d " in line)
    name, *words = shlex.split(line.split("-m transfer3d ")[1])
    root = typer.main.get_command(app)
    known = {option for parameter in root.commands[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_blocks_that_need_several_machines_say_so():
    assert DOCS.count("<!-- needs: nodes -->\n```bash") == len(BLOCKS) - 1


def test_the_readmes_stages_are_a_recipe(tmp_path):
    block = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "staged.toml").write_text(block[1])
    stages = stages_of(load_recipe(tmp_path / "staged.toml", ["stages.target.data=my_videos"]))
    assert [stage.student for stage in stages.values()] == ["i3ds_resnet50", "v4d_resnet50", "v4d_resnet50"]
    assert stages["target"].data == "my_videos"
