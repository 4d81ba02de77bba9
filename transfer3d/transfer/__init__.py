"""Supervision transfer from a frozen image model to a video student."""

from transfer3d.transfer.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.transfer.objective import LossReport, Objective
from transfer3d.transfer.teacher import FrozenTeacher

__all__ = ["Correspondence", "CorrespondenceConfig", "FrozenTeacher", "LossReport", "Objective"]
