"""Places that cannot be written are refused before the work."""

import pytest
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.errors import SetupError
from transfer3d.files import refuse_unwritable


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="is a file"):
        refuse_unwritable(tmp_path / "file" / "deeper" / "report.json")
    refuse_unwritable(tmp_path / "new" / "deeper" / "report.json")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "command",
    [["inflate", "test_resnet", "--to", "p3d", "--weights", "none"], ["check", "{digits}/videos/test"]],
)
def test_commands_say_so_before_they_start(command, digits_folder, tmp_path):
    (tmp_path / "file").touch()
    words = [word.format(digits=digits_folder) for word in command]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "file" / "out")])
    assert (done.exit_code, "is a file" in " ".join(done.output.split())) == (5, True), done.output
