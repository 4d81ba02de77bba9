"""Downstream use: classify a video with a checkpoint, in a product that has transfer3d installed.

python tools/classify_video.py runs/demo/finetune-inflated/model.safetensors video.mp4
"""

import sys
from pathlib import Path

import torch

import transfer3d
from transfer3d.data import clip_of_file
from transfer3d.nn.pixels import normalise
from transfer3d.weights.metadata import read_metadata


def main(checkpoint: Path, video: Path) -> None:
    """Prints the three most probable classes of the video's centre."""
    student = transfer3d.load(checkpoint)
    names = read_metadata(checkpoint).class_names
    clip_u8 = clip_of_file(video, student.clip)
    with torch.inference_mode():
        logits_BK = student(normalise(clip_u8[None], student.clip.mean, student.clip.std))
    scores = logits_BK.softmax(-1)[0].topk(min(3, student.num_classes))
    for score, number in zip(scores.values.tolist(), scores.indices.tolist(), strict=True):
        print(f"{names[number] if names else number}\t{score:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
