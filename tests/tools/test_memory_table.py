"""The table of clips that fit: a line for every student, and the lines are those of the computation."""

from transfer3d.models.registry import list_models


def test_the_page_has_the_registered_students_and_computed_numbers():
    from memory_table import PAGE, row

    page = PAGE.read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    names = [line.split("`")[1] for line in lines]
    assert names == [name for name in list_models() if not name.endswith("tiny")]
    assert row("p3d_resnet18") in lines
