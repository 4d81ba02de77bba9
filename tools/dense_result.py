"""What dense transfer keeps: match, feature and dense beside each other on built-in digits, by paired seeds.

    python tools/dense_result.py                      # three seeds, a few minutes each on two cores
    python tools/dense_result.py --seeds 1 --steps 60 # a look

For each seed a small vision transformer learns still digits and teaches `p3d_tiny` by each term alone,
without labels. Then, on frozen students, two linear probes of test videos: which digit and motion (pooled
features), and where the digit is (each cell of the last maps: is a part of it covered?); and fine-tuning.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from result.statistics import interval, paired_difference
from result.store import Store
from result.tables import by_seed
from rich.console import Console
from script import run_script
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch.nn import functional

from transfer3d import (
    Classification,
    ClipBatch,
    Correspondence,
    CorrespondenceConfig,
    FrozenTeacher,
    Trainer,
    TrainerConfig,
    VideoStudent,
    create_model,
)
from transfer3d.data import SynthConfig
from transfer3d.data.moving_digits import Part, draw_video
from transfer3d.models.image import create_image_model
from transfer3d.run.training.image_teacher import train_teacher

SIZE, FRAMES, BATCH, TEACHER = 64, 8, 16, "test_vit"
SEEN = 2
"""Frames of a clip that the teacher sees: what takes most of the time."""
TERMS = {
    "scratch": None,
    "match": CorrespondenceConfig(teacher_frames=SEEN, standardise=True),
    "feature": CorrespondenceConfig(teacher_frames=SEEN, match=0, feature=1),
    "dense": CorrespondenceConfig(teacher_frames=SEEN, match=0, dense=1),
    "dense, feature": CorrespondenceConfig(teacher_frames=SEEN, match=0, feature=1, dense=1),
}
MEASURES = {"probe": "linear probe", "finetune": "fine-tuned", "where": "where is the digit"}
"""Accuracy of digit and motion, and average precision, by name in the records."""
COVERED = 0.1
"""Share of a cell's pixels, over its frames, from which on the digit is there."""
BRIGHTER = 40
"""Of a pixel of the digit than the plain background."""


class Clips:
    """Drawn videos in memory.

    Args:
        config: of the drawings.
        part: of the dataset.
        count: videos.
    """

    def __init__(self, config: SynthConfig, part: Part, count: int) -> None:
        videos = [draw_video(config, part, index) for index in range(count)]
        self.clips_u8 = torch.stack([torch.from_numpy(v.frames).permute(3, 0, 1, 2) for v in videos])
        self.labels = torch.tensor([-1 if v.label is None else v.label for v in videos])
        self.keys = [f"{part} {index}" for index in range(count)]

    def batch(self, chosen: np.ndarray) -> ClipBatch:
        """Returns some of them."""
        keys = [self.keys[index] for index in chosen]
        return ClipBatch(self.clips_u8[chosen], self.labels[chosen], keys, keys)

    def batches(self, seed: int, steps: int) -> Callable[[int], Iterator[ClipBatch]]:
        """Returns what a trainer asks for batches."""

        def generate(first: int) -> Iterator[ClipBatch]:
            for step in range(first, steps):
                yield self.batch(np.random.default_rng((seed, step)).permutation(len(self.keys))[:BATCH])

        return generate

    def covered(self, grid: tuple[int, int, int]) -> np.ndarray:
        """Returns whether the digit is in each cell `N T' H' W'`."""
        grey = self.clips_u8.float().mean(1)
        digit = (grey - grey.flatten(1).median(1).values[:, None, None, None]).abs() > BRIGHTER
        return (functional.adaptive_avg_pool3d(digit[:, None].float(), grid)[:, 0] > COVERED).numpy()


@torch.no_grad()
def read(student: VideoStudent, clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Returns pooled features `N D` and last maps `N D T' H' W'`."""
    maps = torch.cat([student.eval().forward_features(part) for part in clips.clips_u8.split(BATCH)])
    return student.forward_head(maps, pre_logits=True).numpy(), maps.float().numpy()


def train(objective: torch.nn.Module, clips: Clips, *, steps: int, lr: float, seed: int) -> None:
    """Trains by AdamW."""
    config = TrainerConfig(steps=steps, lr=lr, seed=seed, precision="fp32", batch_size=BATCH)
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"name": "adamw"})})
    Trainer(objective, clips.batches(seed, steps), config).run()


def one_seed(seed: int, steps: int, console: Console) -> dict[str, dict[str, float]]:
    """Returns, by term, accuracy of the linear probe, of fine-tuning, and average precision of "where"."""
    config = SynthConfig(seed=seed, size=SIZE, frames=FRAMES, background="plain", train=8, test=6)
    unlabelled = Clips(config, "unlabelled", 400)
    labelled, tested = (
        Clips(config, "train", config.count("train")),
        Clips(config, "test", config.count("test")),
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.safetensors"
        accuracy = train_teacher(
            TEACHER, weights, config, size=160, steps=steps, seed=seed, precision="fp32", console=console
        )
        console.print(f"seed {seed}: teacher {accuracy:.1%} on still digits")
        teacher = FrozenTeacher(create_image_model(TEACHER, str(weights)))
    rows = {}
    for name, term in TERMS.items():
        student = create_model("p3d_tiny", num_classes=0, seed=seed)
        if term is not None:
            train(
                Correspondence(teacher, student, term, seed=seed),
                unlabelled,
                steps=2 * steps,
                lr=2e-3,
                seed=seed,
            )
        (known, known_maps), (new, new_maps) = read(student, labelled), read(student, tested)
        probe = LogisticRegression(max_iter=2000).fit(known, labelled.labels)
        grid = known_maps.shape[2:]
        cells = [np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1]) for maps in (known_maps, new_maps)]
        where = LogisticRegression(max_iter=1000).fit(cells[0], labelled.covered(grid).ravel())
        found = where.decision_function(cells[1])
        rows[name] = {
            "probe": float(probe.score(new, tested.labels)),
            "where": float(average_precision_score(tested.covered(grid).ravel(), found)),
        }
        student.reset_classifier(int(labelled.labels.max()) + 1, seed=seed)
        train(Classification(student), labelled, steps=steps, lr=2e-3, seed=seed)
        with torch.no_grad():
            guesses = torch.cat([student.eval()(part).argmax(1) for part in tested.clips_u8.split(BATCH)])
        rows[name]["finetune"] = float((guesses == tested.labels).float().mean())
        console.print(f"seed {seed}, {name}: " + ", ".join(f"{k} {v:.1%}" for k, v in rows[name].items()))
    return rows


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns mean ± half the 95 % interval over seeds, and the paired difference to matching alone."""
    heads = [f"{title} | against match" for title in MEASURES.values()]
    lines = [f"| term | {' | '.join(heads)} |", "| --- " * (1 + 2 * len(MEASURES)) + "|"]
    for name in TERMS:
        cells = []
        for measure in MEASURES:
            values, reference = by_seed(records, name, measure), by_seed(records, "match", measure)
            difference = "" if name == "match" else paired_difference(values, reference).text(signed=True)
            cells += [interval(list(values.values())).text(), difference]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    steps: Annotated[
        int, typer.Option(min=1, help="Of the teacher and of fine-tuning; twice of transfer.")
    ] = 300,
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON, continued.")] = Path("dense_result.json"),
) -> None:
    """Compare what each term of the transfer leaves in a student."""
    console = Console(stderr=True)
    store = Store(out, {"steps": steps})
    for seed in range(seeds):
        if not all(store.holds(term, seed, {}) for term in TERMS):
            for name, measures in one_seed(seed, steps, console).items():
                store.add({"row": name, "seed": seed, **measures})
    print(table(store.records))


if __name__ == "__main__":
    run_script(main)
