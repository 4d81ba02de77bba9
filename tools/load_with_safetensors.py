"""Downstream use: the tensors of a checkpoint by safetensors alone, the network by its name.

python tools/load_with_safetensors.py runs/demo/finetune-inflated/model.safetensors
"""

import json
import sys

from safetensors import safe_open
from safetensors.torch import load_file

from transfer3d import create_model


def main(checkpoint: str) -> None:
    """Loads strictly and prints what the file says about itself."""
    with safe_open(checkpoint, framework="pt") as file:
        facts = file.metadata()
    arguments = json.loads(facts["transfer3d.model_args"])
    classes = int(facts["transfer3d.num_classes"])
    student = create_model(facts["transfer3d.model"], num_classes=classes, **arguments)
    student.load_state_dict(load_file(checkpoint), strict=True)
    print(facts["transfer3d.model"], classes, json.loads(facts["transfer3d.clip"]))


if __name__ == "__main__":
    main(sys.argv[1])
