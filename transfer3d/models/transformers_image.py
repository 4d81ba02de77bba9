"""Image models of Hugging Face's transformers as teachers, with timm's interface: `hf:org/name`.

Only safetensors are read, and only classes of transformers itself are built: code of a repository never runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from transfer3d.errors import SetupError, WeightsError
from transfer3d.nn.on_meta import on_meta
from transfer3d.text import shortened
from transfer3d.weights.header import read_header
from transfer3d.weights.hub import WEIGHTS_NAME, hub_address, hub_file
from transfer3d.weights.preprocessor import PREPROCESSOR, mean_and_std, read_configuration

PREFIX = "hf:"
CONFIG = "config.json"
LARGEST_SIDE = 4096
MAX_NUMBER = 10_000_000
MORE = 2
"""A file may lack some weights, such as a pooler, but not half of them."""
LONGEST_REASON = 300
LAYERS = re.compile("layers?$|depths?$")
"""Names of a configuration's fields for the number of layers."""


class TransformersImage(nn.Module):
    """An image model of transformers that gives pooled features and feature maps of its layers.

    Args:
        network: takes `pixel_values`, and returns `last_hidden_state`: tokens `B N D`, or maps `B D H W`.
        name: for messages.
        mean: per channel, on a 0..1 scale.
        std: per channel, on a 0..1 scale.
        size: H and W of its input.
        pools: whether the network's own pooled feature is used; else the class token, or the mean over all
            positions.

    Attributes:
        pretrained_cfg: as timm's.
        feature_info: one entry per layer, as timm's: `module`, `num_chs` and `reduction`.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        pools: bool,
    ) -> None:
        super().__init__()
        self.network, self.pools, self.num_classes = network, pools, 0
        self.pretrained_cfg: dict[str, Any] = {
            "architecture": name,
            "mean": tuple(mean),
            "std": tuple(std),
            "input_size": (len(mean), size, size),
            "fixed_input_size": True,
        }
        with torch.no_grad():
            final, maps = self.forward_intermediates(torch.zeros(1, len(mean), size, size))
            self.head_hidden_size = self.forward_head(final).shape[-1]
        self.feature_info = [
            {"module": f"layer.{index}", "num_chs": layer.shape[1], "reduction": size / layer.shape[-1]}
            for index, layer in enumerate(maps)
        ]

    def forward_features(self, images: Tensor) -> Any:
        """Returns the network's output for images `B C H W`."""
        return self.network(pixel_values=images)

    def forward_intermediates(
        self, images: Tensor, indices: Sequence[int] | None = None, norm: bool = True
    ) -> tuple[Any, list[Tensor]]:
        """Returns the network's output, and maps `B D H' W'` of layers; the last are `last_hidden_state`.

        Args:
            images: `B C H W`.
            indices: positions in `feature_info`; None = all.
            norm: no effect: only the last maps are normalised.
        """
        final = self.network(pixel_values=images, output_hidden_states=True)
        layers = [*final.hidden_states[1:-1], final.last_hidden_state]
        chosen = range(len(layers)) if indices is None else indices
        return final, [self._map(layers[index], images) for index in chosen]

    def forward_head(self, final: Any, pre_logits: bool = True) -> Tensor:
        """Returns pooled features `B D`."""
        if self.pools and final.pooler_output is not None:
            return final.pooler_output.flatten(1)
        last = final.last_hidden_state
        if last.ndim == 4:
            return last.mean((2, 3))
        return last[:, 0] if self._prefix(last) else last.mean(1)

    def _map(self, layer: Tensor, images: Tensor) -> Tensor:
        if layer.ndim == 4:
            return layer
        side = int(self._config.patch_size)
        height, width = images.shape[-2] // side, images.shape[-1] // side
        return layer[:, layer.shape[1] - height * width :].transpose(1, 2).unflatten(-1, (height, width))

    def _prefix(self, tokens: Tensor) -> int:
        """Returns the number of tokens before the patch tokens."""
        return tokens.shape[1] - math.isqrt(tokens.shape[1]) ** 2

    @property
    def _config(self) -> Any:
        return cast(Any, self.network).config


def create_transformers_image(address: str) -> TransformersImage:
    """Builds an image model with its released weights, in eval mode.

    Args:
        address: `hf:org/name@revision`, or `hf:FOLDER` with `config.json`, `preprocessor_config.json` and
            `model.safetensors`.

    Raises:
        UsageError: a malformed address.
        SetupError: transformers is not installed, or the hub cannot be reached.
        WeightsError: the files do not describe an image model, or weights are missing.
    """
    try:
        import transformers  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SetupError(
            f"{address} needs transformers, which is not installed: pip install 'transfer3d[transformers]'."
        ) from None
    folder = _folder(address)
    config, preprocessor = (read_configuration(folder / name) for name in (CONFIG, PREPROCESSOR))
    shapes = read_header(folder / WEIGHTS_NAME)[1]
    _check_sizes(address, config, len(shapes))
    try:
        model, loading = _load(address, folder, sum(map(math.prod, shapes.values())))
    except WeightsError:
        raise
    except Exception as error:  # transformers raises any type for a configuration that it does not expect
        raise WeightsError(f"{address}: transformers cannot build it ({_reason(error)}).") from error
    part = "vision_model." if hasattr(model, "vision_model") else ""
    network = cast(nn.Module, model.vision_model if part else model)
    missing = [name.removeprefix(part) for name in loading["missing_keys"] if name.startswith(part)]
    missing += [str(name) for name in loading.get("mismatched_keys", ())]
    if lacking := [name for name in missing if not name.startswith("pooler.")]:
        raise WeightsError(
            f"{address}: {len(lacking)} of its weights are not in the file, first {lacking[0]}."
        )
    try:
        mean, std = mean_and_std(preprocessor)
        return TransformersImage(
            network.float(),
            address,
            mean=mean,
            std=std,
            size=_size(config.get("vision_config", config), preprocessor),
            pools=not missing,
        ).eval()
    except WeightsError as error:
        raise WeightsError(f"{address}: {error}") from None
    except Exception as error:
        raise WeightsError(f"{address}: not an image model that could teach ({_reason(error)}).") from error


def _load(address: str, folder: Path, numbers: int) -> tuple[Any, dict[str, Any]]:
    """Returns a model of transformers and what its weights lacked.

    Raises:
        WeightsError: the network has far more than `numbers` weights, those of the file; found on the meta
            device, before memory is allocated.
    """
    from transformers import AutoConfig, AutoModel  # pyright: ignore[reportMissingImports]

    given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(str(folder), **given)
    with on_meta():
        planned = AutoModel.from_config(config, trust_remote_code=False)
    expected = sum(parameter.numel() for parameter in planned.parameters())
    if expected > MORE * numbers:
        raise WeightsError(f"{address}: {CONFIG} describes {expected:,} weights, its file has {numbers:,}.")
    return AutoModel.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True, **given)


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return shortened(lines[0], LONGEST_REASON)


def _check_sizes(address: str, config: Any, tensors: int, name: str = CONFIG) -> None:
    """Refuses, before it is built, a network of a size that its weight file cannot hold.

    Raises:
        WeightsError: a number is beyond any network's, or there are more layers than tensors.
    """
    if isinstance(config, dict | list):
        parts = config.items() if isinstance(config, dict) else ((name, part) for part in config)
        for key, value in parts:
            _check_sizes(address, value, tensors, key)
    elif isinstance(config, int | float):
        most = tensors if LAYERS.search(name) else MAX_NUMBER
        if abs(config) > most:
            raise WeightsError(f"{address}: {name} = {config:.6g} in {CONFIG}, for {tensors} tensors.")


def _folder(address: str) -> Path:
    """Returns the folder of the files, downloading them if needed."""
    place = address.removeprefix(PREFIX)
    if Path(place).is_dir():
        folder = Path(place)
        if absent := [name for name in (CONFIG, PREPROCESSOR, WEIGHTS_NAME) if not (folder / name).is_file()]:
            raise WeightsError(f"{address}: no {absent[0]} there. Give a folder of a model of transformers.")
        return folder
    hub = hub_address(place, f"{PREFIX}org/name@revision")
    files = [
        hub_file(
            hub.repository,
            (name,),
            revision=hub.revision,
            what=f"the {name} of '{address}'",
            remedies="download its folder where the hub can be reached, and give hf:FOLDER",
        )
        for name in (CONFIG, PREPROCESSOR, WEIGHTS_NAME)
    ]
    return files[0].parent


def _size(config: dict[str, Any], preprocessor: dict[str, Any]) -> int:
    """Returns H and W: the config's `image_size`, else the preprocessor's crop or resize size."""
    for given in (config.get("image_size"), preprocessor.get("crop_size"), preprocessor.get("size")):
        values = list(given.values()) if isinstance(given, dict) else given
        sides = values if isinstance(values, list) else [values]
        known = [side for side in sides if isinstance(side, int) and 1 <= side <= LARGEST_SIDE]
        if not known or len(known) < len(sides):
            continue
        if len(set(known)) > 1:
            raise ValueError(f"it takes images of {'x'.join(map(str, known))}, which are not square")
        return known[0]
    raise ValueError(f"neither {CONFIG} nor {PREPROCESSOR} says the size of its images")
