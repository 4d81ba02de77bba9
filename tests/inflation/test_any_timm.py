"""`--to i3d` takes any convolutional timm network: many of them, and what it refuses."""

import itertools

import pytest
import timm
import torch
from sweeps import sweep
from torch import nn

from transfer3d.errors import UsageError
from transfer3d.inflation.inflation import inflate
from transfer3d.models.checkpoint import load, save
from transfer3d.models.factory import create_model
from transfer3d.models.trunks.timm3d import DEPTHS, convolution_stages
from transfer3d.nn.framewise import FrameCount, TemporalConv

NETS = {
    "ResNet": (
        *("test_resnet", "resnet18", "resnet50", "resnet26d", "wide_resnet50_2", "resnext26ts", "seresnet18"),
        *("ecaresnet26t", "skresnet18", "resnest14d", "resnetblur50", "resnetrs50", "resnet50_gn"),
    ),
    "ConvNeXt": ("test_convnext2", "convnext_atto", "convnext_tiny", "convnextv2_atto"),
    "Inception-NeXt": ("inception_next_atto",),
    "EdgeNeXt": ("edgenext_xx_small",),
    "EfficientNet": (
        *("test_efficientnet", "efficientnet_b0", "tf_efficientnet_b0", "efficientnet_lite0", "tinynet_e"),
        *("efficientnet_cc_b0_4e", "mixnet_s", "efficientnetv2_rw_t"),
    ),
    "MobileNet": (
        *("mobilenetv3_small_050", "mobilenetv2_050", "mobilenetv1_100", "mobilenetv4_conv_small_035"),
        *("lcnet_050", "mobilenet_edgetpu_v2_xs", "mobilenetv4_hybrid_medium"),
    ),
    "MnasNet and FBNet": ("mnasnet_small", "fbnetc_100", "hardcorenas_a", "spnasnet_100"),
    "GhostNet": ("ghostnet_050", "repghostnet_050", "ghostnetv2_100"),
    "RegNet": ("regnetx_002", "regnety_002", "regnetz_005"),
    "ByobNet": ("test_byobnet", "gernet_s", "repvgg_a0", "mobileone_s0", "gcresnext26ts"),
    "with attention": ("lambda_resnet26t", "halonet26t", "bat_resnext26ts", "mobilevit_xxs"),
    "DenseNet": ("test_densenet", "densenetblur121d", "rdnet_tiny"),
    "DLA": ("dla46_c",),
    "ReXNet": ("rexnet_100",),
    "Inception": ("inception_v3", "inception_v4", "inception_resnet_v2"),
    "Xception": ("xception41", "legacy_xception"),
    "CSPNet": ("cspresnet50", "cspdarknet53", "cs3darknet_s"),
    "VoVNet": ("ese_vovnet19b_dw",),
    "Res2Net": ("res2net50_26w_4s",),
    "SelecSLS": ("selecsls42b",),
    "DPN": ("dpn48b",),
    "HGNet": ("hgnet_tiny", "hgnetv2_b0"),
    "HRNet": ("hrnet_w18_small",),
    "TResNet": ("tresnet_m",),
    "VGG": ("vgg11_bn",),
    "NASNet": ("nasnetalarge",),
    "ConvMixer": ("convmixer_1024_20_ks9_p14",),
    "FasterNet and StarNet": ("fasternet_t0", "starnet_s1"),
    "FastViT": ("fastvit_t8",),
    "with standardised weights": (
        *("test_nfnet", "dm_nfnet_f0", "nfnet_l0", "eca_nfnet_l0", "nf_resnet50", "nf_regnet_b1"),
        *("resnetv2_50x1_bit", "resnetv2_50d_gn"),
    ),
    "MambaOut": ("test_mambaout", "mambaout_femto"),
    "MaxViT": ("test_maxvit", "maxvit_tiny_tf_224"),
}
QUICK = {
    *("test_resnet", "test_convnext2", "test_efficientnet", "mobilenetv3_small_050", "mnasnet_small"),
    *("ghostnet_050", "regnetx_002", "test_byobnet", "test_densenet", "dla46_c", "rexnet_100", "test_nfnet"),
    "test_mambaout",
}
"""The smallest of thirteen families; the others are slow."""
OF_ONE_SIZE = {"halonet26t", "bat_resnext26ts", "test_maxvit", "maxvit_tiny_tf_224"}
"""They run on the size that they were trained on alone, or on few others."""
KINDS = ("test_convnext2", "test_efficientnet", "test_byobnet", "mobilenetv3_small_050", "test_nfnet")


def test_the_list_is_as_long_as_promised():
    assert sum(map(len, NETS.values())) >= 25
    assert len(QUICK) >= 10
    assert {name for nets in NETS.values() for name in nets} >= QUICK


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for nets in NETS.values()
        for name in nets
    ],
)
def test_on_a_still_clip_the_student_is_the_2d_net(name, image_model):
    done = inflate(image_model(name), "i3d", proof_size=None if name in OF_ONE_SIZE else 96)
    assert done.proof.verdict == "proved"
    assert done.proof.difference <= 1e-5
    assert done.proof.logits_difference is not None
    inflated = [row.target for row in done.weight_report.rows if row.how == "inflated"]
    assert inflated
    assert all(done.student.state_dict()[target].shape[2] == 3 for target in inflated)


@pytest.mark.parametrize("name", KINDS)
def test_a_moving_clip_is_not_a_still_one(name, image_model):
    student = inflate(image_model(name), "i3d", temporal_init="mean", proof_size=64).student
    clips = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        played, shuffled = student(clips), student(clips[:, :, [0, 2, 4, 6, 1, 3, 5, 7]])
    assert (played - shuffled).norm() > 1e-5 * played.norm()


@pytest.mark.parametrize("name", KINDS)
def test_clips_of_a_batch_do_not_see_each_other(name, image_model):
    """Frames lie in the batch: a clip's last frame must not be its neighbour's first."""
    student = inflate(image_model(name), "i3d", temporal_init="mean", proof_size=64).student
    clips = torch.randn(3, 3, 5, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = student(clips)
        torch.testing.assert_close(
            together, torch.cat([student(clip[None]) for clip in clips]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", KINDS)
def test_mean_and_random(name, image_model):
    model = image_model(name)
    mean = inflate(model, "i3d", temporal_init="mean", proof_size=64).proof
    assert (mean.verdict, mean.temporal_padding) == ("proved", "replicate")
    assert mean.zero_padding_difference > 1e-5
    assert inflate(model, "i3d", temporal_init="random").proof.verdict == "nothing proved"


@pytest.mark.parametrize("name", KINDS)
def test_other_channels_and_classes_survive_a_file(name, image_model, tmp_path):
    model = image_model(name, in_chans=2)
    done = inflate(model, "i3d", num_classes=4, depths=(1, 1, 1, 3, 3, 3), proof_size=64)
    assert done.proof.verdict == "proved"
    save(done.student, tmp_path / "s.safetensors", provenance=done.provenance)
    again = load(tmp_path / "s.safetensors")
    assert again.model_name == "i3d"
    assert again.model_args["spec"] == {"architecture": name}
    clips = torch.randn(2, 2, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(clips), done.student(clips))


def test_it_sees_what_its_network_was_trained_on(image_model):
    student = inflate(image_model("test_convnext2"), "i3d").student
    assert (student.clip.size, student.clip.crop, student.clip.mean) == (160, 183, (0.5, 0.5, 0.5))


def freeze_batch_norm(student):
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "frozen_bn"),
    sweep(
        itertools.product(KINDS, (False, True)),
        [(name, number % 2 == 1) for number, name in enumerate(KINDS)],
    ),
)
def test_after_two_steps_no_parameter_is_dead(name, frozen_bn, image_model):
    student = inflate(
        image_model(name), "i3d", num_classes=4, frozen_bn=frozen_bn, proof_size=64
    ).student.train()
    if frozen_bn:
        freeze_batch_norm(student)
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01)
    clips = torch.randn(4, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(clips), torch.arange(4)).backward()
        if step < 2:
            optimizer.step()
    for parameter_name, parameter in student.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), parameter_name
            assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 4}, {"bias": False}),
        *({"padding": "same"}, {"padding": "valid"}),
    ],
)
@pytest.mark.parametrize("depth", [2, 3])
def test_a_temporal_convolution_is_the_3d_one(options, depth):
    flat = nn.Conv2d(4, 8, 3, **{"padding": 1, **options})
    count = FrameCount()
    count.frames = 5
    conv = TemporalConv(flat, depth, count)
    x = torch.randn(10, 4, 7, 9)
    clips = torch.stack([x[:5], x[5:]]).transpose(1, 2)
    pad = {"same": 1, "valid": 0}.get(options.get("padding", 1), options.get("padding", 1))
    expected = nn.functional.conv3d(
        nn.functional.pad(clips, (pad, pad, pad, pad, (depth - 1) // 2, depth // 2)),
        conv.conv.weight,
        conv.conv.bias,
        (1, options.get("stride", 1), options.get("stride", 1)),
        0,
        (1, options.get("dilation", 1), options.get("dilation", 1)),
        options.get("groups", 1),
    )
    torch.testing.assert_close(conv(x), expected.transpose(1, 2).flatten(0, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_as_tensorflow_does(size, stride):
    flat = timm.layers.Conv2dSame(3, 4, 5, stride=stride)
    conv = TemporalConv(flat, 1, FrameCount(), same=True)
    conv.conv.weight.data = flat.weight.data[:, :, None]
    conv.conv.bias.data = flat.bias.data
    x = torch.randn(2, 3, size, size + 3)
    torch.testing.assert_close(conv(x), flat(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size, options, message",
    [
        (3, {"padding": 1, "padding_mode": "reflect"}, "pads by 'reflect'"),
        (4, {"padding": "same"}, "pads 'same'"),
    ],
)
def test_padding_that_has_no_3d_form(size, options, message):
    with pytest.raises(ValueError, match=message):
        TemporalConv(nn.Conv2d(2, 2, size, **options), 3, FrameCount())


def test_the_stage_of_a_convolution_is_its_resolution():
    stages = convolution_stages("resnet18", 3)
    assert stages["conv1"] == 1
    assert {stages[f"layer{stage}.1.conv2"] - stage for stage in (1, 2, 3, 4)} == {1}
    assert stages["layer3.0.conv1"] == 4  # where it strides: what counts is what it gives
    assert not any("downsample" in name for name in stages)  # 1x1


@pytest.mark.parametrize(
    "name", ["efficientvit_m0", "levit_conv_128s", pytest.param("repvit_m0_9", marks=pytest.mark.slow)]
)
def test_a_classifier_of_several_layers_gives_way_to_a_new_one(name, image_model):
    model = image_model(name)
    done = inflate(model, "i3d", num_classes=3, frames=2)
    assert (done.proof.verdict, done.proof.logits_difference) == ("proved", None)
    rows = done.weight_report.rows
    dropped = {row.source for row in rows if row.how == "dropped"}
    classes = {
        key for key, tensor in model.state_dict().items() if len(tensor.shape) and tensor.shape[0] == 1000
    }
    assert classes <= dropped
    assert {row.source for row in rows if row.source} == set(model.state_dict())
    assert {row.target for row in rows if row.how == "fresh"} == {"head.weight", "head.bias"}


def on_meta(name):
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(
    "make, to, message",
    [
        (
            lambda: timm.create_model("convnext_atto"),
            "p3d",
            r"p3d takes timm ResNets.*convnext_atto can be inflated to i3d",
        ),
        (lambda: timm.create_model("test_densenet"), "r3d", r"test_densenet can be inflated to .*i3d, t3d"),
        (
            lambda: timm.create_model("test_vit"),
            "i3d",
            r"any convolutional.*test_vit can be inflated to timesformer, vivit",
        ),
        (
            lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1)),
            "i3d",
            r"convnext_atto was built with arguments that its name does not show: tensors \d+ missing",
        ),
        (lambda: timm.create_model("test_resnet"), "i3d_googlenet", r"inflated from googlenet.*--to i3d"),
        (
            lambda: on_meta("repvit_m0_9"),
            "i3d",
            r"several linear layers \(head\.head\.bn, head\.head\.l, .*--num-classes 0",
        ),
        (lambda: on_meta("mobilenetv5_300m_enc"), "i3d", r"mobilenetv5_300m_enc has no pooled features"),
        (
            lambda: on_meta("swinv2_cr_tiny_ns_224"),
            "i3d",
            r"no spatial conv.*WindowMultiHeadAttention has no 3D form",
        ),
        (lambda: on_meta("test_coatnet"), "i3d", r"test_coatnet has no spatial convolution in the stages"),
    ],
)
def test_what_cannot_work_says_which_can(make, to, message):
    with pytest.raises(UsageError, match=message):
        inflate(make(), to)


def test_a_size_that_the_network_does_not_take_is_told_with_the_operator(image_model):
    message = r"halonet26t fails on 64x64 images: its HaloAttn 'stages\.2\.1\.self_attn' raised Assertion"
    with pytest.raises(UsageError, match=message):
        inflate(image_model("halonet26t"), "i3d", proof_size=64)


@pytest.mark.parametrize(
    "spec, options, message",
    [
        ({"architecture": "resnet5o"}, {}, "timm has no model 'resnet5o'"),
        ({"architecture": "test_resnet"}, {"depths": (1, 3)}, "6 numbers"),
        ({"architecture": "test_resnet"}, {"depths": (0, 1, 1, 1, 1, 1)}, "6 numbers"),
        ({"divisor": 8}, {"depths": DEPTHS}, "GoogLeNet"),
        ({"layers": 3}, {}, "spec"),
    ],
)
def test_arguments_that_are_wrong(spec, options, message):
    with pytest.raises(UsageError, match=message):
        create_model("i3d", spec=spec, **options)
