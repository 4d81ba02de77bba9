"""transfer3d turns image models into video models: inflation, correspondence, fine-tuning."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer3d.engine.trainer import Trainer as Trainer
    from transfer3d.evaluation.evaluate import evaluate as evaluate
    from transfer3d.evaluation.predict import predict as predict
    from transfer3d.evaluation.stream import stream as stream
    from transfer3d.inflation.inflation import inflate as inflate
    from transfer3d.models.checkpoint import load as load
    from transfer3d.models.checkpoint import save as save
    from transfer3d.models.factory import create_model as create_model
    from transfer3d.models.fuse import fuse as fuse
    from transfer3d.models.registry import list_models as list_models

__version__ = "0.1.0"

# `import transfer3d` must stay free of torch: the command line's --help waits for it.
_HOMES = {
    "create_model": "transfer3d.models.factory",
    "evaluate": "transfer3d.evaluation.evaluate",
    "fuse": "transfer3d.models.fuse",
    "list_models": "transfer3d.models.registry",
    "load": "transfer3d.models.checkpoint",
    "predict": "transfer3d.evaluation.predict",
    "save": "transfer3d.models.checkpoint",
    "stream": "transfer3d.evaluation.stream",
    "Trainer": "transfer3d.engine.trainer",
}


def __getattr__(name: str) -> Any:
    """Imports a public function on its first use."""
    if name == "inflate":  # the package itself, which is callable
        return importlib.import_module("transfer3d.inflation")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'transfer3d' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted((*globals(), *_HOMES, "inflate"))
