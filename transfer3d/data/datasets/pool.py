"""A pool of unlabelled videos, in any folders."""

from __future__ import annotations

from transfer3d.data.datasets.listing import Entry, Listing, Request
from transfer3d.data.folder import log_other_files


def applies(request: Request) -> bool:
    """Whether it is a folder: any folder can be a pool."""
    return request.root.is_dir()


def read(request: Request) -> Listing:
    """Reads all videos below the folder, as the split unlabelled."""
    if not request.flow_files:
        log_other_files(request.root)
    names = [(path, path.relative_to(request.root).as_posix()) for path in request.videos(request.root)]
    return Listing((), tuple(Entry(name, path, "unlabelled", None, name) for path, name in names))
