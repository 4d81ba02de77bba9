"""Flow that comes as pictures, as TSN or Feichtenhofer store it: read as it is, and what is missing named."""

import numpy as np
import pytest
from miniatures import note
from PIL import Image
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.data.container import BadVideo
from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Cut, Entry, Request
from transfer3d.data.decode import Video
from transfer3d.data.flow import FlowFormat
from transfer3d.data.flow_files import flow_folders, flow_pairs, read_flow
from transfer3d.data.prepare import TranscodeJob, prepare
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError

NAMES = [f"v_{name}_g0{group}_c01" for group in (1, 2) for name in ("Jump", "Run")]
FILES = FlowFormat(algorithm="files")


def planes_of(number, count=3, size=(24, 32)):
    return np.random.default_rng(number).integers(0, 256, (count, *size, 2), np.uint8)


def tsn(folder, planes, suffix="png"):
    folder.mkdir(parents=True)
    for i, (x, y) in enumerate(np.moveaxis(planes, -1, 1), start=1):
        Image.fromarray(x).save(folder / f"flow_x_{i:05d}.{suffix}")
        Image.fromarray(y).save(folder / f"flow_y_{i:05d}.{suffix}")
        Image.fromarray(x).save(folder / f"img_{i:05d}.{suffix}")


def feichtenhofer(root, name, planes):
    for component, number in (("u", 0), ("v", 1)):
        folder = root / component / name
        folder.mkdir(parents=True)
        for i, plane in enumerate(planes[..., number], start=1):
            Image.fromarray(plane).save(folder / f"frame{i:06d}.png")
        (folder / "._frame000001.png").write_bytes(b"macOS leaves such files")


def ucf101_lists(root):
    note(root / "classInd.txt", "1 Jump", "2 Run")
    paths = [f"{name.split('_')[1]}/{name}.avi" for name in NAMES]
    note(root / "trainlist01.txt", *(f"{path} {1 + ('Run' in path)}" for path in paths[:2]))
    note(root / "testlist01.txt", *paths[2:])
    return root


def run(*arguments):
    return CliRunner().invoke(app, ["shard", *map(str, arguments), "--flow", "files"])


def stored(shards, split):
    """The planes of a split, by label."""
    videos = open_videos(shards, split=split)
    assert videos.flow == FILES
    found = {}
    for index, label in enumerate(videos.labels):
        with Video(videos.open(index), channels=2) as video:
            found[label] = video.read(np.arange(video.frames))
    return found


@pytest.mark.parametrize("layout", ["tsn", "feichtenhofer"])
def test_both_layouts_of_ucf101_are_packed_as_they_are(tmp_path, layout):
    root, lists = tmp_path / "data", ucf101_lists(tmp_path / "lists")
    for number, name in enumerate(NAMES):
        if layout == "tsn":
            tsn(root / name, planes_of(number))
        else:
            feichtenhofer(root, name, planes_of(number))
    done = run(root, "-o", tmp_path / "s", "--annotations", lists)
    assert done.exit_code == 0, done.output
    for split, first in (("train", 0), ("test", 2)):
        found = stored(tmp_path / "s", split)
        assert all((found[label] == planes_of(first + label)).all() for label in (0, 1))


def test_class_folders_and_lists_of_paths(tmp_path):
    for number, name in enumerate(NAMES):
        tsn(tmp_path / "data" / name.split("_")[1] / name, planes_of(number))
    assert read_listing(Request(tmp_path / "data", flow_files=True))[0] == "folders"
    assert run(tmp_path / "data", "-o", tmp_path / "s").exit_code == 0
    assert sorted(stored(tmp_path / "s", "train")) == [0, 1]
    lines = [f"{name.split('_')[1]}/{name},{name.split('_')[1]}" for name in NAMES]
    _, listing = read_listing(Request(note(tmp_path / "data" / "list.csv", *lines), flow_files=True))
    assert [entry.path for entry in listing.found] == [
        tmp_path / "data" / name.split("_")[1] / name for name in NAMES
    ]


def test_shards_of_frames_and_of_flow_number_videos_alike(tmp_path):
    from miniatures import video

    names = ["b", "a", "a 1", "a-1", "a_1", "a1"]
    for number, name in enumerate(names):
        for label in ("Jump", "Run"):
            video(tmp_path / "rgb" / label / f"{name}.mp4")
            tsn(tmp_path / "flow" / label / name, planes_of(number))
    order = [
        [entry.path.name.removesuffix(".mp4") for entry in read_listing(request)[1].entries]
        for request in (
            Request(tmp_path / "rgb"),
            Request(tmp_path / "flow", flow_files=True),
        )
    ]
    assert order[0] == order[1]
    assert sorted(order[0]) == sorted(2 * names)


def test_grey_jpegs_are_read_to_a_level(tmp_path):
    smooth = np.linspace(0, 255, 32).astype(np.uint8)
    planes = np.broadcast_to(smooth[None, None, :, None], (2, 24, 32, 2))
    tsn(tmp_path / "video", planes, suffix="jpg")
    found = np.stack(list(read_flow(flow_pairs(tmp_path / "video", name="v"), name="v")))
    assert np.abs(found.astype(int) - planes).max() <= 4
    as_pillow = np.asarray(Image.open(tmp_path / "video" / "flow_x_00001.jpg"))
    assert np.abs(found[0, ..., 0].astype(int) - as_pillow).max() <= 1


def without(*names):
    def change(root):
        for name in names:
            (root / name).unlink()

    return change


def resized(name):
    return lambda root: Image.new("L", (8, 8)).save(root / name)


def garbled(name):
    return lambda root: (root / name).write_bytes(b"not a picture")


BAD = {
    "a missing partner": (
        without("tsn/flow_y_00002.png"),
        "1 of its flow pictures have no partner, first tsn/flow_x_00002.png",
    ),
    "other counts": (
        without("u/one/frame000002.png", "u/one/frame000003.png"),
        "2 of its flow pictures have no partner, first one/frame000002.png",
    ),
    "another size": (resized("tsn/flow_y_00003.png"), "flow_y_00003.png is 8x8, the first is 32x24"),
    "no picture": (garbled("v/one/frame000001.png"), "does not decode"),
}


@pytest.mark.parametrize("fault", BAD)
def test_incomplete_flow_is_refused_by_name(tmp_path, fault):
    tsn(tmp_path / "tsn", planes_of(0))
    feichtenhofer(tmp_path, "one", planes_of(1))
    change, message = BAD[fault]
    change(tmp_path)
    folder = tmp_path / ("tsn" if "flow_" in message else "u/one")
    with pytest.raises(BadVideo, match=f"the video: .*{message}"):
        prepare(TranscodeJob(folder, "the video", flow=FILES))


def test_files_that_systems_leave_among_the_videos_are_no_videos(tmp_path):
    feichtenhofer(tmp_path, "one", planes_of(0))
    for place in ("v/.DS_Store", "v/Thumbs.db", "u/desktop.ini"):
        (tmp_path / place).write_bytes(b"")
    for place in ("u/.ipynb_checkpoints", "v/.thumbnails"):
        (tmp_path / place).mkdir()
    assert flow_folders(tmp_path) == [tmp_path / "u" / "one"]


def test_suffixes_may_differ_between_the_components(tmp_path):
    planes = planes_of(0)
    feichtenhofer(tmp_path, "v_Run_g01_c01.avi", planes)
    for path in sorted((tmp_path / "v" / "v_Run_g01_c01.avi").glob("frame*.png")):
        path.rename(path.with_suffix(".PNG"))
    (folder,) = flow_folders(tmp_path)
    found = np.stack(list(read_flow(flow_pairs(folder, name="v"), name="v")))
    assert (found == planes).all()


def test_one_component_without_the_other(tmp_path):
    feichtenhofer(tmp_path / "lacks_v", "one", planes_of(0))
    for path in (tmp_path / "lacks_v" / "v" / "one").iterdir():
        path.unlink()
    (tmp_path / "lacks_v" / "v" / "one").rmdir()
    with pytest.raises(BadVideo, match="one: there is no v/one"):
        prepare(TranscodeJob(tmp_path / "lacks_v" / "u" / "one", "one", flow=FILES))
    (tmp_path / "lacks_v" / "v").rmdir()
    with pytest.raises(DataError, match="has a folder u of flow, no v. Bring both components"):
        flow_folders(tmp_path / "lacks_v")
    feichtenhofer(tmp_path / "lacks_u", "one", planes_of(0))
    (tmp_path / "lacks_u" / "v" / "two").mkdir()
    with pytest.raises(DataError, match="there is v/two, no u/two"):
        flow_folders(tmp_path / "lacks_u")


def test_classes_may_be_called_u_or_v(tmp_path):
    for number, name in enumerate("uv"):
        tsn(tmp_path / name / "one", planes_of(number))
    _, listing = read_listing(Request(tmp_path, flow_files=True))
    assert (listing.classes, len(listing.found)) == (("u", "v"), 2)


@pytest.mark.parametrize("make", [tsn, lambda folder, planes: feichtenhofer(folder.parent, "one", planes)])
def test_folders_without_classes_ask_for_a_list(tmp_path, make):
    make(tmp_path / "data" / "one", planes_of(0))
    done = run(tmp_path / "data", "-o", tmp_path / "s")
    assert done.exit_code == 3
    assert "is not in class folders. Give the dataset's lists" in " ".join(done.output.split())


def test_flow_that_is_not_named_as_such_is_pointed_at(tmp_path):
    tsn(tmp_path / "data" / "Jump" / "one", planes_of(0))
    tsn(tmp_path / "data" / "Run" / "two", planes_of(1))
    done = CliRunner().invoke(app, ["shard", str(tmp_path / "data"), "-o", str(tmp_path / "s")])
    assert done.exit_code == 3
    assert "pictures of optical flow. Say that they are, with --flow files" in " ".join(done.output.split())


def test_pictures_are_not_cut(tmp_path):
    tsn(tmp_path / "one", planes_of(0))
    entry = Entry("one", tmp_path / "one", "train", 0, "one", Cut(0.0, 1.0))
    with pytest.raises(BadVideo, match="pictures of flow have no times to cut by"):
        prepare(TranscodeJob(tmp_path / "one", entry.name, entry.cut, flow=FILES))
