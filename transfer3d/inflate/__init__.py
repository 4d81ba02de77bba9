"""From a 2D network's weights to a student's, with an account of every tensor and a proof.

The package is callable, because `transfer3d.inflate` is both this package and the public function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from transfer3d.inflate.inflation import Inflated, inflate

__all__ = ["Inflated", "inflate"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Inflated:
        return inflate(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
