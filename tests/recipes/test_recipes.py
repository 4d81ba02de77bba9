"""Recipes: found, extended, overridden, checked."""

import tomllib

import pytest

from transfer3d.errors import UsageError
from transfer3d.models.registry import entry
from transfer3d.recipes.files import list_recipes
from transfer3d.recipes.load import dump, load_recipe
from transfer3d.recipes.schema import ClipConfig


def test_there_are_recipes():
    assert {"demo/correspond", "demo/finetune", "default/correspond", "default/finetune"} <= set(
        list_recipes()
    )


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_resolves_and_survives_a_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    file = tmp_path / "resolved.toml"
    file.write_text(dump(recipe))
    assert load_recipe(file) == recipe


def test_the_papers_schedule_for_supervision_transfer():
    """T3D section 4.4: lr 0.1, divided by 10 every 30 of 150 epochs, batch 32, decay 1e-4, momentum 0.9."""
    recipe = load_recipe("t3d/sec4.4-supervision-transfer")
    assert (recipe.lr, recipe.epochs, recipe.batch_size) == (0.1, 150, 32)
    assert [round(share * 150) for share in recipe.schedule.milestones] == [30, 60, 90, 120]
    assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay) == (0.9, 1e-4)
    assert recipe.correspondence.pairs == "one-to-one"
    assert recipe.correspondence.hidden == (512, 128)


def test_overrides_are_typed():
    recipe = load_recipe(
        "demo/correspond",
        ["lr=1e-4", "max_steps=5", "schedule.kind=constant", "clip.size=32", "teacher=resnet50"],
    )
    assert (recipe.lr, recipe.max_steps, recipe.teacher) == (1e-4, 5, "resnet50")
    assert (recipe.schedule.kind, recipe.clip.size) == ("constant", 32)
    assert (
        recipe.clip.frames == load_recipe("demo/correspond").clip.frames
    )  # beside the changed key, untouched


BAD = [
    ("max_step=5", "recipe demo/correspond: unknown key 'max_step' (did you mean 'max_steps'?), value 5."),
    ("schedule.knd=cosine", "unknown key 'schedule.knd' (did you mean 'kind'?), value 'cosine'."),
    ("lr=-1", "lr = -1"),
    ("lr=fast", "lr = 'fast'"),
    ("lr=inf", "lr = inf"),
    ("schedule.rates=[[0.5, inf]]", "schedule.rates"),
    ("optimizer.weight_decay=nan", "optimizer.weight_decay = nan"),
    ("batch_size=many", "batch_size"),
    ("schedule.kind=cosin", "schedule.kind = 'cosin' (did you mean 'cosine'?): one of constant, cosine"),
    ("correspondence.pairs=one_to_one", "(did you mean 'one-to-one'?)"),
    ("max_steps", "not of the form key=value"),
    ("lr.x=1", "'lr' is a value, not a table"),
]


@pytest.mark.parametrize(("override", "message"), BAD)
def test_a_bad_override_is_named(override, message):
    with pytest.raises(UsageError) as caught:
        load_recipe("demo/correspond", [override])
    assert message in str(caught.value)


def test_a_wrong_recipe_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'demo/correspond'"):
        load_recipe("demo/corespond")


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text("lr = 0.1\ntask = \n")
    with pytest.raises(UsageError, match=r"broken\.toml is not valid TOML.*line 2"):
        load_recipe(file)


def test_a_circle_of_parents_is_an_error(tmp_path):
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    a.write_text(f'extends = "{b}"\n')
    b.write_text(f'extends = "{a}"\n')
    with pytest.raises(UsageError, match="extends itself"):
        load_recipe(a)


def test_a_child_changes_only_what_it_names(tmp_path):
    child = tmp_path / "child.toml"
    child.write_text('extends = "demo/correspond"\n[optimizer]\nmomentum = 0.5\n')
    values, parent = load_recipe(child), load_recipe("demo/correspond")
    assert values.optimizer.momentum == 0.5
    assert values.optimizer.weight_decay == parent.optimizer.weight_decay
    assert values.lr == parent.lr


@pytest.mark.parametrize("key", ["data", "correspondence.cache", "student_args.x", "stages.one.start"])
def test_a_text_with_a_nul_is_refused_before_a_path_is_made_of_it(key, tmp_path):
    override = f'{key}="a\\u0000b"'
    with pytest.raises(UsageError, match=r"recipe .*: text with a NUL, 'a\\x00b'\. Change that value"):
        load_recipe(staged(tmp_path), [override, "correspondence.teacher_view=centre"])


def staged(folder):
    (folder / "staged.toml").write_text('extends = "demo/correspond"\n[stages.one]\nlr = 0.1\n')
    return folder / "staged.toml"


def test_numbers_of_toml_are_numbers():
    assert tomllib.loads("lr = 1e-4")["lr"] == 1e-4  # a string in YAML 1.1


def test_a_new_size_without_a_crop_is_not_cropped():
    spec = ClipConfig(frames=4, size=32).apply(entry("p3d_resnet50").clip)
    assert (spec.frames, spec.size, spec.crop) == (4, 32, 32)
