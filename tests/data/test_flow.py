"""Optical flow: right where the motion is known, stored without loss, mirrored as a mirror does."""

import json

import numpy as np
import pytest
import torch
from media import encode
from PIL import Image
from rich.console import Console
from scipy.ndimage import gaussian_filter
from torchvision.transforms import v2
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.data.augment import AugmentConfig, crop_frames, evaluation_transform, training_transform
from transfer3d.data.clips import views_of_video
from transfer3d.data.crops import mirror
from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.data.decode import Video
from transfer3d.data.flow import FlowFormat, flow_planes, quantise
from transfer3d.data.isolated import Limits
from transfer3d.data.sharding import ShardConfig, claim_folder, plan_shards, write_planned
from transfer3d.data.source import open_videos
from transfer3d.data.transcode import encode_flow
from transfer3d.data.views import ViewPlan
from transfer3d.errors import UsageError
from transfer3d.layout import FLOW_MEAN, FLOW_STD, ClipSpec
from transfer3d.progress import Meter

HEIGHT, WIDTH, EDGE = 64, 80, 12
HALF_STEP = 20 / 255
TOLERANCE = 0.2
"""Pixels; of which the rounding to 8 bits is `HALF_STEP`."""
CLIP = ClipSpec(frames=2, size=16, crop=20, mean=(FLOW_MEAN,) * 2, std=(FLOW_STD,) * 2)
DIS = FlowFormat(algorithm="dis")


@pytest.fixture(scope="module")
def texture():
    noise = gaussian_filter(np.random.default_rng(0).random((2 * HEIGHT, 2 * WIDTH)), 2)
    return (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def moving(texture, right, down, frames=3):
    """Frames [T, H, W, 3] of a texture that moves by so many pixels from each to the next."""
    top, left = HEIGHT // 2, WIDTH // 2
    cuts = [
        texture[top - i * down : top - i * down + HEIGHT, left - i * right : left - i * right + WIDTH]
        for i in range(frames)
    ]
    return np.repeat(np.stack(cuts)[..., None], 3, axis=-1)


def dequantised(planes, bound=20.0):
    """Flow in pixels per frame, with an error of half a step."""
    return np.asarray(planes, dtype=np.float32) * (2 * bound / 255) - bound


def inside(planes):
    return dequantised(planes)[..., EDGE:-EDGE, EDGE:-EDGE, :]


@pytest.mark.parametrize("algorithm", ["tvl1", "dis"])
@pytest.mark.parametrize("vector", [(0, 0), (3, -2), (-5, 1)], ids=str)
def test_a_translated_image_gives_its_vector(texture, algorithm, vector):
    flow = FlowFormat(algorithm=algorithm)
    (planes,) = flow_planes(moving(texture, *vector, frames=2), flow, name="x")
    assert np.abs(inside(planes) - vector).max() < TOLERANCE


def test_values_are_clipped_at_the_bound_and_off_by_at_most_half_a_step():
    values = np.linspace(-30, 30, 999, dtype=np.float32)
    flow = np.stack([values, -values], axis=-1)
    planes = quantise(flow, 20)
    assert (planes[0].tolist(), planes[-1].tolist()) == ([0, 255], [255, 0])
    assert np.abs(dequantised(planes) - flow.clip(-20, 20)).max() <= HALF_STEP * 1.001
    assert quantise(np.zeros((1, 2), np.float32), 20).tolist() == [[128, 128]]


@pytest.mark.parametrize("size", [(48, 64), (47, 63)], ids=str)
def test_stored_planes_come_back_bit_by_bit(size):
    planes = np.random.default_rng(0).integers(0, 256, (14, *size, 2), np.uint8)
    encoded, count = encode_flow(planes, np.arange(14) / 25)
    assert count == 14
    with Video(encoded, channels=2) as video:
        assert (video.read(np.array([13, 0, 5])) == planes[[13, 0, 5]]).all()
        assert np.array_equal(list(video.stream()), planes)
        assert video.fps == pytest.approx(25)


def test_what_scales_flow_keeps_its_values():
    planes = np.broadcast_to(np.array([40, 200], np.uint8), (2, 48, 64, 2))
    with Video(encode_flow(planes, [0, 0.04])[0], channels=2) as video:
        small = video.read(np.array([0]), short_side=24)
    assert small.shape == (1, 24, 32, 2)
    assert np.unique(small.reshape(-1, 2), axis=0).tolist() == [[40, 200]]


def test_a_mirrored_clip_has_the_flow_of_the_mirrored_video(texture):
    frames = moving(texture, 4, 1)
    (planes, _), (mirrored, _) = (
        list(flow_planes(clip, DIS, name="x")) for clip in (frames, frames[:, :, ::-1].copy())
    )
    ours = mirror(torch.from_numpy(planes).permute(2, 0, 1)).permute(1, 2, 0)
    assert np.abs(inside(ours) - inside(mirrored)).max() < TOLERANCE
    assert inside(ours)[..., 0].mean() == pytest.approx(-4, abs=TOLERANCE)


@pytest.mark.parametrize("crops", [1, 10])
def test_a_reversed_clip_has_the_flow_of_the_reversed_video(texture, crops):
    frames = moving(texture, 3, -2, frames=5)
    clip = ClipSpec(frames=4, size=HEIGHT, crop=HEIGHT, mean=CLIP.mean, std=CLIP.std)

    def views(frames, *orders):
        video = encode_flow(flow_planes(frames, DIS, name="x"), np.arange(4) / 25)[0]
        plan = ViewPlan(crops=crops, orders=orders)
        clips = views_of_video(video, clip, plan, name="x").clips()
        return torch.stack(clips.chunk(len(orders))).movedim(2, -1)[..., EDGE:-EDGE, EDGE:-EDGE, :]

    forward, reversed_, still = views(frames, "forward", "frames_reversed", "still")
    (expected,) = views(frames[::-1], "forward")
    assert np.abs(dequantised(reversed_) - dequantised(expected)).max() < TOLERANCE
    assert (reversed_ == 255 - forward.flip(1)).all()
    assert np.abs(dequantised(still)[0] - (3, -2)).max() < TOLERANCE  # one motion, for the whole clip


def test_training_clips_are_mirrored_so_and_ten_crops_too():
    x, y = 30, 90
    frames = np.broadcast_to(np.array([x, y], np.uint8), (2, 24, 32, 2)).copy()
    both, mirrored = [x, y], [255 - x, y]
    train = training_transform(CLIP, AugmentConfig())
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    seen = {tuple(train(video, 0)[0][0, :, 3, 3].tolist()) for _ in range(20)}
    assert seen == {tuple(both), tuple(mirrored)}
    crops = crop_frames(evaluation_transform(CLIP, 10), frames)
    assert [crop[0, :, 3, 3].tolist() for crop in crops] == [both] * 5 + [mirrored] * 5
    assert len(crop_frames(evaluation_transform(CLIP, 3), frames)) == 3


def test_flip_pairs_of_flow_change_label_and_x():
    config = AugmentConfig(flip_pairs=(("left", "right"),))
    transform = training_transform(CLIP, config, ["left", "right"])
    video = torch.full((2, 2, 24, 32), 10, dtype=torch.uint8)
    drawn = (transform(video, (0,)) for _ in range(20))
    assert {(int(clip[0, 0, 0, 0]), labels) for clip, labels in drawn} == {(10, (0,)), (245, (1,))}


@pytest.mark.parametrize("option", [{"colour": 0.5}, {"rand_augment": 2}], ids=str)
def test_colours_of_flow_are_not_varied(option):
    with pytest.raises(UsageError, match="changes colours, which optical flow has not"):
        training_transform(CLIP, AugmentConfig(**option))
    assert isinstance(training_transform(ClipSpec(frames=2, size=16), AugmentConfig(**option)), v2.Transform)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error(done):
    """The message of a command that refuses."""
    assert "Traceback" not in done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def videos(tmp_path_factory, texture):
    """Class folders of lossless videos, whose motions are their names."""
    root = tmp_path_factory.mktemp("videos")
    for right, down in ((2, 0), (-3, 1), (0, 4)):
        for name in ("one", "two"):
            path = root / f"{right}_{down}" / f"{name}.mp4"
            path.parent.mkdir(exist_ok=True)
            frames = moving(texture[:: 1 if name == "one" else -1], right, down, frames=5)
            path.write_bytes(encode(frames, codec="libx264rgb", pix_fmt="rgb24", qp=0))
    return root


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("flow") / "shards"
    done = run("shard", videos, "-o", out, "--flow", "dis", "--per-shard", 2)
    assert done.exit_code == 0, done.output
    assert "videos of optical flow (dis, +-20 pixels)" in error(done)
    return out


def test_shards_hold_the_flow_of_every_video_and_say_how_it_was_made(shards):
    flow = open_videos(shards)
    assert (flow.flow, flow.channels) == (DIS, 2)
    for index, label in enumerate(flow.labels):
        with Video(flow.open(index), channels=2) as video:
            planes = video.read(np.arange(4))
        assert video.frames == flow.frame_counts[index] == 4
        vector = [int(number) for number in flow.classes[label].split("_")]
        assert np.abs(inside(planes) - vector).max() < TOLERANCE
    index = json.loads((shards / "index.json").read_text())
    assert index["flow"] == {"algorithm": "dis", "bound": 20.0, "short_side": None}
    text = (shards / index["shards"][0]["file"]).read_bytes()
    assert b'"flow": {"algorithm": "dis", "bound": 20.0, "short_side": null}' in text


class Interrupting(Meter):
    """Ends the run at the fourth video, as Ctrl-C does."""

    def __init__(self):
        super().__init__(Console(quiet=True), "", 1, None)
        self.left = 3

    def update(self, advance=1, note=""):
        self.left -= advance
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_continues_and_another_flow_is_another_plan(shards, videos, tmp_path):
    plan = plan_shards(read_listing(Request(videos))[1], ShardConfig(name=videos.name, flow=DIS, per_shard=2))
    claim_folder(tmp_path / "s", plan)
    with pytest.raises(KeyboardInterrupt):
        write_planned(tmp_path / "s", plan, Interrupting(), workers=1, limits=Limits())
    assert len(list((tmp_path / "s").glob("*.tar"))) == 1
    done = run("shard", videos, "-o", tmp_path / "s", "--flow", "dis", "--per-shard", 2)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in shards.glob("*.tar"))
    assert len(names) == 3
    assert all((tmp_path / "s" / name).read_bytes() == (shards / name).read_bytes() for name in names)
    other = run("shard", videos, "-o", tmp_path / "s", "--flow", "dis", "--flow-bound", 10, "--per-shard", 2)
    assert other.exit_code == 2
    assert "holds shards of other videos or options" in error(other)


def test_shards_of_frames_are_written_as_before(videos, tmp_path):
    assert run("shard", videos, "-o", tmp_path / "s").exit_code == 0
    assert "flow" not in json.loads((tmp_path / "s" / "index.json").read_text())
    assert "flow" not in json.loads((tmp_path / "s" / "plan.json").read_text())
    assert open_videos(tmp_path / "s").channels == 3


@pytest.mark.parametrize(
    "options, code, message",
    [
        (["--flow", "farneback"], 2, "is not one of"),
        (["--flow-bound", 10], 2, "--flow-bound needs --flow"),
        (["--flow", "dis", "--flow-bound", "nan"], 2, "--flow-bound nan:"),
        (["--flow", "dis", "--flow-bound", 0], 2, "--flow-bound 0.0: input should be greater than 0"),
        (["--flow", "dis", "--gop", 12], 2, "--gop is not supported with --flow"),
        (["--flow", "files", "--short-side", 32], 2, "--flow files keeps the images' size"),
        (["--flow", "files"], 3, "Name the right folder"),
    ],
)
def test_options_that_cannot_be(videos, tmp_path, options, code, message):
    done = run("shard", videos, "-o", tmp_path / "s", *options)
    assert done.exit_code == code, done.output
    assert message in error(done)
    assert not (tmp_path / "s").exists()


def test_a_missing_extra_is_one_sentence(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    done = run("shard", videos, "-o", tmp_path / "s", "--flow", "tvl1")
    assert done.exit_code == 5
    assert "Optical flow needs OpenCV: install it with `pip install 'transfer3d[flow]'`." in error(done)
    assert not (tmp_path / "s").exists()


def test_a_video_of_one_frame_has_no_flow(texture, tmp_path):
    for name, frames in (("a/short", 1), ("a/long", 4), ("b/long", 3)):
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(moving(texture, 1, 1, frames)))
    done = run("shard", tmp_path / "videos", "-o", tmp_path / "s", "--flow", "dis", "--max-bad-fraction", 0.5)
    assert done.exit_code == 0, done.output
    assert "a/short.mp4: one frame has no flow" in error(done)


def test_frame_folders_get_their_flow(tmp_path, texture):
    from miniatures import note

    prefix = tmp_path / "something-something-v1-"
    note(tmp_path / f"{prefix.name}labels.csv", "Moving", "Resting")
    note(tmp_path / f"{prefix.name}train.csv", "1;Moving", "2;Resting")
    for number, right in ((1, 2), (2, 0)):
        (tmp_path / "frames" / str(number)).mkdir(parents=True)
        for i, pixels in enumerate(moving(texture, right, 0)):
            Image.fromarray(pixels).save(tmp_path / "frames" / str(number) / f"{i:05d}.png")
    done = run("shard", tmp_path, "-o", tmp_path / "s", "--flow", "dis")
    assert done.exit_code == 0, done.output
    flow = open_videos(tmp_path / "s")
    for index, label in enumerate(flow.labels):
        with Video(flow.open(index), channels=2) as video:
            assert inside(video.read(np.array([1])))[..., 0].mean() == pytest.approx(2 - 2 * label, abs=0.1)
