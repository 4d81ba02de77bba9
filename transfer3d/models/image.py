"""Image models: timm's, with weights from the hub, from a file or random, and their input specification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.layout import FLOW_CHANNELS, RGB_CHANNELS, per_channel
from transfer3d.models import googlenet, tiny_densenet, tiny_swin  # noqa: F401 - registers them
from transfer3d.nn.on_meta import on_meta
from transfer3d.weights.digest import tensors_digest
from transfer3d.weights.header import differences, shapes_of
from transfer3d.weights.hub import hub_file, url_file
from transfer3d.weights.state_file import read_state, warn_of_non_finite

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
REMEDIES = "give `--weights FILE` (a file of its weights) or `--weights none` (random weights)"


@dataclass(frozen=True, kw_only=True)
class ImageModelInfo:
    """Input and output specification of an image model.

    Attributes:
        name: timm's architecture name.
        mean: per input channel, on a 0..1 scale.
        std: per input channel, on a 0..1 scale.
        size: H and W of its training images.
        takes_one_size: whether it accepts no other size, as a ViT with fixed position embeddings.
        num_features: D, size of its pooled feature.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    takes_one_size: bool
    num_features: int


def create_image_model(
    name: str,
    weights: str = "timm",
    num_classes: int | None = None,
    in_chans: int = RGB_CHANNELS,
    seed: int = 0,
) -> nn.Module:
    """Builds a timm model in eval mode.

    Args:
        name: timm's, with or without a tag (`resnet50`, `resnet50.a1_in1k`).
        weights: "timm" (from the hub or its cache), "none" (random), or a file: safetensors, or a PyTorch
            checkpoint that holds nothing but weights.
        num_classes: K; by default that of the weights. Another number creates a new head.
        in_chans: channels of the input. Pretrained weights are adapted: for optical flow (2) by TSN's
            cross-modality initialisation, "we average the weights across the RGB channels and replicate this
            average by the channel number" (Wang et al., ECCV 2016, section 3.2), for other numbers by timm.
        seed: for all random values.

    Raises:
        UsageError: timm has no such model.
        WeightsError: timm has no weights for it, or the file does not fit.
        SetupError: the hub cannot be reached and its cache does not hold the weights.
    """
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models())
        raise UsageError(f"timm has no model '{name}'{near}.")
    if "." in name and name not in (tags := timm.list_models(f"{architecture}.*", include_tags=True)):
        raise UsageError(f"timm has no weights '{name}': it has {', '.join(tags)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights == "none":
            classes: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
            return timm.create_model(name, in_chans=in_chans, **classes).eval()
        path = _hub_file(name) if weights == "timm" else Path(weights)
        model = _filled_for_flow(name, path) if in_chans == FLOW_CHANNELS else _filled(name, path, in_chans)
        if num_classes not in (None, model.num_classes):
            cast(Any, model).reset_classifier(num_classes)
        return model.eval()


def image_model_info(model: nn.Module) -> ImageModelInfo:
    """Returns the input and output specification of a timm model.

    Raises:
        UsageError: the model does not carry timm's `pretrained_cfg` with mean and standard deviation.
    """
    cfg = getattr(model, "pretrained_cfg", None) or {}
    missing = [key for key in ("architecture", "mean", "std", "input_size") if not cfg.get(key)]
    if missing:
        raise UsageError(f"{type(model).__name__} lacks {missing}: build it with timm.create_model.")
    mean, std = per_channel(cfg["mean"], cfg["std"], getattr(model, "in_chans", RGB_CHANNELS))
    size = cfg["input_size"][-1]
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if cfg.get("fixed_input_size") and built_for:
        size = built_for[-1]
    return ImageModelInfo(
        name=cfg["architecture"],
        mean=mean,
        std=std,
        size=size,
        takes_one_size=bool(cfg.get("fixed_input_size")),
        num_features=int(getattr(model, "head_hidden_size", 0) or cast(Any, model).num_features),
    )


def weights_digest(model: nn.Module) -> str:
    """Returns the sha256 over names, types, shapes and bytes of all parameters and buffers, in hex."""
    return tensors_digest(model.state_dict())


def _hub_file(name: str) -> Path:
    """Returns the cached path of a model's weights, downloading them if needed."""
    cfg = get_pretrained_cfg(name)
    what = f"the weights of '{name}'"
    if cfg is not None and not cfg.hf_hub_id and isinstance(cfg.url, str):
        return url_file(cfg.url, what=what, remedies=REMEDIES)
    if cfg is None or not cfg.hf_hub_id:
        raise WeightsError(f"timm has no pretrained weights for '{name}': {REMEDIES}.")
    repository, _, revision = cfg.hf_hub_id.partition("@")
    return hub_file(
        repository,
        (cfg.hf_hub_filename,) if cfg.hf_hub_filename else HUB_FILES,
        revision=revision or None,
        what=what,
        remedies=REMEDIES,
    )


def _filled_for_flow(name: str, path: Path) -> nn.Module:
    """Builds a network for two channels; the first kernel is averaged over RGB and repeated."""
    rgb = cast(Any, _filled(name, path, RGB_CHANNELS))
    flow = timm.create_model(name, num_classes=rgb.num_classes, in_chans=FLOW_CHANNELS)
    shapes = {key: tensor.shape for key, tensor in flow.state_dict().items()}
    flow.load_state_dict(
        {
            key: tensor if tensor.shape == shapes[key] else tensor.mean(1, keepdim=True).expand(shapes[key])
            for key, tensor in rgb.state_dict().items()
        }
    )
    return flow


def _filled(name: str, path: Path, in_chans: int) -> nn.Module:
    """Builds a model with the head of its weights file, and loads the weights strictly."""
    state = read_state(path)
    warn_of_non_finite(state, f"{path}: ")
    cfg = get_pretrained_cfg(name)
    classifier = (cfg.classifier if cfg else None) or "fc"
    head = state.get(f"{classifier if isinstance(classifier, str) else classifier[0]}.weight")
    classes = 0 if head is None else head.shape[0] - int((cfg and cfg.label_offset) or 0)
    overlay = {"state_dict": state, "num_classes": classes}
    try:
        model = timm.create_model(
            name, pretrained=True, num_classes=classes, in_chans=in_chans, pretrained_cfg_overlay=overlay
        )
    except (RuntimeError, KeyError, ValueError) as error:
        with on_meta():
            empty = timm.create_model(name, num_classes=classes, in_chans=in_chans)
        mismatch = differences(shapes_of(empty.state_dict()), shapes_of(state)) or str(error)
        raise WeightsError(f"{path}: not the weights of {name}: tensors {mismatch}.") from error
    cast(Any, model).pretrained_cfg.pop("state_dict", None)
    return model
