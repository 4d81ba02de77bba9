"""Downstream use: the tensors of a checkpoint by safetensors alone, the network by its name.

python tools/load_with_safetensors.py runs/demo/finetune-inflated/model.safetensors
"""

import json
import sys

from safetensors import safe_open
from safetensors.torch import load_file

from transfer3d import create_model


def main(checkpoint: str) -> None:
    """Loads strictly and prints its metadata."""
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
    arguments = json.loads(metadata["transfer3d.model_args"])
    classes = int(metadata["transfer3d.num_classes"])
    student = create_model(metadata["transfer3d.model"], num_classes=classes, **arguments)
    student.load_state_dict(load_file(checkpoint), strict=True)
    print(metadata["transfer3d.model"], classes, json.loads(metadata["transfer3d.clip"]))


if __name__ == "__main__":
    main(sys.argv[1])
