"""Drawing a class: its logit climbs, frames stay alike, and a seed draws one clip."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data.decode import Video
from transfer3d.errors import NonFiniteError, UsageError
from transfer3d.insight.deepdraw import DrawConfig, blur, draw
from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise

QUICK = {"steps": 25}


def make(name="p3d_tiny"):
    student = transfer3d.create_model(name, num_classes=4, seed=1).eval()
    student.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    return student


class Pixels(nn.Module):
    """A trunk whose feature maps are the clip itself."""

    num_features = 3

    def forward(self, clips, units=1):
        return clips


def colour_student(units):
    """Red, green and blue are its classes, and nothing else."""
    clip = ClipSpec(frames=4, size=16, crop=16, units=units, mean=(0.5,) * 3, std=(0.5,) * 3)
    student = VideoStudent(Pixels(), num_classes=3, clip=clip, model_name="colours", model_args={})
    student.head.weight.data = 8 * torch.eye(3)
    return student


def logits_of(student, clip_u8):
    with torch.no_grad():
        return student(normalise(clip_u8[None], student.clip.mean, student.clip.std))[0]


@pytest.mark.parametrize("units", [1, 4])
def test_what_is_drawn_for_red_is_red(units):
    drawing = draw(colour_student(units), 0, DrawConfig(steps=60))
    assert drawing.clip_u8.shape == ((4, 3, 4, 16, 16) if units > 1 else (3, 4, 16, 16))
    red, green, blue = drawing.clip_u8.float().mean((0, 2, 3, 4) if units > 1 else (1, 2, 3)) / 255
    assert red > 0.9
    assert max(green, blue) < 0.1
    assert drawing.scores[0] == pytest.approx(1 / 3, abs=0.02)
    assert drawing.scores[1] > 0.99


@pytest.mark.parametrize("name", ["p3d_tiny", "t3d_tiny", "v4d_tiny"])
def test_the_class_climbs_far_above_noise(name):
    student = make(name)
    noises = [draw(student, 0, DrawConfig(steps=1, seed=seed)).noise_u8 for seed in range(4)]
    scores_NK = torch.stack([logits_of(student, noise).softmax(-1) for noise in noises])
    worst = int(scores_NK[0].argmin())
    drawing = draw(student, worst, DrawConfig(**QUICK))
    before, after = (logits_of(student, clip) for clip in (drawing.noise_u8, drawing.clip_u8))
    assert drawing.logits == pytest.approx((before[worst].item(), after[worst].item()), rel=1e-4, abs=1e-5)
    assert drawing.scores == pytest.approx([x.softmax(-1)[worst].item() for x in (before, after)], rel=1e-4)
    assert drawing.logits[1] > drawing.logits[0]
    assert drawing.scores[1] > 2 * scores_NK[:, worst].max()


def test_the_first_step_follows_the_gradient_of_the_log_odds():
    student = make()
    noise = draw(student, 2, DrawConfig(steps=1)).noise_u8
    config = DrawConfig(steps=1, step_size=0.1, smooth_time=0, smooth_space=0, jitter=0)
    moved = (draw(student, 2, config).clip_u8.double() - noise) / 255
    pixels = (noise / 255).requires_grad_()
    logits = student(((pixels - 0.5) / 0.5)[None])[0]
    (logits[2] - (logits[[0, 1, 3]].exp().sum()).log()).backward()
    expected = (noise / 255 + 0.1 * pixels.grad / pixels.grad.abs().mean()).clamp(0, 1) - noise / 255
    assert np.corrcoef(moved.flatten(), expected.flatten())[0, 1] > 0.99  # the noise was rounded
    assert (moved - expected).abs().median() < 0.01


def drawn_to_neighbours(pixels, axis, share):
    """By numpy; pixels at the end have themselves for a neighbour."""
    edges = [(1, 1) if i == axis + pixels.ndim else (0, 0) for i in range(pixels.ndim)]
    kernel = np.array([share / 2, 1 - share, share / 2])
    return np.apply_along_axis(np.convolve, axis, np.pad(pixels, edges, mode="edge"), kernel, mode="valid")


def test_the_first_step_blurs_time_rows_and_columns_each_by_its_share():
    student = make()
    bare = draw(student, 2, DrawConfig(steps=1, step_size=0.02, smooth_time=0, smooth_space=0))
    drawn = draw(student, 2, DrawConfig(steps=1, step_size=0.02, smooth_time=0.2, smooth_space=0.6)).clip_u8
    expected = bare.clip_u8.double().numpy() / 255
    for axis, share in ((-3, 0.2), (-2, 0.6), (-1, 0.6)):
        expected = drawn_to_neighbours(expected, axis, share)
    np.testing.assert_allclose(drawn / 255, expected, atol=2 / 255)


def roughness(clip_u8, axis):
    return ((clip_u8.double() / 255).diff(dim=axis) ** 2).mean().item()


@pytest.mark.parametrize("name, axis", [("smooth_time", -3), ("smooth_space", -2), ("smooth_space", -1)])
def test_neighbours_are_more_alike_with_the_blur_than_without(name, axis):
    student = make()
    alone, drawn = (draw(student, 1, DrawConfig(**QUICK, **{name: share})).clip_u8 for share in (0.0, 0.5))
    assert roughness(drawn, axis) < roughness(alone, axis) / 3


@pytest.mark.parametrize("jitter", [0, 0.25])
def test_the_picture_is_shifted_both_ways_by_up_to_a_share_of_its_side(jitter):
    student, seen = colour_student(1), []
    student.trunk.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()[0]))
    shifts = []
    for seed in range(40):
        noise = draw(student, 0, DrawConfig(steps=1, seed=seed, jitter=jitter)).noise_u8
        first, still = seen[-3], seen[-2]  # then noise and drawing are judged
        assert torch.equal(still, normalise(noise[None], student.clip.mean, student.clip.std)[0])
        places = [(y, x) for y in range(-8, 8) for x in range(-8, 8)]
        near = [place for place in places if torch.allclose(still.roll(place, (-2, -1)), first, atol=1e-5)]
        assert len(near) == 1
        shifts += near
    reach = round(16 * jitter)
    for way in zip(*shifts, strict=True):
        assert (min(way), max(way)) == (-reach, reach)


def test_blur_draws_each_pixel_to_the_mean_of_its_neighbours():
    pixels = np.random.default_rng(0).random((3, 4, 5, 6))
    for axis in (-3, -2, -1):
        expected = drawn_to_neighbours(pixels, axis, 0.3)
        np.testing.assert_allclose(blur(torch.from_numpy(pixels), axis, 0.3), expected)
    single = torch.rand(3, 1, 5, 6)
    assert torch.equal(blur(single, -3, 0.5), single)


def test_one_seed_draws_one_clip_and_the_student_stays_as_it_was():
    student = make().train()
    weights = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    first, again, other = (draw(student, 0, DrawConfig(steps=5, seed=seed)).clip_u8 for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert student.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_wrong_values_and_weights_are_refused():
    student = make()
    with pytest.raises(UsageError, match="no class 4"):
        draw(student, 4, DrawConfig())
    with pytest.raises(UsageError, match=r"step_size=0.0: must be above 0"):
        DrawConfig(step_size=0.0)
    with pytest.raises(UsageError, match="smooth_time=1.5: give a number from 0 to 1"):
        DrawConfig(smooth_time=1.5)
    alone = transfer3d.create_model("p3d_tiny", num_classes=1)
    with pytest.raises(UsageError, match="needs at least two"):
        draw(alone, 0, DrawConfig())
    student.head.weight.data[0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match="step 0"):
        draw(student, 0, DrawConfig(steps=3))


@pytest.fixture
def checkpoint(tmp_path):
    transfer3d.save(make(), tmp_path / "s.safetensors", class_names=["run", "walk", "sit", "tai chi"])
    return tmp_path / "s.safetensors"


def command(*arguments):
    return CliRunner().invoke(app, ["deepdraw", *map(str, arguments)])


def test_the_command_writes_a_moving_picture_and_a_strip(checkpoint, tmp_path):
    options = ("--class", "tai chi", "--steps", 10, "--json")
    facts = {}
    for name in ("a.gif", "b.gif", "c.mp4"):
        done = command(checkpoint, *options, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
        facts[name] = json.loads(done.stdout)
    assert facts["a.gif"]["score"] == facts["c.mp4"]["score"]
    assert facts["a.gif"]["logit"]["drawing"] > facts["a.gif"]["logit"]["noise"]
    for kind in ("gif", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 8
    with Video(tmp_path / "c.mp4") as video:
        assert video.frames == 8
    text = command(checkpoint, *options[:-1], "-o", tmp_path / "d.gif").stdout
    assert f"wrote {tmp_path / 'd.gif'} and {tmp_path / 'd.png'}" in text


def test_the_command_gives_its_process_group_back(checkpoint, tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(Accelerator, "end_training", lambda accelerator: ended.append(accelerator))
    done = command(checkpoint, "--class", "run", "--steps", 1, "-o", tmp_path / "a.gif")
    assert done.exit_code == 0, done.output
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--class", "tai-chi", "-o", "a.gif"], 2, "did you mean 'tai chi'"),
        (["--class", "run", "-o", "a.png"], 2, "a.png: moving pictures are .gif or .mp4"),
        (["--class", "run", "-o", "."], 2, "is a folder"),
        (["--class", "run", "--steps", "0"], 2, "--steps"),
    ],
)
def test_the_command_says_what_is_wrong(checkpoint, options, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command(checkpoint, *options)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_weights_that_are_not_finite_end_with_their_code_and_no_picture(checkpoint, tmp_path):
    student = transfer3d.load(checkpoint)
    student.head.bias.data[1] = torch.nan
    transfer3d.save(student, checkpoint, class_names=["run", "walk", "sit", "tai chi"])
    done = command(checkpoint, "--class", "run", "-o", tmp_path / "a.gif")
    assert done.exit_code == 6, done.output
    assert "error:" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]
