"""One checkpoint and its ONNX file, written once: an export takes seconds."""

from dataclasses import replace

import pytest
import torch

import transfer3d
from transfer3d.models.factory import create_model
from transfer3d.run.checkpoints.export import export_checkpoint

NAMES = ["run", "jump", "sit"]
PROVENANCE = {
    "made_by": "finetune",
    "parent": {"checkpoint": "/home/someone/runs/p3d.safetensors", "sha256": "ab" * 32},
    "teacher": {"name": "C:\\nets\\secret\\teacher.safetensors", "weights": "hf_hub:timm/resnet18.a1_in1k"},
    "recipe": {"data": "/data/secret/videos", "task": "finetune"},
    "notes": ["/data/secret/notes.txt"],
    "metrics": {"video_top1": 0.5},
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder: `s.safetensors`, which has a stride, a crop and an origin; `m.onnx`, `preprocess.json`."""
    folder = tmp_path_factory.mktemp("exported")
    clip = replace(create_model("p3d_tiny", num_classes=3).clip, crop=40, stride=2)
    student = create_model("p3d_tiny", num_classes=3, seed=4, clip=clip)
    torch.nn.init.normal_(student.head.weight, generator=torch.Generator().manual_seed(5))
    transfer3d.save(student, folder / "s.safetensors", class_names=NAMES, provenance=PROVENANCE)
    export_checkpoint(str(folder / "s.safetensors"), "onnx", folder / "m.onnx")
    return folder


@pytest.fixture
def origin():
    """The provenance of `exported`'s checkpoint."""
    return PROVENANCE
