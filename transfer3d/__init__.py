"""transfer3d turns image models into video models: inflation, correspondence, fine-tuning.

Everything in `__all__` is public; so is what `transfer3d.data` and `transfer3d.recipes` export. Names are
imported on first use, because the command line's `--help` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer3d.batch import ClipBatch
    from transfer3d.data.source import open_videos
    from transfer3d.engine.config import TrainerConfig
    from transfer3d.engine.trainer import Trainer
    from transfer3d.errors import DataError, SetupError, Transfer3dError, UsageError, WeightsError
    from transfer3d.evaluation.evaluate import evaluate
    from transfer3d.evaluation.predict import predict
    from transfer3d.evaluation.stream import stream
    from transfer3d.inflation.inflation import inflate
    from transfer3d.layout import ClipSpec
    from transfer3d.models.checkpoint import load, save
    from transfer3d.models.factory import create_model
    from transfer3d.models.fuse import fuse
    from transfer3d.models.registry import is_model, list_models, register_model
    from transfer3d.models.student import VideoStudent
    from transfer3d.objectives.classification import Classification
    from transfer3d.objectives.config import CorrespondenceConfig
    from transfer3d.objectives.correspondence import Correspondence
    from transfer3d.objectives.objective import LossReport, PairwiseObjective
    from transfer3d.objectives.teacher import FrozenTeacher, TeacherOutput

__version__ = "0.2.0"

__all__ = [
    "Classification",
    "ClipBatch",
    "ClipSpec",
    "Correspondence",
    "CorrespondenceConfig",
    "DataError",
    "FrozenTeacher",
    "LossReport",
    "PairwiseObjective",
    "SetupError",
    "TeacherOutput",
    "Trainer",
    "TrainerConfig",
    "Transfer3dError",
    "UsageError",
    "VideoStudent",
    "WeightsError",
    "create_model",
    "evaluate",
    "fuse",
    "inflate",
    "is_model",
    "list_models",
    "load",
    "open_videos",
    "predict",
    "register_model",
    "save",
    "stream",
]

_MODULES = {
    "batch": ("ClipBatch",),
    "data.source": ("open_videos",),
    "engine.config": ("TrainerConfig",),
    "engine.trainer": ("Trainer",),
    "errors": ("DataError", "SetupError", "Transfer3dError", "UsageError", "WeightsError"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.predict": ("predict",),
    "evaluation.stream": ("stream",),
    "inflation.inflation": ("inflate",),
    "layout": ("ClipSpec",),
    "models.checkpoint": ("load", "save"),
    "models.factory": ("create_model",),
    "models.fuse": ("fuse",),
    "models.registry": ("is_model", "list_models", "register_model"),
    "models.student": ("VideoStudent",),
    "objectives.classification": ("Classification",),
    "objectives.config": ("CorrespondenceConfig",),
    "objectives.correspondence": ("Correspondence",),
    "objectives.objective": ("LossReport", "PairwiseObjective"),
    "objectives.teacher": ("FrozenTeacher", "TeacherOutput"),
}
_HOMES = {name: f"transfer3d.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'transfer3d' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
