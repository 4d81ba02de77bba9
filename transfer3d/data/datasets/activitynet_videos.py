"""ActivityNet's untrimmed videos, each with the classes of all its segments.

For V4D's table 6 (appendix A.1), which scores whole videos by windows: mean average precision.
"""

from __future__ import annotations

from transfer3d.data.datasets import activitynet
from transfer3d.data.datasets.listing import Finder, Listing, Request

applies = activitynet.applies
"""The same files as for segments, a layout that is tried first: whole videos must be requested by name."""


def read(request: Request) -> Listing:
    """Reads the videos, as splits train, val and test; classes in the order of a video's segments."""
    videos, finder = activitynet.read_annotations(request), Finder(request)
    classes = activitynet.class_names(videos)
    entries = []
    for video in videos:
        names = dict.fromkeys(part.label for part in video.segments)
        entries.append(activitynet.whole(finder, video, tuple(map(classes.index, names))))
    return finder.listing(classes, entries)
