"""Videos from my own list, in my own order of classes, through the tool's exact pipeline."""

from pathlib import Path

import torch

import transfer3d
from transfer3d.data import VideoList

files = sorted(Path("digits/videos/train").rglob("*.mp4"))
videos = VideoList(files, labels=[file.parent.name for file in files], groups=[file.stem for file in files])
student = transfer3d.create_model("p3d_tiny", num_classes=len(videos.classes))
config = transfer3d.TrainerConfig(steps=4, batch_size=8, lr=0.01, workers=2)
transfer3d.Trainer(transfer3d.Classification(student), videos, config).run()

# Each video is scored once, whatever the number of processes.
result = transfer3d.evaluate(student, videos, clips=2)
print(result.metrics["video_top1"], result.scores.shape)

outputs = transfer3d.predict(student, files[:3], top=2)
print([(o.path.name, o.classes, [round(p, 2) for p in o.probabilities]) for o in outputs])

maps = student.forward_intermediates(torch.zeros(1, 3, 8, 32, 32), indices=(-2, -1), intermediates_only=True)
print([tuple(m.shape) for m in maps])
