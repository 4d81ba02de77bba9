"""Vision transformers over clips: the still-clip proof, the account, refusals, and students that learn."""

import pytest
import timm
import torch
from torch import nn

import transfer3d
from transfer3d import inflate
from transfer3d.errors import UsageError
from transfer3d.inflation.parity import relative_difference
from transfer3d.inflation.vit_source import read_vit

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 64}
PATCH_14 = {**SMALL, "img_size": 70}
KINDS = {
    "ViT: class token, absolute positions": {"vit_tiny_patch16_224": SMALL, "deit_tiny_patch16_224": SMALL},
    "ViT: mean of patches": {"vit_base_patch16_siglip_gap_224": SMALL, "vit_base_patch16_gap_224": SMALL},
    "DINOv2: LayerScale, registers": {
        "vit_small_patch14_dinov2": PATCH_14,
        "vit_small_patch14_reg4_dinov2": PATCH_14,
        "vit_giant_patch14_reg4_dinov2": PATCH_14,  # SwiGLU
    },
    "DeiT III, RMSNorm": {"deit3_small_patch16_224": SMALL, "test_vit4": {"depth": 2, "img_size": 64}},
    "SigLIP: attention pooling": {
        "vit_base_patch16_siglip_224": SMALL,
        "vit_so400m_patch14_siglip_384": {**SMALL, "img_size": 66},  # 66 is not a multiple of 14
    },
    "CLIP: a norm before the blocks": {
        "vit_base_patch32_clip_224": SMALL,
        "vit_base_patch16_clip_quickgelu_224": SMALL,
    },
    "DINOv3: rotary positions, registers": {
        "vit_small_patch16_dinov3": SMALL,
        "vit_huge_plus_patch16_dinov3": SMALL,  # SwiGLU
        "vit_base_patch16_rope_reg1_gap_256": SMALL,
    },
    "EVA and EVA02: rotary and absolute positions": {
        "eva_giant_patch14_224": PATCH_14,
        "eva02_tiny_patch14_224": PATCH_14,
        "eva02_base_patch14_448": PATCH_14,  # a norm in the MLP
        "eva02_base_patch16_clip_224": SMALL,  # a norm in the attention
    },
    "rotary positions learned for each block": {
        "vit_small_patch16_rope_mixed_224": SMALL,
        "vit_small_patch16_rope_mixed_ape_224": SMALL,
    },
    "Perception Encoder": {"vit_pe_core_base_patch16_224": SMALL},
}
SOURCES = {name: arguments for nets in KINDS.values() for name, arguments in nets.items()}
OTHER_BLOCKS = {
    "vit_base_patch16_rpn_224": "ResPostBlock",
    "vit_small_patch16_18x2_224": "ParallelThingsBlock",
    "vit_base_patch16_xp_224": "ParallelScalingBlock",
}
QUICK = {next(iter(nets)) for nets in KINDS.values()}
TARGETS = {
    "vivit": ("vivit", {}),
    "timesformer": ("timesformer", {}),
    "factorised": ("timesformer", {"attention": "factorised"}),
}


def vit(name, seed=0, **arguments):
    """A small ViT whose every parameter is at work: random norms, scales and positions."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **(arguments or SOURCES.get(name, SMALL)))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def awake(student, seed=0):
    """Fills what is zero at first, so that time counts."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in student.named_parameters():
        if ".temporal." in name and not parameter.any():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return student.eval()


def clips_of(student, batch=2, frames=None, seed=0):
    shape = (batch, 3, frames or student.clip.frames, student.clip.size, student.clip.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_there_are_enough_kinds():
    assert len(KINDS) >= 8
    assert len(SOURCES) >= 20


def slow_unless(quick, *values):
    return pytest.param(*values, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(
    "name, to",
    [slow_unless(name in QUICK and to != "factorised", name, to) for name in SOURCES for to in TARGETS],
)
def test_on_a_still_clip_the_student_is_the_image_model(name, to):
    family, options = TARGETS[to]
    model = vit(name)
    done = inflate(model, family, frames=4, **options)
    assert done.proof.verdict == "proved"
    assert done.proof.difference <= 1e-5
    assert done.proof.precision == "fp32"
    rows = done.weight_report.rows
    assert {row.source for row in rows if row.source} == set(model.state_dict())
    assert sorted(row.target for row in rows) == sorted(done.student.state_dict())
    image = torch.randn(1, 3, *[done.student.clip.size] * 2)
    with torch.no_grad():
        logits = done.student(image[:, :, None].expand(-1, -1, 4, -1, -1))
        assert relative_difference(logits, model(image)) <= 1e-5


@pytest.mark.parametrize("name", [slow_unless(index == 0, name) for index, name in enumerate(OTHER_BLOCKS)])
def test_any_block_sees_all_tubelets_but_not_any_can_be_divided(name):
    assert inflate(vit(name), "vivit", frames=4).proof.verdict == "proved"
    assert inflate(vit(name), "timesformer", frames=4, attention="factorised").proof.verdict == "proved"
    with pytest.raises(UsageError, match=f"{name} has {OTHER_BLOCKS[name]}, whose attention cannot"):
        inflate(vit(name), "timesformer", frames=4)


@pytest.mark.parametrize(
    "name, to",
    [slow_unless(name == "vit_base_patch16_siglip_224", name, to) for name in SOURCES for to in TARGETS],
)
def test_after_two_steps_no_parameter_is_dead(name, to):
    family, options = TARGETS[to]
    student = inflate(vit(name), family, frames=4, num_classes=4, **options).student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(clips_of(student)), torch.tensor([0, 1])).backward()
        optimizer.step()
    for parameter_name, parameter in student.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
@pytest.mark.parametrize("to, calls", [("vivit", 2), ("timesformer", 4), ("factorised", 6)])
@torch.no_grad()
def test_attention_is_torchs_own(name, to, calls, monkeypatch):
    """In two blocks: joint, over time and over space, or over space and in four blocks over time."""
    family, options = TARGETS[to]
    student = inflate(vit(name), family, frames=4, **options).student
    own, seen = nn.functional.scaled_dot_product_attention, []

    def counted(*tensors, **how):
        seen.append(tensors[0].shape)
        return own(*tensors, **how)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", counted)
    student(clips_of(student))
    assert len(seen) == calls


@pytest.mark.parametrize("to", TARGETS)
@torch.no_grad()
def test_order_counts_and_clips_of_a_batch_do_not_see_each_other(to):
    family, options = TARGETS[to]
    student = awake(inflate(vit("vit_small_patch14_reg4_dinov2"), family, frames=6, **options).student)
    clips = clips_of(student)
    both = student(clips)
    torch.testing.assert_close(both[1:], student(clips[1:]))
    assert (both - student(clips[:, :, [2, 3, 0, 1, 4, 5]])).norm() > 1e-4 * both.norm()


@torch.no_grad()
def test_joint_attention_is_the_blocks_own_over_all_tokens():
    """Against timm's block on one long sequence, without rotary positions."""
    student = inflate(vit("vit_small_patch14_reg4_dinov2"), "vivit", frames=6).student
    block, dim = student.trunk.net.blocks[0], 48
    x = torch.randn(2 * 3, 30, dim)
    student.trunk.count.frames = 3
    expected = block.spatial(torch.stack([x[:3].flatten(0, 1), x[3:].flatten(0, 1)])).view(6, 30, dim)
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_rotary_angles_turn_each_step_alike():
    """Brute force: softmax over the tokens of all steps, each rotated by timm within its own step."""
    model = vit("vit_small_patch16_dinov3")
    student = inflate(model, "vivit", frames=4).student
    attn, block = model.blocks[0].attn, student.trunk.net.blocks[0]
    prefix, rope = model.num_prefix_tokens, model.rope.get_embed(shape=(4, 4))
    x, steps, heads = torch.randn(2, prefix + 16, 48), [], attn.num_heads
    for step in block.spatial.norm1(x):
        q, k, v = attn.qkv(step).view(-1, 3, heads, 16).permute(1, 2, 0, 3)
        turned = [
            torch.cat(
                (
                    y[:, :prefix],
                    timm.layers.apply_rot_embed_cat(y[None, :, prefix:], rope, half=attn.rotate_half)[0],
                ),
                1,
            )
            for y in (q, k)
        ]
        steps.append((*turned, v))
    q, k, v = (torch.cat(parts, 1) for parts in zip(*steps, strict=True))
    mixed = ((q @ k.transpose(1, 2)) * 16**-0.5).softmax(-1) @ v
    expected = attn.proj(mixed.transpose(0, 1).flatten(1)).view(x.shape)
    student.trunk.count.frames = 2
    kept = {}
    block.spatial.attn.register_forward_hook(lambda module, inputs, output: kept.update(output=output))
    block(x, rope=rope)
    torch.testing.assert_close(kept["output"].view(x.shape), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_divided_attention_looks_along_time_at_one_place_then_within_a_frame():
    """Brute force over places, and one class token whose answers from the frames are averaged."""
    student = awake(inflate(vit("vit_tiny_patch16_224"), "timesformer", frames=3).student)
    block, steps, dim = student.trunk.net.blocks[1], 3, 48
    student.trunk.count.frames = steps
    shared = torch.randn(2, 1, 1, dim).expand(-1, steps, -1, -1)
    x = torch.cat((shared, torch.randn(2, steps, 16, dim)), 2)
    after_time = x.clone()
    for place in range(1, 17):
        column = x[:, :, place]
        after_time[:, :, place] += block.temporal.fc(block.temporal.attn(block.temporal.norm(column)))
    net = block.spatial
    change = torch.stack([net.attn.spatial(net.norm1(after_time[:, step])) for step in range(steps)], 1)
    change[:, :, 0] = change[:, :, 0].mean(1, keepdim=True)
    y = after_time + change
    y = y + net.mlp(net.norm2(y))
    torch.testing.assert_close(block(x.flatten(0, 1)).view(x.shape), y, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_mean_tubelet_sees_every_frame_and_a_central_one_the_same_one():
    model = vit("vit_tiny_patch16_224")
    mean = inflate(model, "vivit", frames=8, tubelet=4, temporal_init="mean")
    assert mean.proof.verdict == "proved"
    assert mean.proof.zero_padding_difference is None  # tubelets do not reach beyond the clip
    conv = mean.student.trunk.net.patch_embed.proj.conv
    assert torch.equal(conv.weight[:, :, 3], model.patch_embed.proj.weight / 4)
    central = inflate(model, "vivit", frames=8, tubelet=4).student.trunk.net.patch_embed.proj.conv
    assert torch.equal(central.weight[:, :, 1], model.patch_embed.proj.weight)
    assert central.weight[:, :, [0, 2, 3]].abs().max() == 0


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch16_rope_mixed_ape_224"])
def test_another_size_resamples_positions_as_timm_does(name):
    model = vit(name)
    done = inflate(model, "vivit", frames=4, size=112)
    assert done.student.clip.size == 112
    assert done.proof.verdict == "proved"
    resampled = [row for row in done.weight_report.rows if row.how == "resampled"]
    assert [row.source for row in resampled] == ["pos_embed"]
    assert "to 8x8" in resampled[0].note or "to 7x7" in resampled[0].note
    theirs = vit(name)
    theirs.set_input_size(img_size=(112, 112))
    images = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        logits = done.student(images[:, :, None].expand(-1, -1, 4, -1, -1))
        assert relative_difference(logits, theirs(images)) <= 1e-5
    assert model.patch_embed.img_size != (112, 112)  # the given model is not changed


@pytest.mark.parametrize("to", ["vivit", slow_unless(False, "timesformer"), slow_unless(False, "factorised")])
@pytest.mark.parametrize("name", ["vit_small_patch16_rope_mixed_224", "eva_giant_patch14_224"])
@torch.no_grad()
def test_a_checkpoint_gives_the_same_answers(name, to, tmp_path):
    """Rotary angles and EVA's zero key bias are not in the file: they must be computed again."""
    family, options = TARGETS[to]
    student = inflate(vit(name), family, frames=4, **options).student
    transfer3d.save(student, tmp_path / "a.safetensors")
    again = transfer3d.load(tmp_path / "a.safetensors")
    clips = clips_of(student)
    assert torch.equal(student(clips), again(clips))
    assert again.model_args == student.model_args


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("deit_tiny_distilled_patch16_224", SMALL, "has a distillation token .VisionTransformerDistilled"),
        ("beit_base_patch16_224", SMALL, "has a relative position bias .Beit"),
        ("vit_relpos_small_patch16_224", {}, "has a relative position bias .VisionTransformerRelPos"),
        ("xcit_nano_12_p16_224", {}, "has cross-covariance attention .Xcit"),
        ("vit_small_r26_s32_224", {}, "has the patch embedding HybridEmbed"),
        ("vit_tiny_patch16_224", {"img_size": (64, 96)}, "has images of 64x96, which are not square"),
        ("vit_tiny_patch16_224", {"global_pool": "", "fc_norm": False}, "has no pooling"),
        ("vit_tiny_patch16_224", {"patch_drop_rate": 0.5}, "has patch dropout"),
        ("vit_tiny_patch16_224", {"mlp_layer": timm.layers.GluMlp}, "does not record"),
        ("test_resnet", {}, "vivit takes timm's VisionTransformer and Eva networks"),
    ],
)
def test_what_cannot_be_taken_is_named(name, arguments, message):
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    with pytest.raises(UsageError, match=message):
        inflate(model, "vivit")


def test_too_few_frames_and_unknown_forms_are_refused():
    for family, options, message in (
        ("vivit", {"frames": 3}, "at least two time steps"),
        ("vivit", {"positions": "both"}, "positions = 'both'"),
        ("timesformer", {"attention": "joint"}, "attention = 'joint'"),
    ):
        with pytest.raises(UsageError, match=message):
            inflate(vit("vit_tiny_patch16_224"), family, **options)
    with pytest.raises(UsageError, match="positions='joint' cannot be inflated"):
        inflate(vit("vit_tiny_patch16_224"), "vivit", frames=4, positions="joint")


def test_the_spec_holds_what_the_name_does_not_say():
    spec, _, head = read_vit("vit_small_patch14_dinov2", vit("vit_small_patch14_dinov2"))
    assert spec.to_dict() == {
        "architecture": "vit_small_patch14_dinov2",
        "img_size": 70,
        "overrides": {"depth": 2, "embed_dim": 48, "num_heads": 3},
    }
    assert type(spec).from_dict(spec.to_dict()) == spec
    assert head == "head"
    for bad in ({"pretrained": True}, {"checkpoint_path": "x"}, {"depth": "2"}, {"depth": True}):
        with pytest.raises(ValueError, match="cannot be recorded"):
            type(spec)(architecture="vit_tiny_patch16_224", img_size=64, overrides=bad)
