"""docs/quickstart.ipynb: stored without outputs, its commands exist, and it runs from an empty folder."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from blocks import ROOT, check_arguments

FILE = ROOT / "docs" / "quickstart.ipynb"
CELLS = json.loads(FILE.read_text(encoding="utf-8"))["cells"]
CODE = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}


def test_it_has_ten_cells_and_no_outputs():
    assert len(CELLS) == 10
    for cell in CELLS:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell["metadata"]
    assert not re.search(r"/(home|root|work|tmp|mnt)\b|https?://", FILE.read_text(encoding="utf-8"))


def test_its_commands_have_these_options():
    lines = [
        line for text in CODE.values() for line in re.findall(r"^ *!transfer3d (.*)", text, re.MULTILINE)
    ]
    assert len(lines) == 5
    for line in lines:
        check_arguments(shlex.split(line))


@pytest.mark.slow
@pytest.mark.proc
@pytest.mark.timeout(1800)
def test_it_runs_from_an_empty_folder_to_accuracy_confusion_and_evidence(tmp_path, monkeypatch):
    extra = "it needs the extra: pip install 'transfer3d[notebook]'"
    nbformat = pytest.importorskip("nbformat", reason=extra)
    nbclient = pytest.importorskip("nbclient", reason=extra)
    pytest.importorskip("ipykernel", reason=extra)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, resources=place).execute()

    outputs = {cell["id"]: cell.get("outputs", []) for cell in notebook.cells}
    said = {name: "".join(output.get("text", "") for output in found) for name, found in outputs.items()}
    accuracy = re.search(r"([\d.]+)% of 32 videos", said["accuracy"])
    assert accuracy is not None
    assert float(accuracy[1]) > 50, "chance is 25 % of four classes"
    report = json.loads((tmp_path / "runs" / "quickstart" / "test.json").read_text())
    assert [sum(row) for row in report["confusion"]] == [8, 8, 8, 8]
    assert len(re.findall(r"^\d_\w+ -> ", said["predict"], re.MULTILINE)) == 4
    for name in ("look", "confusion", "cam"):
        assert any("image/png" in output.get("data", {}) for output in outputs[name]), name
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()
