"""Fixtures that tests of several layers share."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from transfer3d.data.moving_digits import SynthConfig, synthesise

SMALL_DIGITS = SynthConfig(seed=3, frames=12, size=48, train=2, val=1, test=1, unlabelled=60, stills=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files that start several processes first: one of them alone at the end would leave a core idle."""
    first = {item.path for item in items if item.get_closest_marker("proc")}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small built-in dataset: 80 + 40 + 40 labelled videos and 60 unlabelled ones. Tests only read it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose own folder is below that of the whole session
        shared = shared.parent
    with FileLock(shared / "digits.lock"):
        if not (shared / "digits").exists():
            synthesise(shared / "digits-parts", SMALL_DIGITS, Console(quiet=True))
            (shared / "digits-parts").rename(shared / "digits")
    return shared / "digits"


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """Real clips, where the machine has them."""
    named = os.environ.get("TRANSFER3D_CLIPS") or str(Path(__file__).parents[2] / "shared" / "clips")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip("no real clips: TRANSFER3D_CLIPS names no folder")
    return folder


@pytest.fixture(scope="session")
def programs_folder() -> Path:
    """Programs that researchers wrote against the library, where the machine has them."""
    named = os.environ.get("TRANSFER3D_PROGRAMS") or str(Path(__file__).parents[2] / "shared" / "programs")
    folder = Path(named)
    if not any(folder.glob("*.py")):
        pytest.skip("no programs: TRANSFER3D_PROGRAMS names no folder with Python files")
    return folder


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """Real weights (tf_efficientnet_lite0.safetensors), photographs, videos, where the machine has them."""
    named = os.environ.get("TRANSFER3D_REAL") or str(Path(__file__).parents[2] / "shared" / "real")
    folder = Path(named)
    if not (folder / "tf_efficientnet_lite0.safetensors").is_file():
        pytest.skip("no real weights: TRANSFER3D_REAL names no folder with tf_efficientnet_lite0.safetensors")
    return folder
