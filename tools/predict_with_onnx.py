"""Downstream use: classify a video in a product that has neither transfer3d nor torch.

python tools/predict_with_onnx.py model.onnx preprocess.json video.mp4
"""

import json
import sys

import av
import numpy as np
import onnxruntime

model, sidecar, video = sys.argv[1:]
with open(sidecar, encoding="utf-8") as file:
    spec = json.load(file)
with av.open(video) as container:
    frames = list(container.decode(video=0))
first = max((len(frames) - spec["span"]) // 2, 0)
shown = [frames[min(first + t * spec["stride"], len(frames) - 1)] for t in range(spec["frames"])]
sides, side = np.array([shown[0].height, shown[0].width]), spec["resize"]["short_side"]
height, width = np.rint(sides * min(side / sides.min(), 1)).astype(int)
small = [frame.reformat(int(width), int(height), interpolation="BILINEAR") for frame in shown]
pixels = np.stack([frame.to_ndarray(format="rgb24", interpolation="BILINEAR") for frame in small])
pixels = np.rot90(pixels, shown[0].rotation // 90, axes=(1, 2))
for axis in (2, 1) if sides.min() < side else ():  # a small video is scaled up
    old, new = pixels.shape[axis], pixels.shape[axis] * side // sides.min()
    at, lines = (np.arange(new) + 0.5) * old / new - 0.5, np.moveaxis(pixels, axis, -1)
    rows = [np.interp(at, np.arange(old), line) for line in lines.reshape(-1, old)]
    pixels = np.moveaxis(np.rint(rows).reshape(*lines.shape[:-1], new), -1, axis)
top, left = (round((length - spec["crop"]["size"]) / 2) for length in pixels.shape[1:3])
pixels = pixels[:, top:, left:][:, : spec["crop"]["size"], : spec["crop"]["size"]]
clip = ((pixels / 255 - spec["mean"]) / spec["std"]).transpose(3, 0, 1, 2)[None].astype(np.float32)
logits = np.asarray(onnxruntime.InferenceSession(model).run(None, {"clips": clip})[0])[0]
scores = np.exp(logits - logits.max())
sigmoid = spec["output"]["activation"] == "sigmoid"  # several labels a video
probabilities = 1 / (1 + np.exp(-logits)) if sigmoid else scores / scores.sum()
for number in probabilities.argsort()[::-1][:3]:
    print(f"{spec['class_names'][number]}\t{probabilities[number]:.6f}")
