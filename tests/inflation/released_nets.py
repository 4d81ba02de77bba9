"""What the released networks compute, written down by hand in their own names: oracles for any depth."""

import torch
import torch.nn.functional as F
from inflation.released import blocks


def normed(state, conv, norm, x, **options):
    """A convolution without bias, and BatchNorm in eval mode as it is defined."""
    weight = state[f"{conv}.weight"]
    x = (F.conv2d if weight.ndim == 4 else F.conv3d)(x, weight, **options)
    view = (1, -1) + (1,) * (x.ndim - 2)
    mean, var, scale, shift = (
        state[f"{norm}.{part}"].view(view) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def stem(state, conv, norm, clips):
    return normed(state, conv, norm, clips, stride=(1, 2, 2), padding=(0, 3, 3)).relu()


def p3d(state, clips, layers, kinds="ABC"):
    """The P3D port: kinds of blocks in turn, T halved after each of the first three stages, res5 in 2D."""
    x = F.max_pool3d(stem(state, "conv1_custom", "bn1", clips), (2, 3, 3), 2, (0, 1, 1))
    place = 0
    for stage, block, _, _, projects in blocks(layers):
        if block == 0 and stage > 1:
            x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        if block == 0 and stage == 4:
            x = x.squeeze(2)
        step = 2 if block == 0 and stage > 1 else 1
        stride = step if stage == 4 else (1, step, step)
        name = f"layer{stage}.{block}"

        def unit(number, y, name=name, **options):
            return normed(state, f"{name}.conv{number}", f"{name}.bn{number}", y, **options)

        y = unit(1, x, stride=stride).relu()
        if stage == 4:
            y = normed(state, f"{name}.conv_normal", f"{name}.bn_normal", y, padding=1).relu()
        else:
            kind = kinds[place % len(kinds)]
            place += 1
            spatial = unit(2, y, padding=(0, 1, 1)).relu()
            temporal = unit(3, y if kind == "B" else spatial, padding=(1, 0, 0)).relu()
            y = temporal if kind == "A" else spatial + temporal
        if projects:
            x = normed(state, f"{name}.downsample.0", f"{name}.downsample.1", x, stride=stride)
        x = (unit(4, y) + x).relu()
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def slow_block(state, x, stage, block, convolutions, norms, projection):
    """A bottleneck of the slow path: in res4 and res5 the first convolution sees three frames."""
    step = 2 if block == 0 and stage > 1 else 1
    y = normed(state, convolutions[0], norms[0], x, padding=(int(stage > 2), 0, 0)).relu()
    y = normed(state, convolutions[1], norms[1], y, stride=(1, step, step), padding=(0, 1, 1)).relu()
    y = normed(state, convolutions[2], norms[2], y)
    return (y + (normed(state, *projection, x, stride=(1, step, step)) if block == 0 else x)).relu()


def slow(state, clips, layers):
    """pytorchvideo's slow path."""
    x = F.max_pool3d(stem(state, "blocks.0.conv", "blocks.0.norm", clips), (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, block, *_ in blocks(layers):
        name = f"blocks.{stage}.res_blocks.{block}"
        convolutions = [f"{name}.branch2.conv_{letter}" for letter in "abc"]
        norms = [f"{name}.branch2.norm_{letter}" for letter in "abc"]
        projection = (f"{name}.branch1_conv", f"{name}.branch1_norm")
        x = slow_block(state, x, stage, block, convolutions, norms, projection)
    return F.linear(x.mean((2, 3, 4)), state["blocks.5.proj.weight"], state["blocks.5.proj.bias"])


def v4d(state, units, layers):
    """V4D: the slow path over a video's units; after every other block of res3 a residual 4D convolution.

    Args:
        state: 4D kernels `O I ku kt 1`.
        units: one video, `U C T H W`.
        layers: depth.
    """
    x = F.max_pool3d(
        stem(state, "base_model.conv1", "base_model.bn1", units), (1, 3, 3), (1, 2, 2), (0, 1, 1)
    )
    place = 0
    for stage, block, *_ in blocks(layers):
        place = 0 if block == 0 else place + 1
        name = f"base_model.layer{stage}.{place}"
        names = [[f"{name}.{part}{number}" for number in (1, 2, 3)] for part in ("conv", "bn")]
        x = slow_block(state, x, stage, block, *names, (f"{name}.downsample.0", f"{name}.downsample.1"))
        if stage == 2 and block % 2 == 1:
            place += 1
            kernel = state[f"base_model.layer{stage}.{place}.tsa.weight"]
            pixels = x.permute(1, 0, 2, 3, 4).flatten(3)[None]  # 1 C U T HW
            x = x + F.conv3d(pixels, kernel, padding=(1, 1, 0))[0].unflatten(3, x.shape[3:]).transpose(0, 1)
    pooled = x.mean((0, 2, 3, 4))[None]
    return F.linear(pooled, state["new_fc.weight"], state["new_fc.bias"])


def v4d_basic(state, units):
    """V4D ResNet-18 over one video `U C T H W`; 4D kernels `ku O I kt 1 1`."""
    x = F.max_pool3d(
        stem(state, "base_model.conv1", "base_model.bn1", units), (1, 3, 3), (1, 2, 2), (0, 1, 1)
    )
    for stage in range(1, 5):
        frames = int(stage > 2)
        for block in range(2):
            name, step = f"base_model.layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = normed(
                state, f"{name}.conv1", f"{name}.bn1", x, stride=(1, step, step), padding=(frames, 1, 1)
            )
            y = normed(state, f"{name}.conv2", f"{name}.bn2", y.relu(), padding=(frames, 1, 1))
            if step == 2:
                x = normed(state, f"{name}.downsample.0", f"{name}.downsample.1", x, stride=(1, 2, 2))
            x = (x + y).relu()
        if stage in (2, 3):
            taps = state[f"base_model.layer{stage}.2.tsa.weight"]
            padded = F.pad(x, (0, 0, 0, 0, 0, 0, 0, 0, 1, 1))  # a unit of zeros on both sides
            x = x + sum(F.conv3d(padded[u : u + len(x)], taps[u], padding=(1, 0, 0)) for u in range(3))
    return F.linear(x.mean((0, 2, 3, 4))[None], state["new_fc.weight"], state["new_fc.bias"])


def densenet3d(state, clips, depths=(6, 12, 24, 16)):
    """The authors' DenseNet3D over clips of 32 frames."""

    def norm_relu(name, x):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts).relu()

    x = F.conv3d(clips, state["features.conv0.weight"], stride=2, padding=(1, 3, 3))
    x = F.max_pool3d(norm_relu("features.norm0", x), 3, 2, 1)
    for block, depth in enumerate(depths, 1):
        for layer in range(1, depth + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            y = F.conv3d(norm_relu(f"{name}.norm.1", x), state[f"{name}.conv.1.weight"])
            y = F.conv3d(norm_relu(f"{name}.norm.2", y), state[f"{name}.conv.2.weight"], padding=1)
            x = torch.cat([x, y], 1)
        if block < len(depths):
            name = f"features.transition{block}"
            x = F.avg_pool3d(F.conv3d(norm_relu(f"{name}.norm", x), state[f"{name}.conv.weight"]), 2, 2)
    x = norm_relu("features.norm5", x).mean((3, 4)).flatten(1)
    return F.linear(x, state["classifier.weight"], state["classifier.bias"])


NETS = {"p3d-pytorch": (p3d, 16), "pytorchvideo-slow": (slow, 4), "v4d-release": (v4d, 3)}
"""The oracle of a kind, and how many frames it is asked about."""


def answer(kind, state, clips, layers, **options):
    with torch.no_grad():
        return NETS[kind][0](state, clips, layers, **options)
