"""Exports students as a Hub folder, ONNX or torch.export, each checked against the student itself."""
