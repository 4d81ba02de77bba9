"""A teacher that is frozen by its type."""

import copy

import pytest
import timm
import torch
from batch_norms import train_norms
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms.v2.functional import resize

from transfer3d.batch import ClipBatch
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model, image_model_info
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.frames import distinct_frames, spread_frames
from transfer3d.objectives.teacher import FrozenTeacher


def batch_of(count, frames=8):
    torch.manual_seed(count)
    clips = torch.randint(0, 256, (count, 3, frames, 32, 32), dtype=torch.uint8)
    names = [str(i) for i in range(count)]
    return ClipBatch(clips, torch.zeros(count, dtype=torch.long), names, names)


@pytest.fixture
def teacher():
    return FrozenTeacher(create_image_model("test_resnet", "none", seed=3))


def test_features_are_the_average_over_frames_of_timms_own(teacher):
    batch = batch_of(2, frames=3)
    features_BD = teacher(batch.clips).features
    network = teacher.network.eval()
    cfg = timm.get_pretrained_cfg("test_resnet")
    assert cfg is not None
    for clip, found in zip(batch.clips, features_BD, strict=True):
        each = []
        for t in range(3):
            frame = clip[:, t].float() / 255 - torch.tensor(cfg.mean)[:, None, None]
            frame = frame / torch.tensor(cfg.std)[:, None, None]
            each.append(network.forward_head(network.forward_features(frame[None]), pre_logits=True)[0])
        torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-5)


def test_a_vit_of_one_size_sees_frames_of_that_size():
    network = create_image_model("test_vit", "none", num_classes=4, seed=3)
    teacher = FrozenTeacher(network)
    batch = batch_of(2, frames=3)
    teacher.check(ClipSpec(frames=3, stride=1, size=32, crop=32))
    output = teacher(batch.clips)
    facts = image_model_info(network)
    for clip, features_D, logits_K in zip(batch.clips, output.features, output.logits, strict=True):
        frames = clip.movedim(1, 0).float() / 255
        large = resize(frames, [160, 160], antialias=True)
        seen = (large - torch.tensor(facts.mean)[:, None, None]) / torch.tensor(facts.std)[:, None, None]
        maps = network.forward_features(seen)
        pooled = network.forward_head(maps, pre_logits=True)
        torch.testing.assert_close(features_D, pooled.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits_K, network.forward_head(maps).mean(0), rtol=1e-4, atol=1e-5)
    exact = torch.randint(0, 256, (1, 3, 1, 160, 160), dtype=torch.uint8)
    assert teacher(exact).features.shape == (1, facts.num_features)


def test_units_of_a_video_are_averaged_too(teacher):
    batch = batch_of(2, frames=4)
    units = batch.clips.unflatten(2, (2, 2)).movedim(2, 1)  # B U C T H W
    torch.testing.assert_close(teacher(units).features, teacher(batch.clips).features, rtol=1e-4, atol=1e-5)


def test_no_parameter_has_a_gradient_and_outputs_are_detached():
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5, seed=3))
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    output = teacher(batch_of(2).clips)
    assert not output.features.requires_grad
    assert not output.logits.requires_grad


def test_what_holds_a_teacher_has_none_of_its_parameters_and_state(teacher):
    holder = nn.ModuleDict({"teacher": teacher})
    for module in (teacher, holder):
        assert not list(module.parameters())
        assert not list(module.buffers())
        assert not module.state_dict()


def test_a_teacher_survives_a_copy_and_a_move_of_what_holds_it(teacher):
    clips = batch_of(2).clips
    before, digest = teacher(clips).features, teacher.digest()
    holder = nn.ModuleDict({"teacher": teacher, "student": nn.Linear(2, 2)})
    twin = copy.deepcopy(holder)
    assert twin["student"] is not holder["student"]
    assert twin["teacher"].digest() == digest
    assert torch.equal(twin["teacher"](clips).features, before)
    holder.to(torch.float64)
    assert {parameter.dtype for parameter in teacher.network.parameters()} == {torch.float64}
    holder.to("meta")
    assert {parameter.device.type for parameter in teacher.network.parameters()} == {"meta"}


def test_eval_mode_survives_train(teacher):
    nn.ModuleDict({"teacher": teacher}).train()
    assert not teacher.training
    assert not any(module.training for module in teacher.network.modules())


def test_training_moves_the_student_and_leaves_the_teacher_bit_equal(teacher):
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    digest = teacher.digest()
    objective = Correspondence(teacher, create_model("p3d_tiny", num_classes=0))
    assert not any("teacher" in name for name in objective.state_dict())
    weights = [parameter.clone() for parameter in objective.parameters()]
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    for _ in range(2):
        objective.train()(batch_of(4)).total.backward()
        optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.network.state_dict().items())
    assert teacher.digest() == digest
    moved = [not torch.equal(a, b) for a, b in zip(weights, objective.parameters(), strict=True)]
    assert all(moved)


def test_the_digest_sees_one_changed_value(teacher):
    digest = teacher.digest()
    with torch.no_grad():
        next(teacher.network.buffers()).view(-1)[0] += 1e-3
    assert teacher.digest() != digest


@pytest.mark.parametrize(
    ("frames", "seen"), [(1, [4]), (2, [2, 6]), (4, [1, 3, 5, 7]), (8, range(8)), (3, [1, 4, 6])]
)
def test_the_frames_that_a_teacher_sees_are_evenly_spread(frames, seen):
    clips = torch.arange(8).reshape(1, 1, 1, 8, 1, 1).expand(2, 3, 3, 8, 4, 4)
    assert spread_frames(clips, frames)[0, 0, 0, :, 0, 0].tolist() == list(seen)
    assert spread_frames(clips[:, 0], frames).shape == (2, 3, frames, 4, 4)
    assert spread_frames(clips, None) is clips


def test_fewer_frames_are_those_of_a_shorter_clip(teacher):
    student = create_model("p3d_tiny", num_classes=0)
    batch = batch_of(3)
    few = Correspondence(teacher, student, CorrespondenceConfig(teacher_frames=2)).embed(batch)
    expected = teacher(batch.clips[:, :, [2, 6]]).features
    assert torch.equal(few.teacher_features, expected)
    every = Correspondence(teacher, student, CorrespondenceConfig(teacher_frames=8)).embed(batch)
    assert torch.equal(every.teacher_features, teacher(batch.clips).features)


def test_frames_that_cannot_be_chosen_are_refused(teacher):
    student, config = create_model("p3d_tiny", num_classes=0), CorrespondenceConfig(teacher_frames=9)
    with pytest.raises(UsageError, match="teacher_frames=9: the student's clip has 8"):
        Correspondence(teacher, student, config)
    with pytest.raises(UsageError, match="p3d_tiny is a video model and needs whole clips"):
        Correspondence(FrozenTeacher(student), student, CorrespondenceConfig(teacher_frames=1))


@pytest.mark.parametrize(("crop", "expected"), [(32, 160), (40, 200), ((40, 60), (200, 300))])
def test_its_own_view_shows_as_much_of_a_frame_in_the_pixels_it_was_trained_on(teacher, crop, expected):
    own = teacher.own_view(ClipSpec(frames=4, stride=3, size=32, crop=crop))
    assert (own.size, own.crop, own.frames, own.stride) == (160, expected, 4, 3)


def repeated_frames(clips_u8):
    """Clips in which frames recur: within one, as of a short video, and in two of one video."""
    clips_u8 = clips_u8.clone()
    clips_u8[0, :, 2:] = clips_u8[0, :, 1:2]
    clips_u8[1, :, 0] = clips_u8[0, :, 0]
    return clips_u8


def test_frames_that_recur_are_looked_at_once():
    network, seen = create_image_model("test_vit", "none", num_classes=0, seed=3), []
    network.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    teacher = FrozenTeacher(network)
    clips_u8 = repeated_frames(batch_of(2, frames=4).clips)
    output = teacher(clips_u8)
    assert seen == [2 + 3]
    for clip, features_D in zip(clips_u8, output.features, strict=True):
        alone = torch.stack([teacher(clip[None, :, [t]]).features[0] for t in range(4)])
        torch.testing.assert_close(features_D, alone.mean(0), rtol=1e-4, atol=1e-5)


def test_distinct_frames_and_their_places():
    frames = torch.tensor([3, 1, 3, 3, 2, 1], dtype=torch.uint8)[:, None, None, None].expand(6, 3, 4, 4)
    distinct, index = distinct_frames(frames)
    assert distinct[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert torch.equal(distinct[index], frames)
    assert distinct_frames(distinct) == (distinct, None)


def test_maps_and_attention_of_frames_that_recur_are_those_of_each():
    network = create_image_model("test_vit", "none", seed=3)
    teacher = FrozenTeacher(network)
    clips_u8 = repeated_frames(batch_of(2, frames=3).clips)
    output = teacher(clips_u8, [0], attention=True)
    for clip in range(2):
        for t in range(3):
            alone = teacher(clips_u8[[clip]][:, :, [t]], [0], attention=True)
            torch.testing.assert_close(
                output.maps[0][clip, :, t], alone.maps[0][0, :, 0], rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(output.attention[clip, t], alone.attention[0, 0], rtol=1e-4, atol=1e-6)


def test_class_scores_are_computed_where_they_are_asked_for():
    network, calls = create_image_model("test_vit", "none", num_classes=5, seed=3), []
    network.head.register_forward_hook(lambda *_: calls.append(1))
    teacher, batch = FrozenTeacher(network), batch_of(2)
    assert teacher(batch.clips, logits=False).logits is None
    Correspondence(teacher, create_model("p3d_tiny", num_classes=0)).embed(batch)
    assert not calls
    assert teacher(batch.clips).logits.shape == (2, 5)
    student = create_model("p3d_tiny", num_classes=5)
    embeddings = Correspondence(teacher, student, CorrespondenceConfig(kd=1.0)).embed(batch)
    assert embeddings.teacher_logits.shape == (2, 5)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["image", "video"])
def test_it_computes_with_folded_norms_and_sees_changed_weights(kind):
    """A network of images, and a student as a teacher, against themselves as they are."""
    network = train_norms(
        create_image_model("test_resnet", "none", num_classes=5, seed=3)
        if kind == "image"
        else create_model("p3d_tiny", num_classes=5)
    )
    teacher, clips_u8 = FrozenTeacher(network), batch_of(2).clips
    norms, runs = [part for part in network.modules() if isinstance(part, _BatchNorm)], []
    for norm in norms:
        norm.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(2):
        digest = teacher.digest()
        output = teacher(clips_u8)
        assert teacher.digest() == digest
        runs.clear()
        assert torch.equal(teacher(clips_u8).features, output.features)
        assert not runs
        if kind == "image":
            frames = clips_u8.transpose(1, 2).flatten(0, 1)
            maps = network.forward_features(normalise(frames, teacher.mean, teacher.std))
            expected = network.forward_head(maps, pre_logits=True).unflatten(0, (2, -1)).mean(1)
        else:
            expected = network.forward_head(network.forward_features(clips_u8), pre_logits=True)
        assert len(runs) == len(norms)
        torch.testing.assert_close(output.features, expected, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            norms[-1].bias += 1  # of the user's network: the next pass is of these weights
