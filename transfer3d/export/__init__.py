"""Students for other programs: a Hub folder, ONNX, torch.export; each checked against the student itself."""
