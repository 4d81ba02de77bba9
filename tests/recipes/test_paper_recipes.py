"""The papers' recipes: each experiment has one, its numbers are the printed ones, its networks can be built,
and two steps of it run in miniature."""

import re
from collections import Counter
from dataclasses import asdict
from functools import cache

import pytest
import torch
from rich.console import Console

from transfer3d.data.pipeline import clip_batches
from transfer3d.data.source import open_videos
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.trainer import Trainer
from transfer3d.models.image import create_image_model
from transfer3d.models.registry import entry, families
from transfer3d.objectives.classification import Classification
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.objectives.teacher import FrozenTeacher
from transfer3d.recipes.files import list_recipes, recipe_folder
from transfer3d.recipes.load import load_recipe, stages_of
from transfer3d.recipes.schema import ClipConfig, Recipe
from transfer3d.run.training.plan import trainer_config
from transfer3d.run.training.students import build_student, check_recipe

PAPERS = ("p3d", "t3d", "v4d", "f4d")
NAMES = [name for name in list_recipes() if name.startswith(PAPERS)]
EXPERIMENTS = {
    # Rows of a table (or results of a figure) that a paper trained; the other rows are other papers' figures.
    "p3d/table1": 5, "p3d/table2": 2,
    "t3d/table2": 2, "t3d/table3": 2, "t3d/table4": 4, "t3d/table5": 2, "t3d/table6": 4, "t3d/table8": 6,
    "t3d/table9": 3, "t3d/table10": 12,
    "v4d/table2a": 5, "v4d/table2c": 3, "v4d/table2d": 4, "v4d/table2e": 4, "v4d/table3": 2, "v4d/table4": 1,
    "v4d/table5": 1, "v4d/table6": 1,
    "f4d/figure5": 3, "f4d/figure6": 2, "f4d/figure7": 1, "f4d/figure8": 2,
    "f4d/table2": 8, "f4d/table3": 5, "f4d/table4": 7, "f4d/table5": 3,
}  # fmt: skip


def title_of(name):
    """The table, figure or section of a recipe."""
    return name.split("-")[0]


# One recipe of each table in `make test`, all of them in `make test-slow`.
FIRST = {title_of(name): name for name in reversed(NAMES)}.values()
ONE_OF_EACH = [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def runs_of(name):
    """The runs that a recipe makes: itself, or its stages."""
    recipe = load_recipe(name)
    return list(stages_of(recipe).values()) or [recipe]


def test_every_experiment_has_its_recipe():
    titles = [re.match(r"(\w+/(?:table|figure)\d+[a-e]?)-", name) for name in NAMES]
    assert Counter(title[1] for title in titles if title) == EXPERIMENTS
    assert len(NAMES) == sum(EXPERIMENTS.values()) + 5  # and how each paper trains in general


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_where_its_numbers_come_from(name):
    text = (recipe_folder() / f"{name}.toml").read_text(encoding="utf-8")
    paper = name[:3].upper()
    assert text.startswith(f"# {paper} ")
    source = load_recipe(name).source
    assert source.startswith(paper)
    table = re.search(r"/(table|figure)(\d+[a-e]?)", name)
    if table:
        kind, number = table.groups()
        assert kind in source
        assert number in re.findall(r"\d+[a-e]?", source)


def epochs_of(recipe):
    return [round(share * recipe.epochs) for share in recipe.schedule.milestones]


def test_the_papers_numbers():
    """P3D 3.3, 4; T3D 4.4; V4D 4.2, 4.3; F4D 4.2, 4.3."""
    p3d = load_recipe("p3d/table1-p3d")
    assert (p3d.batch_size, p3d.lr, p3d.max_steps, p3d.dropout, p3d.batch_norm) == (
        128,
        1e-3,
        7500,
        0.9,
        "partial",
    )
    assert [share * p3d.max_steps for share in p3d.schedule.milestones] == [3000, 6000]
    assert p3d.clip == ClipConfig(frames=16, stride=1, size=160, crop=(182, 242))
    sports = load_recipe("p3d/table2-p3d199-sports1m")
    assert (sports.max_steps, sports.dropout, sports.student) == (150_000, 0.1, "p3d_resnet152")
    assert [share * 150_000 for share in sports.schedule.milestones] == [60_000, 120_000]
    t3d = load_recipe("t3d/table4-t3d")
    assert (t3d.batch_size, t3d.lr, t3d.epochs, t3d.schedule.kind) == (64, 0.1, 200, "plateau")
    assert (t3d.optimizer.name, t3d.optimizer.weight_decay, t3d.optimizer.momentum) == ("sgd", 1e-4, 0.9)
    assert t3d.clip == ClipConfig(frames=32, stride=2, size=224, crop=256)
    assert t3d.val_share > 0  # its schedule acts on validation scores, and UCF101 has no such split
    transfer, kinetics, ucf = runs_of("t3d/table8-t3d-ft-transfer")
    assert (transfer.task, transfer.batch_size, transfer.epochs, transfer.lr) == ("correspond", 32, 150, 0.1)
    assert (transfer.correspondence.pairs, epochs_of(transfer)) == ("one-to-one", [30, 60, 90, 120])
    alone = load_recipe("t3d/sec4.4-supervision-transfer")
    for recipe in (alone, transfer):  # "randomly cropped to a size 224x224, and then mean-subtracted"
        assert (recipe.augment.crop, recipe.augment.scale, recipe.augment.flip) == ("random", (1, 1), False)
    assert (alone.batch_size, alone.epochs, alone.lr) == (32, 150, 0.1)
    assert (alone.correspondence.pairs, epochs_of(alone)) == ("one-to-one", [30, 60, 90, 120])
    assert (kinetics.task, kinetics.data_share, ucf.data) == ("finetune", 0.5, "ucf101-split1")
    v4d = load_recipe("v4d/table2a-v4d-resnet18")
    assert (v4d.lr, v4d.epochs, v4d.optimizer.weight_decay) == (0.01, 100, 1e-5)
    assert epochs_of(v4d) == [35, 60, 80]
    assert v4d.clip == ClipConfig(frames=4, stride=8, size=224, crop=(256, 320), units=4)
    backbone, still, everything = runs_of("v4d/table4-v4d-resnet50-kinetics")
    assert [stage.student for stage in (backbone, still, everything)] == [
        "i3ds_resnet50", "v4d_resnet50", "v4d_resnet50"
    ]  # fmt: skip
    assert (backbone.clip.units, everything.clip.units, everything.clip.frames) == (1, 4, 8)
    assert (still.optimizer.lr_scale, everything.optimizer.lr_scale) == ({"*.after*": 0}, {})
    assert (backbone.start, still.start) == ("i3ds_resnet50.safetensors", None)
    f4d = load_recipe("f4d/figure5-imagenet-8-frames")
    assert (f4d.batch_size, f4d.lr, f4d.epochs, f4d.optimizer.momentum) == (128, 0.01, 80, 0.9)
    assert epochs_of(f4d) == [20, 40, 60]
    assert f4d.clip == ClipConfig(frames=8, stride=4, size=224, crop=(256, 256), units=4)
    assert [stage.data for stage in runs_of("f4d/figure8-hmdb51")] == ["kinetics400", "hmdb51-split1"]


OF_A_ROW = {"source", "student", "student_args", "teacher", "start", "data"}
"""What the rows of a table may differ in: network and data."""


ABOUT_CLIPS = {
    "p3d/table1", "p3d/table2", "t3d/table3", "t3d/table5", "t3d/table6", "v4d/table2a", "v4d/table2e",
    "f4d/figure5", "f4d/table3",
}  # fmt: skip
"""Tables whose rows differ in frames, size or units."""


def test_rows_of_a_table_have_equal_settings_and_equal_stages():
    """T3D tables 8 and 10 among others: the transfer stage is that of section 4.4, whatever the row."""
    tables: dict[tuple[str, str], dict[str, dict]] = {}
    for name in NAMES:
        table = re.match(r"\w+/(?:table|figure)\d+[a-e]?", name)
        if table is None:
            continue
        whole = load_recipe(name)
        for stage, recipe in (stages_of(whole) or {"": whole}).items():
            settings = recipe.model_dump(exclude=OF_A_ROW)
            if "-tsn-" in name:  # the row is about the segments
                settings["segments"] = 1
            tables.setdefault((table[0], stage), {})[name] = settings
    shared = {key: rows for key, rows in tables.items() if len(rows) > 1}
    assert {("t3d/table8", "transfer"), ("t3d/table10", "transfer"), ("t3d/table10", "kinetics")} <= set(
        shared
    )
    assert {"p3d/table1", "t3d/table4", "v4d/table2d", "f4d/table4"} <= {table for table, _ in shared}
    for (table, stage), rows in shared.items():
        first, *others = rows
        for other in others:
            differing = {key for key in rows[first] if rows[first][key] != rows[other][key]}
            assert differing <= ({"clip"} if table in ABOUT_CLIPS else set()), (stage, other)


def test_every_transfer_stage_of_t3d_is_section_4_4s():
    common = load_recipe("t3d/sec4.4-supervision-transfer").model_dump(exclude=OF_A_ROW)
    stages = {
        name: stages_of(load_recipe(name))["transfer"]
        for name in NAMES
        if "transfer" in stages_of(load_recipe(name))
    }
    assert len(stages) == 8  # six rows of table 8, two of table 10
    for name, stage in stages.items():
        assert stage.model_dump(exclude=OF_A_ROW) == common, name
    assert common["augment"]["flip"] is False
    assert common["correspondence"]["student_fc"] == 1024


GENERAL = ("p3d/sec3.3-training", "t3d/sec4.4-training", "t3d/sec4.4-supervision-transfer",
           "v4d/sec4.2-training", "f4d/sec4.2-training", "vivit/sec4.1-training",
           "timesformer/sec4-training")  # fmt: skip


@pytest.mark.parametrize("name", GENERAL)
def test_how_a_paper_trains_names_every_value_that_it_leaves_open(name):
    text = (recipe_folder() / f"{name}.toml").read_text(encoding="utf-8")
    header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    for value in ("val_share", "standard deviation", "dropout", "gradient clipping"):
        assert value in header, value
    if "t3d" in name:
        assert "resizing" in header
    if "transfer" not in name:
        assert re.search(r"head's\s+initial weights", header)


def test_crops_and_clips_are_those_that_the_papers_print():
    t3d = load_recipe("t3d/sec4.4-training")
    assert (t3d.augment.crop, t3d.augment.scale, t3d.augment.flip) == ("five", (1.0, 1.0), True)
    assert load_recipe("p3d/table1-p3d").augment.sampling == "cover"
    assert load_recipe("p3d/table2-p3d199-sports1m").augment.sampling == "cover"
    for dataset in ("ucf101", "hmdb51"):
        stages = stages_of(load_recipe(f"t3d/table10-t3d-tsn-{dataset}"))
        assert [(name, stage.segments) for name, stage in stages.items()] == [("kinetics", 1), ("target", 5)]
        assert stages["target"].data == f"{dataset}-split1"


BUILT = set()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_recipe_builds(name):
    """On `meta`: the student takes its clips, the teacher exists. The same networks are built once."""
    for recipe in runs_of(name):
        teacher = recipe.teacher if recipe.task == "correspond" else None
        key = (recipe.student, str(recipe.student_args), recipe.clip, teacher)
        if key not in BUILT:
            check_recipe(recipe)
            BUILT.add(key)


TEACHERS = {"densenet121": "test_densenet", "resnet50": "test_resnet"}


def miniature(recipe: Recipe) -> Recipe:
    """The same training of the tiny student of the family, on 4 clips of 32 pixels and at most 8 frames."""
    name = recipe.require("student")
    options = {} if name in families() else dict(entry(name).options)
    family = name if name in families() else entry(name).family
    options |= {key: value for key, value in recipe.student_args.items() if key != "spec"}
    clip = ClipConfig(
        frames=min(recipe.clip.frames or 8, 8), stride=1, size=32, crop=40, units=recipe.clip.units
    )
    return recipe.model_copy(
        update={
            "student": f"{family}_tiny", "student_args": options, "clip": clip, "start": None, "data": "",
            "teacher": TEACHERS.get(recipe.teacher or ""), "weights": "none", "precision": "fp32",
            "batch_size": 4, "max_steps": 2, "epochs": None, "workers": 0, "source": "", "data_share": 1.0,
        }
    )  # fmt: skip


@cache
def two_steps(folder: str, dumped: str) -> tuple[int, int, int]:
    """Runs a miniature; returns its steps, and how many of how many parameters have changed."""
    recipe = Recipe.model_validate_json(dumped)
    corresponds = recipe.task == "correspond"
    videos = open_videos(folder, split=None if corresponds else "train", labelled=not corresponds)
    student = build_student(recipe, num_classes=len(videos.classes))
    if corresponds:
        teacher = FrozenTeacher(create_image_model(recipe.require("teacher"), "none"))
        objective = Correspondence(teacher, student, recipe.correspondence, seed=0)
    else:
        objective = Classification(student, label_smoothing=recipe.label_smoothing)

    def batches(first_step):
        sizes = {"batch_size": 4, "steps": 2, "seed": 0, "start_step": first_step}
        return clip_batches(videos, student.clip, augment=recipe.augment, **sizes)

    trainer = Trainer(
        objective,
        batches,
        trainer_config(recipe, steps=2, batch_size=4),
        accelerator=make_accelerator("fp32"),
        validate=None if corresponds else lambda: {"score": 0.0},
        console=Console(quiet=True),
    )
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    trainer.run()
    changed = [
        name for name, parameter in student.named_parameters() if not torch.equal(parameter, before[name])
    ]
    return trainer.step, len(changed), len(before)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_two_steps_run_in_miniature(name, digits_folder):
    """With the recipe's optimiser, schedule and augmentation. Equal miniatures run once."""
    for recipe in runs_of(name):
        small = miniature(recipe)
        steps, changed, parameters = two_steps(str(digits_folder / "shards"), small.model_dump_json())
        assert steps == 2
        assert changed > 0.6 * parameters
        assert asdict(build_student(small, num_classes=0).clip)["units"] == (recipe.clip.units or 1)
