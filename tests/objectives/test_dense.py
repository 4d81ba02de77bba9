"""Regression of maps: against loops over places, over processes and parts, by all kinds of teachers."""

import math

import pytest
import timm
import torch
from pairwise import make_batch, make_objective, one_step, two_processes
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.dense import DenseHead, spread_layers
from transfer3d.objectives.teacher import FrozenTeacher

DENSE = {"match": 0.0, "dense": 1.0}


def cell(place, coarse, fine):
    """Returns which of `fine` places an adaptive average covers, by PyTorch's definition."""
    return range(math.floor(place * fine / coarse), math.ceil((place + 1) * fine / coarse))


def averaged(maps_DTHW, grid, t, h, w):
    """The mean of a box of a map, over three nested loops."""
    axes = zip((t, h, w), grid, maps_DTHW.shape[1:], strict=True)
    rows, columns, depth = (list(cell(*axis)) for axis in axes)
    values = [maps_DTHW[:, a, b, c] for a in rows for b in columns for c in depth]
    return sum(values) / len(values)


def brute_force(head, frame_maps, clip_maps, weights=None):
    """The error of each clip by its definition, place by place."""
    errors = []
    for index, (taught, own) in enumerate(zip(frame_maps, clip_maps, strict=True)):
        grid = [min(taught.shape[1 + axis], own.shape[1 + axis]) for axis in range(3)]
        total, norm = 0.0, 0.0
        for t in range(grid[0]):
            for h in range(grid[1]):
                for w in range(grid[2]):
                    target_D = averaged(taught, grid, t, h, w)
                    spread = ((target_D - target_D.mean()) ** 2).mean() + 1e-5
                    target_D = (target_D - target_D.mean()) / spread.sqrt()
                    guess_D = head.weight @ averaged(own, grid, t, h, w) + head.bias
                    weight = 1.0 if weights is None else averaged(weights[index][None], grid, t, h, w)[0]
                    total, norm = total + weight * ((guess_D - target_D) ** 2).mean(), norm + weight
        errors.append(total / norm)
    return torch.stack(errors)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("taught", "own"),
    [((4, 6, 6), (2, 3, 3)), ((2, 2, 3), (4, 5, 4)), ((3, 4, 2), (3, 2, 5))],
    ids=["finer teacher", "finer student", "of both"],
)
def test_the_error_and_its_gradient(taught, own, weighted):
    torch.manual_seed(3)
    head = DenseHead([7], [5]).double()
    frame_maps = torch.randn(2, 7, *taught).double()
    clip_maps = torch.randn(2, 5, *own).double().requires_grad_()
    weights = torch.rand(2, *taught).double() if weighted else None
    expected = brute_force(head.guesses[0], frame_maps, clip_maps, weights)
    gradient = torch.autograd.grad(expected.sum(), [clip_maps, *head.parameters()])
    found = head([frame_maps], [clip_maps], weights)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    again = torch.autograd.grad(found.sum(), [clip_maps, *head.parameters()])
    for one, other in zip(again, gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_several_pairs_of_layers_count_alike():
    head = DenseHead([4, 3], [2, 6])
    frame_maps, clip_maps = ([torch.randn(2, d, 2, 3, 3) for d in dims] for dims in ((4, 3), (2, 6)))
    each = []
    for index in range(2):
        one = DenseHead([(4, 3)[index]], [(2, 6)[index]])
        one.guesses[0] = head.guesses[index]
        each.append(one([frame_maps[index]], [clip_maps[index]]))
    torch.testing.assert_close(head(frame_maps, clip_maps), (each[0] + each[1]) / 2)
    assert [spread_layers(12, n) for n in (1, 2, 3, 12)] == [[11], [5, 11], [3, 7, 11], list(range(12))]


@pytest.mark.parametrize(
    ("name", "student", "layers"),
    [
        ("test_resnet", "p3d_tiny", 1),
        ("test_vit", "vivit_tiny", 2),
        ("test_vit", "p3d_tiny", 1),
        ("test_resnet", "timesformer_tiny", 1),
    ],
)
def test_what_is_compared_are_timms_own_maps_of_each_frame(name, student, layers):
    network = create_image_model(name, "none", seed=3)
    teacher = FrozenTeacher(network)
    objective = Correspondence(
        teacher, create_model(student, num_classes=0, seed=1),
        CorrespondenceConfig(**DENSE, dense_layers=layers, teacher_frames=3),
    ).eval()  # fmt: skip
    clip = objective.clip
    torch.manual_seed(0)
    clips = torch.randint(0, 256, (2, 3, clip.frames, clip.size, clip.size), dtype=torch.uint8)
    batch = ClipBatch(clips, torch.full((2,), -1), ["a", "b"], ["a", "b"])
    report = objective(batch)
    chosen = [(2 * section + 1) * clip.frames // 6 for section in range(3)]
    taught = teacher(clips[:, :, chosen], objective._frame_layers)
    for b in range(2):
        for number, t in enumerate(chosen):
            frame = teacher._resize(
                ((clips[b, :, t] / 255 - torch.tensor(teacher.mean)[:, None, None])
                 / torch.tensor(teacher.std)[:, None, None])[None]
            )  # fmt: skip
            with torch.no_grad():
                _, expected = network.forward_intermediates(frame, indices=objective._frame_layers, norm=True)
            for maps, own in zip(taught.maps, expected, strict=True):
                torch.testing.assert_close(maps[b, :, number], own[0], rtol=1e-3, atol=1e-4)
    assert report.total.item() == pytest.approx(report.parts["loss"].item())
    report.total.backward()
    silent = [name for name, p in objective.named_parameters() if p.grad is None]
    assert not silent


@pytest.mark.parametrize("name", ["test_vit", "eva02_tiny_patch14_224"])
def test_places_count_as_the_class_token_looks_at_them(name):
    """The softmax of the last block from its own queries and keys; the output stays what it was."""
    options = {"img_size": 56, "depth": 2} if name.startswith("eva") else {}
    network = timm.create_model(name, **options).eval()
    teacher = FrozenTeacher(network)
    clips = torch.randint(0, 256, (2, 3, 2, 56, 56), dtype=torch.uint8)
    plain = teacher(clips)
    found = teacher(clips, [len(teacher.layer_features) - 1], attention=True)
    torch.testing.assert_close(found.features, plain.features, rtol=1e-4, atol=1e-5)
    assert found.attention.shape == (2, 2, *found.maps[0].shape[-2:])
    sums = found.attention.flatten(2).sum(-1)
    assert ((sums > 0) & (sums < 1)).all()  # the rest is on the prefix
    if name == "test_vit":
        seen = {}
        attn = network.blocks[-1].attn
        handle = attn.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
        teacher(clips)
        handle.remove()
        x = seen["x"]
        q, k, _ = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).unbind(2)
        scores = torch.einsum("nhd,nlhd->nhl", attn.q_norm(q)[:, 0], attn.k_norm(k)) * attn.scale
        expected = scores.softmax(-1).mean(1)[:, network.num_prefix_tokens :]
        torch.testing.assert_close(found.attention.flatten(0, 1).flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_compared_is_refused():
    student = create_model("p3d_tiny", num_classes=0, seed=1)
    resnet = FrozenTeacher(create_image_model("test_resnet", "none", seed=3))
    with pytest.raises(UsageError, match="with a class token"):
        Correspondence(resnet, student, CorrespondenceConfig(**DENSE, dense_weights="class"))
    with pytest.raises(UsageError, match="dense_layers=9: student and teacher have"):
        Correspondence(resnet, student, CorrespondenceConfig(**DENSE, dense_layers=9))
    with pytest.raises(UsageError, match="has no feature maps"):
        Correspondence(resnet, nn.Flatten(), CorrespondenceConfig(**DENSE), clip=student.clip, num_features=4)
    with pytest.raises(ValueError, match="a cache has no feature maps"):
        CorrespondenceConfig(**DENSE, cache="x", teacher_view="centre")


def test_a_video_teacher_teaches_its_maps():
    teacher = FrozenTeacher(create_model("p3d_tiny", num_classes=0, seed=4))
    student = create_model("p3d_tiny", num_classes=0, seed=1)
    objective = Correspondence(teacher, student, CorrespondenceConfig(**DENSE)).eval()
    batch = make_batch()[:2]
    report = objective(batch)
    maps = [net.forward_features(batch.clips) for net in (teacher.network, student)]
    expected = brute_force(objective.dense.guesses[0], *maps).mean()
    torch.testing.assert_close(report.total, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [DENSE, {"match": 1.0, "dense": 0.5, "dense_layers": 2}])
def test_parts_make_the_step_of_the_whole(config):
    whole, parts = one_step(config), one_step(config, parts=2)
    _same(parts, whole)


@pytest.mark.proc
def test_processes_make_the_step_of_the_whole(tmp_path):
    config = {"match": 1.0, "dense": 0.5}
    whole = one_step(config)
    for parts in (1, 2):
        for found in two_processes(config, tmp_path, parts=parts):
            _same(found, whole)


def _same(found, whole):
    torch.testing.assert_close(found["loss"], whole["loss"], rtol=1e-5, atol=1e-5)
    assert found["gradients"].keys() == whole["gradients"].keys()
    largest = max(float(gradient.abs().max()) for gradient in whole["gradients"].values())
    for name, gradient in whole["gradients"].items():
        assert float((found["gradients"][name] - gradient).abs().max()) < 5e-5 * largest, name


def test_nothing_changes_without_it():
    """The weights that are drawn, and the names that are saved."""
    before = make_objective({"feature": 1.0}).state_dict()
    after = make_objective({"feature": 1.0, "dense": 1.0}).state_dict()
    assert {name for name in after if name not in before} == {
        "dense.guesses.0.weight",
        "dense.guesses.0.bias",
    }
    assert all(value.equal(after[name]) for name, value in before.items())
