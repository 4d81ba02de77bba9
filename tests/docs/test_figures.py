"""What the README and the page of figures say is what the records and the commands say."""

import json
import re

import numpy as np
import pytest
from blocks import ROOT, check_arguments
from scipy import stats

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")


def test_the_readmes_results_are_rows_of_the_page():
    section = README.split("## The result in short")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "±" in line]
    rows = [row for row in rows if row]
    assert len(rows) == 5
    for name, top1, against in rows:
        row = "frame teacher" if name.startswith("the teacher") else name
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| {row} |"))
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert (top1, against) == (cells[1], cells[4])


def test_the_readmes_result_on_real_videos_is_that_of_its_page():
    page = (ROOT / "docs" / "own-teacher.md").read_text(encoding="utf-8")
    table = page.split("| row | top-1 | against scratch (paired) |")[1]
    section = README.split("On real videos, by")[1].split("**No difference")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    rows = [row for row in rows if len(row) == 4 and "[" in row[1]]
    assert len(rows) == 5
    for name, *numbers in rows:
        row = "frame baseline" if name.startswith("the image model") else name
        line = next(line for line in table.splitlines() if line.startswith(f"| {row} |"))
        assert numbers == [cell.strip() for cell in line.split("|")[2:5]]
    assert all("[-" in row[2] and ", +" in row[2] for row in rows[1:]), "each interval holds zero"


def test_the_demos_order_is_that_of_few_steps_as_the_readme_says():
    records = json.loads((ROOT / "tools" / "result" / "tuned.json").read_text(encoding="utf-8"))["records"]
    top1 = {record["row"]: 100 * record["top1"] for record in records}
    said = re.search(
        r"had (\d+) and (\d+) % after 300 steps, (\d+) and (\d+) % after 900, (\d+) and\s+(\d+) % after 1800",
        README,
    )
    assert said is not None
    found = [
        top1[f"{row}, lr 0.1, {steps} steps"]
        for steps in (300, 900, 1800)
        for row in ("correspondence", "inflated")
    ]
    assert [float(number) for number in said.groups()] == pytest.approx(found, abs=0.51)
    assert found[0] > found[1]
    assert found[-2] < found[-1]


def test_every_speed_names_the_command_that_measures_it():
    table = PAGE.split("| `transfer3d bench` |\n")[1].split("\n\n")[0].splitlines()[1:]
    assert len(table) == 19
    for line in table:
        command = re.fullmatch(r"\|.*\| `(.*)` \|", line)
        assert command is not None, line
        check_arguments(["bench", *re.sub(r'"(\w+) (\d+)"', r"\1_\2", command[1]).split()])


@pytest.mark.parametrize("words", ["P3D", "DenseNet3D", "Conv4d", "i3d", "Algorithm 1"])
def test_the_words_after_only_choose_cases(words):
    from transfer3d.bench.case import matching
    from transfer3d.bench.conv4d import conv4d_cases
    from transfer3d.bench.depthwise import depthwise_cases
    from transfer3d.bench.networks import network_cases

    assert f"--only {words}`" in PAGE.replace('"', "")
    cases = [*conv4d_cases(), *network_cases(), *depthwise_cases()]
    assert matching(cases, words)


def test_the_halves_differ_as_the_readme_and_the_page_say():
    """Paired by seed, with Student's t: the network of 5-9 knows what the one of 0-4 does not."""
    path = ROOT / "docs" / "results" / "transfer.json"
    records = json.loads(path.read_text(encoding="utf-8"))["records"]

    def difference(measure):
        base, taught = (
            np.array([record[measure] for record in records if record["row"] == row])
            for row in ("halves: inflated from 0-4", "halves: inflated from 0-4 + correspondence with 5-9")
        )
        gained = 100 * (taught - base)
        return gained.mean(), stats.t.ppf(0.975, len(gained) - 1) * stats.sem(gained)

    said = re.search(r"\(\+([\d.]+) ± ([\d.]+) points in the digit, \+([\d.]+) ± ([\d.]+) in top-1\)", README)
    assert said is not None
    expected = [*difference("digit"), *difference("top1")]
    assert [float(number) for number in said.groups()] == pytest.approx(expected, abs=0.051)
    assert f"correspondence with 5-9 +{said[1]} ± {said[2]}." in PAGE
    assert f"| +{said[3]} ± {said[4]} |" in PAGE
