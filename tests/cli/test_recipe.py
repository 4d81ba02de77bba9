"""`transfer3d recipe`: what there is, and what is wrong with a recipe, before anything runs."""

import json
import tomllib

import pytest
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.recipes.files import list_recipes, recipe_folder


def run(*arguments):
    return CliRunner().invoke(app, ["recipe", *map(str, arguments)])


def test_ls_begins_with_what_beginners_need_and_gives_student_sentence_and_number():
    lines = run("ls").output.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles[:3] == [
        "default, for your own videos:",
        "demo, for the built-in moving digits:",
        "f4d, the paper's experiments:",
    ]
    assert len(titles) == len({name.split("/")[0] for name in list_recipes()})
    at = next(number for number, line in enumerate(lines) if "v4d/table2c-kernel-3x3x1x1" in line)
    assert lines[at].split()[1:] == ["v4d_resnet18"]
    assert lines[at + 1].split()[:3] == ["V4D", "table", "2c:"]
    assert lines[at + 1].endswith("; 74.5 % top-1 on Mini-Kinetics.")
    rows = json.loads(run("ls", "--json").output)
    assert sorted(row["name"] for row in rows) == list_recipes()
    row = next(row for row in rows if row["name"] == "t3d/table2-densenet3d169")
    assert row["student"] == "densenet3d_densenet169"
    assert row["task"] == "finetune"
    assert row["printed"] == "71.3 % on UCF101 split 1"
    for row in rows:
        assert row["description"].endswith("."), row
        assert len(row["description"]) < 250, row
        is_experiment = "/table" in row["name"] or "/figure" in row["name"]
        assert bool(row["printed"]) == is_experiment, row


def test_ls_fits_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setattr("transfer3d.cli.output.PIPE_WIDTH", 80)
    assert max(map(len, run("ls").output.splitlines())) <= 80


def accepts(schema, value, whole):
    """Whether a value fits the part of JSON Schema that recipes use."""
    if "$ref" in schema:
        return accepts(whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, whole)
    if "anyOf" in schema:
        return any(accepts(part, value, whole) for part in schema["anyOf"])
    kinds = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
    }
    kind = schema.get("type")
    if kind and not (isinstance(value, kinds[kind]) and (kind == "boolean") == isinstance(value, bool)):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    if kind in ("integer", "number"):
        low, above = schema.get("minimum", value), schema.get("exclusiveMinimum", value - 1)
        high, below = schema.get("maximum", value), schema.get("exclusiveMaximum", value + 1)
        return low <= value <= high and above < value < below
    if kind == "array" and "prefixItems" in schema:
        return all(
            accepts(part, item, whole) for part, item in zip(schema["prefixItems"], value, strict=True)
        )
    if kind == "array":
        return all(accepts(schema.get("items", {}), item, whole) for item in value)
    if kind == "object":
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        parts = {key: known.get(key, others) for key in value}
        return all(
            accepts(part, value[key], whole) if isinstance(part, dict) else part
            for key, part in parts.items()
        )
    return True


def test_the_schema_accepts_every_recipe_and_explains_its_keys(tmp_path):
    done = run("schema", "-o", tmp_path / "recipe.schema.json")
    assert done.exit_code == 0, done.output
    schema = json.loads((tmp_path / "recipe.schema.json").read_text())
    assert json.loads(run("schema").output) == schema
    for name in list_recipes():
        values = tomllib.loads((recipe_folder() / f"{name}.toml").read_text())
        assert accepts(schema, values, schema), name
    assert schema["properties"]["lr"]["description"] == "Peak learning rate."
    tables = [schema, *schema["$defs"].values()]
    explained = [value for table in tables for value in table.get("properties", {}).values()]
    assert sum("description" in value for value in explained) > 0.6 * len(explained)
    assert "null" not in json.dumps(schema)


@pytest.mark.parametrize(
    "text",
    [
        "epoch = 3",
        "lr = 0",
        'task = "train"',
        "batch_size = 'many'",
        "[optimizer]\nmomentum = 'much'",
        "[clip]\nframe = 8",
        "[stages.first]\nepoch = 3",
        "[stages.first.optimizer]\nname = 'sgdd'",
    ],
)
def test_the_schema_refuses_what_validate_refuses(text, tmp_path):
    schema = json.loads(run("schema").output)
    values = tomllib.loads(f'extends = "demo/tiny-finetune"\n{text}')
    assert not accepts(schema, values, schema)
    (tmp_path / "mine.toml").write_text(f'extends = "demo/tiny-finetune"\n{text}')
    assert run("validate", tmp_path / "mine.toml").exit_code == 2


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
