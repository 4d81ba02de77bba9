"""A set of videos with its classes in another order, or as part of a larger set of classes."""

from __future__ import annotations

from collections.abc import Sequence

from transfer3d.data.container import Source
from transfer3d.data.folder import composed
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, did_you_mean

LISTED = 5


class Relabelled(VideoSet):
    """Videos whose labels index another list of classes, matched by name.

    Args:
        videos: labelled or not; the digest is unchanged.
        classes: names, by new label.

    Raises:
        DataError: a video's class is not among them.
    """

    def __init__(self, videos: VideoSet, classes: Sequence[str]) -> None:
        self._videos = videos
        self.keys, self.sources, self.digest = videos.keys, videos.sources, videos.digest
        self.sequential_groups, self.shuffle_buffer = videos.sequential_groups, videos.shuffle_buffer
        self.frame_counts, self.flow = videos.frame_counts, videos.flow
        self.official, self.dropped, self.classes = videos.official, videos.dropped, list(classes)
        number_of = {composed(name): label for label, name in enumerate(classes)}
        new = [number_of.get(composed(name)) for name in videos.classes]
        used = {label for labels in videos.label_sets for label in labels}
        unknown = [videos.classes[label] for label in sorted(used) if new[label] is None]
        if unknown:
            first = ", ".join(f"{name}{did_you_mean(name, classes)}" for name in unknown[:LISTED])
            raise DataError(
                f"{len(unknown)} of the videos' {len(videos.classes)} classes are not among the student's "
                f"{len(classes)}: {first}{', ...' if len(unknown) > LISTED else ''}. Rename or remove them."
            )
        self.label_sets = [tuple(_known(new[label]) for label in labels) for labels in videos.label_sets]
        self.labels = [None if label is None else new[label] for label in videos.labels]

    def open(self, index: int) -> Source:
        """See `VideoSet.open`."""
        return self._videos.open(index)


def _known(label: int | None) -> int:
    assert label is not None
    return label
