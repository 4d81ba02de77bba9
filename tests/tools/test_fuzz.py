"""tools/fuzz: files that were wrong once stay right, and the runner finds, shrinks and keeps new ones."""

import json
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from sweeps import sweep

import transfer3d
from transfer3d.models.checkpoint import load
from transfer3d.weights.metadata import read_metadata

ROOT = Path(__file__).parents[2]
CORPUS = sorted(path for path in (ROOT / "tests" / "corpus").rglob("*") if path.is_file())
SLOW = "run_folders"  # its example is a training run


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Returns the target of a name, made once."""
    made = {}

    def target(name):
        if name not in made:
            made[name] = import_module(f"fuzz.{name}").Files(tmp_path_factory.mktemp(name))
        return made[name]

    return target


def marked(path):
    return pytest.param(path, marks=[pytest.mark.slow] if path.parent.name == SLOW else [])


@pytest.mark.parametrize("path", map(marked, CORPUS), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_corpus_stays_right(path, targets, tmp_path):
    case = tmp_path / path.name
    case.write_bytes(path.read_bytes())
    outcome = targets(path.parent.name).attempt(case)
    assert outcome.verdict != "wrong", outcome.detail


def test_every_target_has_a_corpus():
    fuzz = import_module("fuzz")
    assert {path.parent.name for path in CORPUS} == set(fuzz.TARGETS)


@pytest.fixture(scope="module")
def crafted_files(tmp_path_factory):
    path = tmp_path_factory.mktemp("crafted") / "example.safetensors"
    import_module("fuzz.checkpoints").write_example(path)
    return list(import_module("fuzz.crafted").crafted(path.read_bytes()))


def outcomes_of(read, files, path):
    of_call = import_module("fuzz.outcome").of_call
    for name, content in files:
        path.write_bytes(content)
        yield name, of_call(lambda: str(read(path)) and "")


@pytest.mark.parametrize(
    ("read", "every"),
    sweep([(read_metadata, 1), (read_metadata, 7), (load, 9)], [(read_metadata, 7), (load, 9)]),
)
def test_crafted_checkpoints_are_read_or_refused_in_a_sentence(read, every, crafted_files, tmp_path):
    assert len(crafted_files) > 300
    assert len(dict(crafted_files)) == len(crafted_files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaN, and of another digest
        found = dict(outcomes_of(read, crafted_files[::every], tmp_path / "case.safetensors"))
    assert not {name: o.detail for name, o in found.items() if o.verdict == "wrong"}
    assert sum(outcome.verdict == "refused" for outcome in found.values()) > len(found) / 2


def test_a_checkpoint_goes_through_every_command_that_the_table_names(targets, tmp_path, monkeypatch):
    target, case = targets("checkpoints"), tmp_path / "case.safetensors"
    case.write_bytes(target.example.read_bytes())
    module, used = import_module("fuzz.checkpoints"), []
    run = module.of_command
    monkeypatch.setattr(module, "of_command", lambda *arguments: used.append(arguments[0]) or run(*arguments))
    for _ in range(2):  # the second writes over what the first exported
        assert target.attempt(case).verdict == "read"
    assert ", ".join(used[:3]) == target.attack.rpartition("; ")[2]
    assert transfer3d.load(tmp_path / "exported").num_classes == 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_commands_survive_all_crafted_checkpoints(crafted_files, targets, tmp_path):
    target, case = targets("checkpoints"), tmp_path / "case.safetensors"
    for name, content in crafted_files:
        case.write_bytes(content)
        outcome = target.attempt(case)
        assert outcome.verdict != "wrong", f"{name}: {outcome.detail}"


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return import_module("fuzz.runner")


@pytest.mark.proc
def test_the_runner_finds_a_fault_and_keeps_its_smallest_file(runner, tmp_path):
    target = import_module("planted_faults").Files(tmp_path)
    worker = runner.Worker("planted_faults", tmp_path)
    try:
        tally = runner.fuzz(target, worker, first_seed=7, seconds=60, rounds=1)
    finally:
        worker.close()
    (outcome, case), *others = tally.faults.values()
    assert not others
    assert "UnicodeDecodeError" in outcome.detail
    changed = [byte for byte in case if byte != ord("a")]
    assert len(changed) == 1, "not the smallest: one byte beyond ASCII is enough"
    assert tally.verdicts["wrong"] > 0
    (kept,) = runner.keep(tally, tmp_path / "corpus", target.suffix)
    assert kept.read_bytes() == case


@pytest.mark.slow
@pytest.mark.proc
def test_the_runner_survives_a_hang_and_a_death(runner, tmp_path):
    worker = runner.Worker("planted_faults", tmp_path, seconds=30)
    try:
        assert worker.attempt(b"a").verdict == "read"
        assert worker.attempt(b"die").detail == "died: SIGKILL"
        assert worker.attempt(b"a").verdict == "read"
        worker.seconds = 1.0
        assert "hangs" in worker.attempt(b"hang").detail
        worker.seconds = 30.0
        assert worker.attempt(b"a").verdict == "read"
    finally:
        worker.close()


def test_the_page_has_the_table_of_the_results():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = json.loads((ROOT / "docs" / "results" / "fuzz.json").read_text(encoding="utf-8"))
    assert {*import_module("fuzz").TARGETS, "crafted"} == set(rows)
    assert page == import_module("fuzz.table").with_table(page, rows)
    assert all(row["wrong"] == 0 for row in rows.values())
