"""The independent baselines of `tools/bench`, which the wheel contains as `transfer3d/_baselines`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def baseline_file(name: str) -> Path:
    """Returns the path of a baseline by the name of its file."""
    packed = Path(__file__).parents[1] / "_baselines"
    return (packed if packed.is_dir() else Path(__file__).parents[2] / "tools" / "bench") / f"{name}.py"


def load_baseline(name: str) -> ModuleType:
    """Imports a baseline by the name of its file."""
    spec = importlib.util.spec_from_file_location(f"transfer3d_baseline_{name}", baseline_file(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
