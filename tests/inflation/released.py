"""Names and shapes of released checkpoints, written down from their architectures, and values for them."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)


def norm(name, channels):
    shapes = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{name}.num_batches_tracked": ()}


def blocks(layers, depths=None):
    """Yields stage (1..4), block, width, input channels, whether it has a projection."""
    channels = 64
    for stage, (depth, width) in enumerate(zip(depths or DEPTHS[layers], WIDTHS, strict=True), 1):
        for block in range(depth):
            yield stage, block, width, channels, block == 0
            channels = 4 * width


def p3d_shapes(layers=50, classes=13, depths=None):
    shapes = {"conv1_custom.weight": (64, 3, 1, 7, 7), **norm("bn1", 64)}
    for stage, block, width, channels, projects in blocks(layers, depths):
        name, ones = f"layer{stage}.{block}", (1, 1, 1) if stage < 4 else (1, 1)
        if projects:
            shapes[f"{name}.downsample.0.weight"] = (4 * width, channels, *ones)
            shapes |= norm(f"{name}.downsample.1", 4 * width)
        shapes |= {f"{name}.conv1.weight": (width, channels, *ones), **norm(f"{name}.bn1", width)}
        if stage < 4:
            shapes |= {f"{name}.conv2.weight": (width, width, 1, 3, 3), **norm(f"{name}.bn2", width)}
            shapes |= {f"{name}.conv3.weight": (width, width, 3, 1, 1), **norm(f"{name}.bn3", width)}
        else:
            shapes |= {f"{name}.conv_normal.weight": (width, width, 3, 3), **norm(f"{name}.bn_normal", width)}
        shapes |= {f"{name}.conv4.weight": (4 * width, width, *ones), **norm(f"{name}.bn4", 4 * width)}
    return shapes | {"fc.weight": (classes, 2048), "fc.bias": (classes,)}


def slow_shapes(layers=50, classes=400, depths=None):
    shapes = {"blocks.0.conv.weight": (64, 3, 1, 7, 7), **norm("blocks.0.norm", 64)}
    for stage, block, width, channels, projects in blocks(layers, depths):
        name, depth = f"blocks.{stage}.res_blocks.{block}", 3 if stage > 2 else 1
        if projects:
            shapes[f"{name}.branch1_conv.weight"] = (4 * width, channels, 1, 1, 1)
            shapes |= norm(f"{name}.branch1_norm", 4 * width)
        name = f"{name}.branch2"
        shapes |= {f"{name}.conv_a.weight": (width, channels, depth, 1, 1), **norm(f"{name}.norm_a", width)}
        shapes |= {f"{name}.conv_b.weight": (width, width, 1, 3, 3), **norm(f"{name}.norm_b", width)}
        shapes |= {f"{name}.conv_c.weight": (4 * width, width, 1, 1, 1), **norm(f"{name}.norm_c", 4 * width)}
    return shapes | {"blocks.5.proj.weight": (classes, 2048), "blocks.5.proj.bias": (classes,)}


def v4d_shapes(layers=50, classes=19, depths=None, tap_first=False):
    shapes = {"base_model.conv1.weight": (64, 3, 1, 7, 7), **norm("base_model.bn1", 64)}
    place = 0
    for stage, block, width, channels, projects in blocks(layers, depths):
        place = 0 if block == 0 else place + 1
        name, depth = f"base_model.layer{stage}.{place}", 3 if stage > 2 else 1
        shapes |= {f"{name}.conv1.weight": (width, channels, depth, 1, 1), **norm(f"{name}.bn1", width)}
        shapes |= {f"{name}.conv2.weight": (width, width, 1, 3, 3), **norm(f"{name}.bn2", width)}
        shapes |= {f"{name}.conv3.weight": (4 * width, width, 1, 1, 1), **norm(f"{name}.bn3", 4 * width)}
        if projects:
            shapes[f"{name}.downsample.0.weight"] = (4 * width, channels, 1, 1, 1)
            shapes |= norm(f"{name}.downsample.1", 4 * width)
        if stage == 2 and block % 2 == 1:
            place += 1
            kernel = (3, 512, 512, 3, 1, 1) if tap_first else (512, 512, 3, 3, 1)
            shapes[f"base_model.layer{stage}.{place}.tsa.weight"] = kernel
    return shapes | {"new_fc.weight": (classes, 2048), "new_fc.bias": (classes,)}


def v4d_basic_shapes(classes=19):
    """V4D ResNet-18: two blocks a stage, a 4D convolution after the second one of res3 and of res4."""
    shapes = {"base_model.conv1.weight": (64, 3, 1, 7, 7), **norm("base_model.bn1", 64)}
    channels = 64
    for stage, width in enumerate(WIDTHS, 1):
        depth = 3 if stage > 2 else 1
        for block in range(2):
            name = f"base_model.layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (width, channels, depth, 3, 3), **norm(f"{name}.bn1", width)}
            shapes |= {f"{name}.conv2.weight": (width, width, depth, 3, 3), **norm(f"{name}.bn2", width)}
            if channels != width:
                shapes[f"{name}.downsample.0.weight"] = (width, channels, 1, 1, 1)
                shapes |= norm(f"{name}.downsample.1", width)
            channels = width
        if stage in (2, 3):
            shapes[f"base_model.layer{stage}.2.tsa.weight"] = (3, width, width, 3, 1, 1)
    return shapes | {"new_fc.weight": (classes, 512), "new_fc.bias": (classes,)}


def densenet3d_shapes(depths=(6, 12, 24, 16), growth=32, classes=17):
    """The names of the authors' DenseNet3D; of PyTorch before 0.4.1, which did not count batches."""
    features = 2 * growth
    shapes = {"features.conv0.weight": (features, 3, 3, 7, 7), **norm("features.norm0", features)}
    for block, depth in enumerate(depths, 1):
        for layer in range(1, depth + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            shapes |= {**norm(f"{name}.norm.1", features), **norm(f"{name}.norm.2", 4 * growth)}
            shapes[f"{name}.conv.1.weight"] = (4 * growth, features, 1, 1, 1)
            shapes[f"{name}.conv.2.weight"] = (growth, 4 * growth, 3, 3, 3)
            features += growth
        if block < len(depths):
            name = f"features.transition{block}"
            shapes |= {
                **norm(f"{name}.norm", features),
                f"{name}.conv.weight": (features // 2, features, 1, 1, 1),
            }
            features //= 2
    shapes |= {**norm("features.norm5", features), "classifier.weight": (classes, features)}
    shapes["classifier.bias"] = (classes,)
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


SHAPES = {"p3d-pytorch": p3d_shapes, "pytorchvideo-slow": slow_shapes, "v4d-release": v4d_shapes}


def zeros(shapes):
    """A state dict that takes no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def values(shapes, seed=0):
    """A state dict of values that keep activations of order one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=generator) * 1.5 + 0.5
        elif len(shape) == 1 and name.endswith("weight"):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            scale = (2 / max(1, np.prod(shape[1:]))) ** 0.5 if len(shape) > 1 else 0.3
            state[name] = torch.randn(shape, generator=generator) * scale
    return state


def reference_record(name):
    """What a reference vector's file says; see the README of its folder."""
    path = REFERENCE / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no reference vectors: {path} is not there")
    return json.loads(path.read_text())


def reference(name):
    """A reference vector: its record, its state dict and its input, made by the rule."""
    record = reference_record(name)
    state = {}
    for key, shape, kind, std in record["state_dict"]:
        r = np.random.RandomState((zlib.crc32(key.encode()) + record["seed"]) % 2**32)
        if kind == "count":
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        drawn = {
            "uniform": lambda r=r, shape=shape: r.uniform(0.5, 1.5, shape),
            "var": lambda r=r, shape=shape: r.uniform(0.5, 2.0, shape),
            "normal": lambda r=r, shape=shape, std=std: r.standard_normal(shape) * std,
        }[kind]()
        state[key] = torch.from_numpy(np.asarray(drawn, dtype=np.float32))
    clip = np.random.RandomState(record["seed"]).standard_normal(record["input_shape"]).astype(np.float32)
    return record, state, torch.from_numpy(clip)
