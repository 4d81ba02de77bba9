"""A student as a backbone: a list of feature maps instead of logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from transfer3d.models.student import VideoStudent


class VideoFeatures(nn.Module):
    """What `create_model(..., features_only=True)` returns, as timm does.

    Attributes:
        model: the student, without the unused layers.
        feature_info: timm's `FeatureInfo`; `channels()`, `reduction()` and `get("temporal_reduction")`
            describe the maps.

    Args:
        student: modified in place: it loses its classifier and the layers after the last one returned.
        out_indices: see `VideoStudent.forward_intermediates`.
    """

    def __init__(self, student: VideoStudent, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        from timm.models import FeatureInfo

        stages = student.trunk.stages
        indices = [stages.index(name) for name in student.layer_names(out_indices)]
        self.feature_info = FeatureInfo(student.feature_info, tuple(indices))
        student.trunk.prune(stages[max(indices)])
        student.reset_classifier(0)
        self.model = student
        self.out_indices = indices

    def forward(self, clips: Tensor) -> list[Tensor]:
        """Returns feature maps `B D T' H' W'`, finest first if the indices ascend."""
        return self.model.forward_intermediates(
            clips, self.out_indices, stop_early=True, intermediates_only=True
        )
