"""How a session ends."""

import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from transfer3d.errors import SetupError
from transfer3d.recipes.load import load_recipe
from transfer3d.run.training.session import Session


def session(path):
    accelerator = SimpleNamespace(process_index=0, is_main_process=True, end_training=lambda: None)
    return Session(load_recipe("demo/tiny-finetune"), path, None, accelerator, Console(quiet=True))


def test_each_process_leaves_its_exit_code_and_its_error(tmp_path):
    with pytest.raises(SetupError), session(tmp_path):
        raise SetupError("the disk is full")
    facts = json.loads((tmp_path / "exit.rank0.json").read_text())
    assert facts == {"exit_code": 5, "error": "the disk is full"}


def test_a_disk_without_room_for_that_does_not_hide_the_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="the disk is full"), session(tmp_path / "file"):
        raise SetupError("the disk is full")
