"""tools/correspondence_curves.py: its table's arithmetic, and that it runs on any folder and continues."""

import json

import pytest
from safetensors.torch import save_file

from transfer3d.models.image import create_image_model


def record(row, seed, losses, seconds, loss):
    curve = [[step + 1, seconds * (step + 1) / len(losses), value] for step, value in enumerate(losses)]
    return {"row": row, "seed": seed, "curve": curve, "loss": loss, "recall_at_5": 0.25 * (seed + 1)}


def test_the_table_has_thirds_of_the_curve_and_means_over_seeds():
    from correspondence_curves import markdown

    table = markdown(
        [
            record("match", 0, [3, 1, 2, 2, 1, 0], 10, 0.5),
            record("match", 1, [5, 3, 2, 2, 0, 1], 14, 0.7),
            record("feature", 0, [1, 1, 1, 1, 1, 1], 3, 1),
        ]
    )
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    # Sample standard deviations of two values: their distance, divided by the root of 2.
    assert cells[0] == [
        "match", "3.00 ± 1.41", "2.00 ± 0.00", "0.50 ± 0.00", "12 ± 3", "0.60 ± 0.14", "", "", "38 ± 18",
    ]  # fmt: skip
    assert cells[1] == ["feature", "1.00", "1.00", "1.00", "3", "1.00", "", "", "25"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_row_is_trained_once_and_judged_on_videos_it_never_saw(digits_folder, tmp_path, monkeypatch):
    import correspondence_curves as tool

    weights, out = tmp_path / "weights.safetensors", tmp_path / "out"
    save_file(create_image_model("test_efficientnet", "none", seed=1).state_dict(), weights)
    made, learn = [], tool.learn

    def counted(teacher, videos, row, **options):
        objective = learn(teacher, videos, row, **options)
        judge = objective.judge

        def judged(held):
            assert not set(held.sources) & set(videos.sources)
            return judge(held)

        objective.judge = judged
        made.append(row)
        return objective

    monkeypatch.setattr(tool, "learn", counted)
    options = {
        "data": str(digits_folder / "videos"),
        "teacher": "test_efficientnet",
        "weights": weights,
        "out": out,
    }
    for _ in range(2):
        tool.main(**options, seeds=1, steps=9, size=32)
    assert made == list(tool.ROWS), "what was done is not done again"
    records = json.loads((out / "result.json").read_text())["records"]
    assert {len(found["curve"]) for found in records} == {9}
    losses = {tuple(loss for _, _, loss in found["curve"]) for found in records}
    assert len(losses) == len(tool.ROWS), "each row is a way of its own"
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert all(f"| {row} |" in (out / "table.md").read_text() for row in tool.ROWS)
