"""Videos on disk -> batches of clips."""

from transfer3d.data.clips import Clips, clip_of_file
from transfer3d.data.shards import ShardVideos as ShardDataset
from transfer3d.data.source import open_videos

__all__ = ["Clips", "ShardDataset", "clip_of_file", "open_videos"]
