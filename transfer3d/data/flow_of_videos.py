"""The optical flow of plain videos, computed on access, for predictions on a few videos."""

from __future__ import annotations

import hashlib

from transfer3d.data.container import Source
from transfer3d.data.decoder import Decoder
from transfer3d.data.flow import FlowFormat
from transfer3d.data.prepare import compute_flow
from transfer3d.data.videoset import VideoSet


class FlowOfVideos(VideoSet):
    """Videos as their optical flow.

    Args:
        videos: RGB videos.
        flow: how it is computed; not "files".
    """

    def __init__(self, videos: VideoSet, flow: FlowFormat) -> None:
        self._videos, self._format, self._decoder = videos, flow, Decoder()
        self.flow = flow
        self.keys, self.sources = videos.keys, videos.sources
        self.labels, self.label_sets = videos.labels, videos.label_sets
        self.classes, self.dropped = videos.classes, videos.dropped
        self.frame_counts = [max(count - 1, 0) for count in videos.frame_counts]
        self.digest = hashlib.sha256(f"{videos.digest} {flow}".encode()).hexdigest()

    def open(self, index: int) -> Source:
        """Computes the flow of the whole video; see `compute_flow`."""
        source, name = self._videos.open(index), self.keys[index]
        return compute_flow(source, self._format, name=name, open_video=self._decoder.open)[0]
