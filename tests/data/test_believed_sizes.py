"""Sizes that a tar or a list of members names are checked before so many bytes are read."""

import io
import tarfile
import tracemalloc
from contextlib import contextmanager

import pytest
from media import write_numbered

from transfer3d.data import external_shards, prepare
from transfer3d.data.container import BadVideo
from transfer3d.data.external_shards import index_external
from transfer3d.data.shards import FolderStore
from transfer3d.errors import DataError

SIZE = 200 << 20


@contextmanager
def memory_below(most):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
@pytest.mark.parametrize("before", [b"", header("a.cls", 0)], ids=["first", "second"])
def test_the_size_of_a_header_is_not_believed(kind, before, tmp_path):
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(before + header("x", SIZE, kind))
        file.truncate(SIZE + 20_480)
    with memory_below(20 << 20), pytest.raises(DataError, match=f"tar file: a header of {SIZE} bytes"):
        index_external(FolderStore(tmp_path), ["x.tar"])


def test_long_names_are_read(tmp_path):
    name = "a" * 3000
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for suffix in ("mp4", "cls"):
            member = tarfile.TarInfo(f"{name}.{suffix}")
            member.size = 1
            tar.addfile(member, io.BytesIO(b"0"))
    index = index_external(FolderStore(tmp_path), ["x.tar"])
    assert [sample.key for sample in index.shards[0].samples] == [name]


def test_a_video_that_no_shard_may_have_is_not_read(tmp_path, monkeypatch):
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(header("a.mp4", SIZE))
        file.truncate(SIZE + 20_480)
    monkeypatch.setattr(external_shards, "MAX_MEMBER_BYTES", SIZE - 1)
    with (
        memory_below(20 << 20),
        pytest.raises(DataError, match=f"'a.mp4' has {SIZE} bytes, too many for a mp4"),
    ):
        index_external(FolderStore(tmp_path), ["x.tar"])


def test_a_video_that_is_too_large_for_a_shard_is_left_out(tmp_path, monkeypatch):
    path = write_numbered(tmp_path / "a.mp4", 8)
    size = path.stat().st_size
    job = prepare.TranscodeJob(path, "a.mp4")
    monkeypatch.setattr(prepare, "MAX_MEMBER_BYTES", size)
    assert prepare.prepare(job).frames == 8
    monkeypatch.setattr(prepare, "MAX_MEMBER_BYTES", size - 1)
    with pytest.raises(BadVideo, match=f"a.mp4: {size} bytes, and a video of a shard has at most {size - 1}"):
        prepare.prepare(job)
    assert prepare.prepare(prepare.TranscodeJob(path, "a.mp4", short_side=32)).frames == 8
