"""The package on systems that lack parts of POSIX and of glibc, such as Windows and macOS."""

import os
import subprocess
import sys

import pytest

from transfer3d.data.shards import read_range

IMPORT_EVERYTHING = """
import ctypes, importlib, os, pkgutil, sys

import psutil, torch  # these choose their imports by sys.platform

for name in ("fcntl", "resource"):
    sys.modules[name] = None  # importing it raises ImportError
for name in ("fork", "register_at_fork", "pread", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
load = ctypes.CDLL


def load_library(name, *arguments, **options):
    if name is None:
        raise OSError("the C library cannot be opened")
    return load(name, *arguments, **options)


ctypes.CDLL = load_library

import transfer3d

names = [module.name for module in pkgutil.walk_packages(transfer3d.__path__, "transfer3d.")]
for name in names:
    if name != "transfer3d.__main__":  # it runs the commands
        importlib.import_module(name)

from transfer3d.bench.memory import peak_bytes
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.engine.distributed import leave_cores_to

assert keep_freed_memory() is False
assert peak_bytes(lambda: None, torch.device("cpu")) is None
leave_cores_to(1)
print(len(names))
"""


@pytest.mark.slow
def test_every_module_imports_without_posix_and_glibc():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 150, done.stdout


def test_a_range_is_read_without_pread(tmp_path, monkeypatch):
    data = bytes(range(256)) * 3 + b"\r\n\x1a\n"
    (tmp_path / "shard.tar").write_bytes(data)
    monkeypatch.delattr(os, "pread", raising=False)
    assert read_range(tmp_path / "shard.tar", 250, 12) == data[250:262]
    assert read_range(tmp_path / "shard.tar", len(data) - 4, 4) == data[-4:]
    assert read_range(tmp_path / "shard.tar", len(data) - 4, 9) == data[-4:]
