"""Describes the machine and its known problems."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import av
import torch

from transfer3d.engine.distributed import bf16_is_fast

PACKAGES = (
    "transfer3d", "torch", "torchvision", "timm", "accelerate", "webdataset", "safetensors", "av",
    "huggingface_hub", "torchmetrics", "numpy", "torchcodec", "onnxruntime",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Returns versions, devices, decoder and warnings, all JSON-able."""
    versions = {package: _version(package) for package in PACKAGES}
    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    hardware = {
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu threads": torch.get_num_threads(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "avx512 bf16": torch.cpu._is_avx512_bf16_supported(),
        "cuda devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none",
        "cuda": torch.version.cuda or "none",
        "cudnn": _cudnn_text(torch.backends.cudnn.version()),
        "fast bf16": bf16_is_fast(),
    }
    decoder = {
        "decoder": "PyAV",
        "libavcodec": libraries.get("libavcodec", "?"),
        "libavformat": libraries.get("libavformat", "?"),
        "h264 encoder": "libx264" if "libx264" in av.codecs_available else "none",
    }
    warnings = known_bad(versions["torch"], torch.backends.cudnn.version())
    return {
        "versions": {"python": platform.python_version(), **versions},
        "hardware": hardware,
        "decoder": decoder,
        "warnings": warnings,
    }


def known_bad(torch_version: str, cudnn: int | None) -> list[str]:
    """Returns a sentence for every combination of versions that is known to be wrong or slow.

    Args:
        torch_version: e.g. "2.9.1+cu128".
        cudnn: from `torch.backends.cudnn.version()`, e.g. 91002 for 9.10.2; None without cuDNN.
    """
    if torch_version.startswith("2.9.") and cudnn is not None and cudnn < 91500:
        return [
            f"torch {torch_version} with cuDNN {_cudnn_text(cudnn)}: Conv3d in bf16 is slow, takes three "
            "times the memory and can be wrong (pytorch issues 166122, 166643, 163539). Use torch 2.11 or "
            "newer, or cuDNN 9.15 or newer."
        ]
    if torch_version.startswith("2.15."):
        return [
            f"torch {torch_version}, bf16 on a CPU: the weight gradient of a convolution over a map smaller "
            "than its kernel is uninitialised memory. transfer3d's 3D layers avoid this; the 2D layers of "
            "timm networks in i3d students do not, for inputs so small that a strided 3x3 sees one pixel. "
            "Use larger clips there, or --precision fp32."
        ]
    return []


def _cudnn_text(number: int | None) -> str:
    return "none" if number is None else f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
