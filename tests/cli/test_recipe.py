"""`transfer3d recipe`: what there is, and what is wrong with a recipe, before anything runs."""

import json

import pytest
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.recipes.files import list_recipes


def run(*arguments):
    return CliRunner().invoke(app, ["recipe", *map(str, arguments)])


def test_ls_groups_by_paper_and_says_the_source():
    lines = run("ls").output.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == sorted({f"{name.split('/')[0]}:" for name in list_recipes()})
    row = next(line for line in lines if "v4d/table2c-kernel-3x3x1x1" in line)
    assert row.split()[1:] == ["V4D", "section", "4.2,", "table", "2c"]
    assert lines.index(row) > lines.index("v4d:")
    rows = json.loads(run("ls", "--json").output)
    assert [row["name"] for row in rows] == list_recipes()
    row = next(row for row in rows if row["name"] == "t3d/table2-densenet3d169")
    assert row["student"] == "densenet3d_densenet169"
    assert row["task"] == "finetune"


WRONG = {
    'student = "p3d_resnet5O"': "no student 'p3d_resnet5O' (did you mean 'p3d_resnet50'?)",
    'teacher = "densenet12l"': "timm has no model 'densenet12l' (did you mean 'densenet121'?)",
    "student_args = { block = 'A' }": "has no argument 'block' (did you mean 'blocks'?)",
    "[clip]\nsize = 8\ncrop = 4": "crop=4 is smaller than size=8",
    "[optimiser]\nname = 'sgd'": "unknown key 'optimiser' (did you mean 'optimizer'?)",
    "[schedule]\nkind = 'stepp'": "schedule.kind = 'stepp' (did you mean 'step'?)",
    "batch_size = 0.5": "batch_size",
    "[stages.first]\nstudent = 'v4d_tny'": "no student 'v4d_tny' (did you mean 'v4d_tiny'?)",
    "[stages.first]\nteacher = 'resnet5O'": "timm has no model 'resnet5O'",
    "[stages.first]\nepoch = 5": "unknown key 'epoch' (did you mean 'epochs'?)",
}


@pytest.mark.parametrize("text", WRONG)
def test_validate_names_what_is_wrong(text, tmp_path):
    head = 'extends = "demo/tiny-correspond"\n'
    (tmp_path / "mine.toml").write_text(head + text)
    done = run("validate", tmp_path / "mine.toml")
    assert done.exit_code == 2, done.output
    assert WRONG[text] in " ".join(done.output.split())


def test_validate_accepts_a_teacher_that_is_a_file(tmp_path):
    file = tmp_path / "teacher.safetensors"
    (tmp_path / "mine.toml").write_text(f'extends = "demo/tiny-correspond"\nteacher = "{file}"\n')
    assert run("validate", tmp_path / "mine.toml").exit_code == 4  # not there yet
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=3), file)
    assert run("validate", tmp_path / "mine.toml").exit_code == 0


def test_validate_accepts_a_recipe_with_stages():
    done = run("validate", "v4d/table4-v4d-resnet50-kinetics")
    assert (done.exit_code, "a valid recipe for `transfer3d finetune`" in done.output) == (0, True)
