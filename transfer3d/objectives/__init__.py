"""Supervision transfer from a frozen image model to a video student."""

from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.objective import LossReport, Objective
from transfer3d.objectives.teacher import FrozenTeacher

__all__ = ["Correspondence", "CorrespondenceConfig", "FrozenTeacher", "LossReport", "Objective"]
