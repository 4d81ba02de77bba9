"""Exports students as a Hub folder, ONNX, torch.export or OpenVINO, each checked against the student."""
