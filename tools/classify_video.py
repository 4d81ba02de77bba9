"""Downstream use: classify a video with a checkpoint, in a product that has transfer3d installed.

python tools/classify_video.py runs/demo/finetune-inflated/model.safetensors video.mp4
"""

import sys
from pathlib import Path

import torch

import transfer3d
from transfer3d.data import clip_of_file


def main(checkpoint: Path, video: Path) -> None:
    """Prints the three most probable classes of the video's centre."""
    student = transfer3d.load(checkpoint)
    names = student.class_names or range(student.num_classes)
    clip = clip_of_file(video, student.clip)
    with torch.inference_mode():
        logits_BK = student(clip[None])
    scores = logits_BK.softmax(-1)[0].topk(min(3, student.num_classes))
    for score, number in zip(scores.values.tolist(), scores.indices.tolist(), strict=True):
        print(f"{names[number]}\t{score:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
