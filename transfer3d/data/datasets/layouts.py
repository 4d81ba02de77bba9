"""All layouts by name, and the detection of a folder's layout."""

from __future__ import annotations

from typing import Protocol

from transfer3d.data.datasets import (
    activitynet,
    activitynet_videos,
    charades,
    class_folders,
    csv_list,
    hmdb51,
    kinetics,
    pool,
    something_v1,
    something_v2,
    sports1m,
    ucf101,
)
from transfer3d.data.datasets.listing import Listing, Request
from transfer3d.data.flow_files import flow_folders
from transfer3d.data.folder import missing
from transfer3d.errors import DataError, UsageError, did_you_mean


class Layout(Protocol):
    """The interface of each layout module."""

    def applies(self, request: Request) -> bool:
        """Whether a dataset has this layout."""
        ...

    def read(self, request: Request) -> Listing:
        """Reads the dataset's lists and finds its files."""
        ...


LAYOUTS: dict[str, Layout] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "something-v1": something_v1,
    "something-v2": something_v2,
    "activitynet": activitynet,
    "activitynet-videos": activitynet_videos,
    "sports1m": sports1m,
    "charades": charades,
    "kinetics": kinetics,
    "csv": csv_list,
    "folders": class_folders,
    "pool": pool,
}
"""All layouts, in the order in which they are tried: those recognised by their lists first."""


def read_listing(request: Request, layout: str = "auto") -> tuple[str, Listing]:
    """Returns the layout's name and its listing.

    Raises:
        UsageError: no such source or layout.
        DataError: the lists are invalid, or none of the listed files exists.
    """
    if not (request.root.is_file() or request.root.is_dir()):
        raise missing(request.root, "Give a folder of videos, or a CSV list.")
    if layout == "auto":
        layout = next((name for name, known in LAYOUTS.items() if known.applies(request)), "")
    if not layout:
        place = request.root.parent
        raise UsageError(
            f"{request.root} is a file, and not a CSV list. Give the folder of the videos: `transfer3d shard "
            f"{place}`."
        )
    if layout not in LAYOUTS:
        near = did_you_mean(layout, LAYOUTS)
        raise UsageError(f"{request.root}: layout '{layout}'{near}; there are {', '.join(LAYOUTS)}.")
    listing = LAYOUTS[layout].read(request)
    if not listing.found and not request.flow_files and request.root.is_dir() and flow_folders(request.root):
        raise DataError(
            f"{request.root}: no videos, but pictures of optical flow. Say that they are, with --flow files."
        )
    if not listing.found:
        first = f", first {listing.missing[0].name}" if listing.missing else ""
        count = len(listing.missing)
        raise DataError(
            f"{request.root}: no videos; as {layout} it lists {count}{first}. Name the right folder."
        )
    return layout, listing
