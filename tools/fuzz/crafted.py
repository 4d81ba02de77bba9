"""Checkpoints that are made by hand: every key with every odd value, every lie that a header can tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from fuzz.checkpoints import read, write
from fuzz.edits import DEEP, Twice, changed, dumps, without

MISSING = object()
TWICE = object()
WRONG_VALUES: dict[str, Any] = {
    "missing": MISSING,
    "twice": TWICE,
    "null": None,
    "true": True,
    "negative": -1,
    "fraction": 2.5,
    "huge": 2**63,
    "endless": 10**4000,
    "nan": float("nan"),
    "infinite": float("inf"),
    "overflow": 1e308,
    "text": "3",
    "long": "a" * 100_000,
    "control": "\x1b]0;pwned\x07",
    "surrogate": "\ud800",
    "right-to-left": "\u202ecod.exe",
    "list": [1, [2], {"a": 3}],
    "empty list": [],
    "empty table": {},
    "deep": DEEP,
}
KEYS: tuple[tuple[Any, ...], ...] = (
    *(("plain", f"transfer3d.{key}") for key in ("version", "model", "digest")),
    *(
        ("parsed", f"transfer3d.{key}")
        for key in ("model_args", "num_classes", "class_names", "clip", "provenance")
    ),
    ("parsed", "transfer3d.class_names", 0),
    *(
        ("parsed", "transfer3d.clip", key)
        for key in ("frames", "stride", "size", "crop", "units", "mean", "std")
    ),
    ("parsed", "transfer3d.clip", "mean", 0),
    ("parsed", "transfer3d.clip", "std", 0),
    *(("parsed", "transfer3d.model_args", key) for key in ("spec", "drop_rate")),
    *(("parsed", "transfer3d.model_args", "spec", key) for key in ("depths", "kinds", "widths", "stem")),
    *(("parsed", "transfer3d.model_args", "spec", key, 0) for key in ("depths", "kinds", "widths", "stem")),
    *(("tensors", "head.weight", key) for key in ("dtype", "shape", "data_offsets")),
    ("tensors", "head.weight", "shape", 0),
    ("tensors", "head.weight", "data_offsets", 1),
)
ARGUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown": ("p3d", {"weights": "/etc/passwd"}),
    "no such pool": ("p3d", {"global_pool": "max"}),
    "no pool": ("p3d", {"global_pool": ""}),
    "zero channels": ("p3d", {"in_chans": 0}),
    "many channels": ("p3d", {"in_chans": 10**12}),
    "channels in words": ("p3d", {"in_chans": "three"}),
    "no blocks": ("p3d", {"blocks": ""}),
    "many blocks": ("p3d", {"blocks": "ABC" * 10**5}),
    "numbers for blocks": ("p3d", {"blocks": 3}),
    "stride_in": ("p3d", {"stride_in": ["reduce"]}),
    "wiring": ("p3d", {"wiring": {}}),
    "c_scale": ("p3d", {"c_scale": "much"}),
    "c_scale infinite": ("p3d", {"c_scale": float("inf")}),
    "no such stage": ("v4d", {"stages": ["res9"]}),
    "stages in words": ("v4d", {"stages": "res3"}),
    "stages as a table": ("v4d", {"stages": {"res3": 1}}),
    "stages as numbers": ("v4d", {"stages": [3]}),
    "a large kernel": ("v4d", {"kernel": [99_999, 99_999, 99_999, 99_999]}),
    "a negative kernel": ("v4d", {"kernel": [-1, -1, -1, -1]}),
    "a kernel of text": ("v4d", {"kernel": ["3", "3", "1", "1"]}),
    "an even kernel": ("v4d", {"kernel": [2, 3, 1, 1]}),
    "width 0": ("f4d", {"width": 0}),
    "width negative": ("f4d", {"width": -1}),
    "width of text": ("f4d", {"width": "3/32"}),
    "width large": ("f4d", {"width": 10**6}),
    "attention": ("f4d", {"attention": "ta" * 10_000}),
    "attention as a list": ("f4d", {"attention": ["ta"]}),
    "drop rate of blocks": ("f4d", {"block_drop_rate": 7}),
    "extra": ("i3ds", {"extra": "yes"}),
    "stem_pool": ("r3d", {"stem_pool": []}),
    "stem_pool_t": ("t3d", {"stem_pool_t": 10**6}),
    "depths": ("i3d", {"depths": [1, 1, 1, 1, 3, 99_999]}),
    "depths too few": ("i3d", {"depths": [1]}),
    "depths of text": ("i3d", {"depths": ["1"] * 6}),
    "many frames": ("vivit", {"frames": 10**6}),
    "no frames": ("vivit", {"frames": 0}),
    "frames of text": ("vivit", {"frames": "8"}),
    "tubelet 0": ("vivit", {"tubelet": 0}),
    "tubelet negative": ("vivit", {"tubelet": -2}),
    "tubelet longer than the clip": ("vivit", {"tubelet": 10**6}),
    "positions": ("vivit", {"positions": ["factorised"]}),
    "no such attention": ("timesformer", {"attention": "evil"}),
    "a deep encoder": ("timesformer", {"attention": "factorised", "encoder_depth": 10**6}),
    "a negative encoder": ("timesformer", {"attention": "factorised", "encoder_depth": -3}),
    "windows of no frames": ("video_swin", {"window": 0}),
    "windows of negative frames": ("video_swin", {"window": -8}),
    "windows of many frames": ("video_swin", {"window": 10**9}),
    "windows in words": ("video_swin", {"window": "8"}),
    "windows as a list": ("video_swin", {"window": [2, 7, 7]}),
    "Swin, many frames": ("video_swin", {"frames": 10**6}),
    "Swin, tubelet 0": ("video_swin", {"tubelet": 0}),
    "Swin, tubelet longer than the clip": ("video_swin", {"tubelet": 10**6}),
    "an encoder of a fraction": ("timesformer", {"attention": "factorised", "encoder_depth": 1.5}),
}
VIT = {"architecture": "vit_tiny_patch16_224", "img_size": 32}
SWIN = {"architecture": "test_swin", "img_size": 32}
SWIN_OVERRIDES: tuple[tuple[str, Any], ...] = (
    *(("depths", value) for value in ([], [0, 2], [-2, 2, 2], [10**9, 2], ["2", 2], [1.5, 2], 2, [[2]])),
    *(("num_heads", value) for value in ([], [0, 4, 8], [7, 7, 7], [2, 4], [-2, 4, 8], "2", [10**9] * 3)),
    *(("window_size", value) for value in (0, -4, 10**6, "7", [4, 4], [4, 0], [[4]], 1.5)),
    *(("embed_dim", value) for value in (0, -24, 10**6, 23, "24", [24])),
    *(("patch_size", value) for value in (0, -4, 4096, 3, "4")),
    *(("mlp_ratio", value) for value in (-1, 10**6, "4")),
    *(("pretrained_window_sizes", value) for value in ([10**6] * 3, [-1, 0, 0], 4)),
    *(("norm_layer", "evil"), ("always_partition", True), ("global_pool", "evil"), ("evil", 1)),
)
SPECS: dict[str, tuple[str, Any]] = {
    "a list": ("p3d", [1, 2]),
    "empty": ("p3d", {}),
    "unknown field": ("p3d", {"depths": [1], "kinds": ["basic"], "widths": [8], "evil": 1}),
    "no stages": ("p3d", {"depths": [], "kinds": [], "widths": []}),
    "nine stages": ("p3d", {"depths": [1] * 9, "kinds": ["basic"] * 9, "widths": [8] * 9}),
    "depth 0": ("p3d", {"depths": [0, 1, 1, 1], "kinds": ["basic"] * 4}),
    "depth negative": ("p3d", {"depths": [-5, 1, 1, 1], "kinds": ["basic"] * 4}),
    "depth fraction": ("p3d", {"depths": [1.5, 1, 1, 1], "kinds": ["basic"] * 4}),
    "depth 10^9": ("p3d", {"depths": [10**9, 1, 1, 1], "kinds": ["basic"] * 4}),
    "depths that cancel out": ("p3d", {"depths": [900_000, -900_000, 1, 1], "kinds": ["basic"] * 4}),
    "depths within depths": ("p3d", {"depths": [[1], 1, 1, 1], "kinds": ["basic"] * 4}),
    "depth true": ("p3d", {"depths": [True, 1, 1, 1], "kinds": ["basic"] * 4}),
    "width 0": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "widths": [0] * 4}),
    "width negative": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "widths": [-8] * 4}),
    "width huge": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "widths": [10**6] * 4}),
    "width of text": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "widths": ["8"] * 4}),
    "kinds of lists": ("p3d", {"depths": [1] * 4, "kinds": [["basic"]] * 4}),
    "kinds unknown": ("p3d", {"depths": [1] * 4, "kinds": ["evil"] * 4}),
    "stem empty": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "stem": []}),
    "stem 0": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "stem": [0]}),
    "stem a number": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "stem": 64}),
    "cardinality 0": ("p3d", {"depths": [1] * 4, "kinds": ["bottleneck"] * 4, "cardinality": 0}),
    "cardinality 7": ("p3d", {"depths": [1] * 4, "kinds": ["bottleneck"] * 4, "cardinality": 7}),
    "base width 0": ("p3d", {"depths": [1] * 4, "kinds": ["bottleneck"] * 4, "base_width": 0}),
    "base width negative": ("p3d", {"depths": [1] * 4, "kinds": ["bottleneck"] * 4, "base_width": -64}),
    "squeeze huge": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "squeeze": 10**6}),
    "squeeze of text": ("p3d", {"depths": [1] * 4, "kinds": ["basic"] * 4, "squeeze": "1"}),
    "dense, growth 0": ("t3d", {"depths": [1] * 4, "growth_rate": 0}),
    "dense, growth negative": ("t3d", {"depths": [1] * 4, "growth_rate": -32}),
    "dense, growth fraction": ("t3d", {"depths": [1] * 4, "growth_rate": 1.5}),
    "dense, bottleneck huge": ("densenet3d", {"depths": [1] * 4, "bn_size": 10**6}),
    "dense, depths negative": ("densenet3d", {"depths": [-1] * 4}),
    "dense, no depths": ("densenet3d", {"depths": []}),
    "googlenet, divisor 0": ("i3d", {"divisor": 0}),
    "googlenet, divisor a list": ("i3d", {"divisor": [1]}),
    "timm, no such": ("i3d", {"architecture": "resnet_of_mine"}),
    "timm, a path": ("i3d", {"architecture": "../../etc/passwd"}),
    "timm, the hub": ("i3d", {"architecture": "hf-hub:evil/net"}),
    "timm, a folder": ("i3d", {"architecture": "local-dir:/tmp"}),
    "timm, a list": ("i3d", {"architecture": ["resnet18"]}),
    "timm, a number": ("i3d", {"architecture": 18}),
    "timm, a transformer": ("i3d", {"architecture": "vit_tiny_patch16_224"}),
    "timm, a large one": ("i3d", {"architecture": "convnextv2_huge"}),
    "transformer, no image": ("vivit", VIT | {"img_size": 0}),
    "transformer, large image": ("vivit", VIT | {"img_size": 4096, "overrides": {"patch_size": 1}}),
    "transformer, image of text": ("vivit", VIT | {"img_size": "224"}),
    "transformer, a convolutional one": ("vivit", VIT | {"architecture": "resnet18"}),
    "transformer, a list": ("vivit", VIT | {"overrides": [1]}),
    **{
        f"transformer, {name} {str(value)[:20]}": ("timesformer", VIT | {"overrides": {name: value}})
        for name, value in (
            *(("depth", 10**6), ("depth", -1), ("embed_dim", -1), ("embed_dim", 10**6), ("num_heads", 0)),
            *(
                ("num_heads", 7),
                ("patch_size", 0),
                ("patch_size", -16),
                ("patch_size", 4096),
                ("mlp_ratio", -1),
            ),
            *(("mlp_ratio", 10**6), ("reg_tokens", -1), ("reg_tokens", 10**6), ("act_layer", "os.system")),
            *(
                ("norm_layer", "evil"),
                ("global_pool", "evil"),
                ("init_values", -1),
                ("evil", 1),
                ("depth", [1]),
            ),
        )
    },
    "Swin, no image": ("video_swin", SWIN | {"img_size": 0}),
    "Swin, large image": ("video_swin", SWIN | {"img_size": 4096, "overrides": {"patch_size": 1}}),
    "Swin, a vision transformer": ("video_swin", SWIN | {"architecture": "vit_tiny_patch16_224"}),
    "a vision transformer, Swin": ("vivit", SWIN),
    **{
        f"Swin, {name} {str(value)[:20]}": ("video_swin", SWIN | {"overrides": {name: value}})
        for name, value in SWIN_OVERRIDES
    },
    "timm, with a tag": ("i3d", {"architecture": "resnet18.a1_in1k"}),
}


def crafted(example: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the name and the content of every crafted file.

    Args:
        example: a whole checkpoint, as `fuzz.checkpoints` writes it.
    """
    document, body = read(example)
    for way in KEYS:
        for what, value in WRONG_VALUES.items():
            yield f"{'.'.join(map(str, way[1:]))}, {what}", write(_with(document, way, value), body)
    for what, (model, arguments) in ARGUMENTS.items():
        yield f"argument, {what}", write(_of_family(document, model, arguments), body)
    for what, (model, spec) in SPECS.items():
        yield f"shape, {what}", write(_of_family(document, model, {"spec": spec}), body)
    for name in (
        "p3d_tiny",
        "p3d",
        "t3d",
        "i3d",
        "no_such",
        "P3D_TINY",
        "",
        "/etc/passwd",
        "p3d_tiny\x00",
        "p3d\n",
    ):
        yield f"model, {name!r}", write(_with(document, ("plain", "transfer3d.model"), name), body)
    for classes in (0, 1, 2, 4, 400, 1_000_000, 1_000_001):
        names = None if classes > 4 else [str(n) for n in range(classes)]
        other = _with(document, ("parsed", "transfer3d.num_classes"), classes)
        yield f"classes, {classes}", write(_with(other, ("parsed", "transfer3d.class_names"), names), body)
    for what, tensors in _tensors(document["tensors"]).items():
        yield f"tensors, {what}", write({**document, "tensors": tensors}, body)
    for what, content in _frames(example).items():
        yield f"frame, {what}", content


def _with(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    if value is MISSING:
        return without(document, way)
    if value is not TWICE:
        return changed(document, way, lambda _: value)
    if isinstance(way[-1], int):
        return changed(document, way[:-1], lambda parent: [*parent, parent[way[-1]]])

    def twice(parent: dict[str, Any]) -> Twice:
        rest = {key: inner for key, inner in parent.items() if key != way[-1]}
        table = Twice({**rest, way[-1]: parent.get(way[-1])})
        table.again = parent.get(way[-1])
        return table

    return changed(document, way[:-1], twice)


def _of_family(document: Any, model: str, arguments: dict[str, Any]) -> Any:
    own = document["parsed"]["transfer3d.model_args"] if model != "t3d" else {}
    own = {"spec": own["spec"]} if "spec" in own and model in ("p3d", "v4d", "f4d", "i3ds", "r3d") else {}
    if not own and "spec" not in arguments:
        model += "_tiny"
    document = _with(document, ("parsed", "transfer3d.model_args"), {**own, **arguments})
    return _with(document, ("plain", "transfer3d.model"), model)


def _tensors(rows: dict[str, Any]) -> dict[str, Any]:
    first, second, *_ = rows
    head = rows["head.weight"]

    def row(name: str, **changes: Any) -> dict[str, Any]:
        return {**rows, name: {**rows[name], **changes}}

    return {
        "none": {},
        "one missing": {name: value for name, value in rows.items() if name != first},
        "one more": {**rows, "evil": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        "many more": {
            **rows,
            **{f"evil{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)},
        },
        "renamed": {
            ("HEAD.weight" if name == "head.weight" else name): value for name, value in rows.items()
        },
        "overlapping": row(first, data_offsets=rows[second]["data_offsets"]),
        "backwards": row("head.weight", data_offsets=head["data_offsets"][::-1]),
        "zero size": row("head.weight", shape=[0, 2], data_offsets=[0, 0]),
        "huge": row("head.weight", shape=[2**40, 2**40]),
        "negative": row("head.weight", shape=[-3, -2]),
        "many axes": row("head.weight", shape=[1] * 10_000),
        "transposed": row("head.weight", shape=head["shape"][::-1]),
        "flat": row("head.weight", shape=[head["shape"][0] * head["shape"][1]]),
        "integers": row("head.weight", dtype="I32"),
        "other bits": row("head.weight", dtype="U32"),
        "unknown type": row("head.weight", dtype="F3"),
        "truth values": row("head.weight", dtype="BOOL"),
        "half": {name: {**value, "dtype": "F16"} for name, value in rows.items()},
        "complex": row("head.weight", dtype="C64", shape=[3, 1]),
        "float8": row("head.weight", dtype="F8_E4M3", shape=[3, 8]),
        "a path": {**rows, "../../evil": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        "no rows": dict.fromkeys(rows),
        "rows as lists": {name: list(value.values()) for name, value in rows.items()},
    }


def _frames(example: bytes) -> dict[str, bytes]:
    length = int.from_bytes(example[:8], "little")
    text, body = example[8 : 8 + length], example[8 + length :]

    def framed(header: bytes, said: int | None = None) -> bytes:
        return (len(header) if said is None else said).to_bytes(8, "little") + header + body

    def floats(value: bytes) -> bytes:
        return example[: 8 + length] + value * (len(body) // len(value))

    make: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "a byte": lambda: b"\x01",
        "eight bytes": lambda: example[:8],
        "half a header": lambda: example[: 8 + length // 2],
        "no body": lambda: example[: 8 + length],
        "half a body": lambda: example[: 8 + length + len(body) // 2],
        "a byte short": lambda: example[:-1],
        "a byte more": lambda: example + b"\0",
        "length 0": lambda: framed(text, 0),
        "length one less": lambda: framed(text, length - 1),
        "length one more": lambda: framed(text, length + 1),
        "length of the file": lambda: framed(text, len(example)),
        "length 2^63": lambda: framed(text, 2**63),
        "length 2^64-1": lambda: framed(text, 2**64 - 1),
        "not JSON": lambda: framed(b"x" * length),
        "zeros": lambda: framed(bytes(length)),
        "not UTF-8": lambda: framed(text.replace(b"head", b"h\xff\xfed")),
        "UTF-16": lambda: framed(text.decode().encode("utf-16")),
        "a byte order mark": lambda: framed(b"\xef\xbb\xbf" + text),
        "a list": lambda: framed(b"[]"),
        "a number": lambda: framed(b"7"),
        "null": lambda: framed(b"null"),
        "deep": lambda: framed(b"[" * 100_000 + b"]" * 100_000),
        "deep tables": lambda: framed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        "a long number": lambda: framed(b'{"a": ' + b"9" * 100_000 + b"}"),
        "metadata twice": lambda: framed(
            text.rstrip()[:-1] + b', "__metadata__": {"transfer3d.model": "evil"}}'
        ),
        "a tensor twice": lambda: framed(
            text.rstrip()[:-1] + b', "head.bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}'
        ),
        "metadata of numbers": lambda: framed(text.replace(b'"format":"pt"', b'"format":7')),
        "metadata as a list": lambda: framed(dumps({"__metadata__": []}).encode()),
        "no metadata": lambda: framed(
            json.dumps({k: v for k, v in json.loads(text).items() if k != "__metadata__"}).encode()
        ),
        "a large header": lambda: framed(text + b" " * 11_000_000),
        "NaN": lambda: floats(b"\x00\x00\xc0\x7f"),
        "infinity": lambda: floats(b"\x00\x00\x80\x7f"),
        "largest": lambda: floats(b"\xff\xff\x7f\x7f"),
        "ones": lambda: floats(b"\xff\xff\xff\xff"),
        "a pickle": lambda: b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
        "a zip": lambda: b"PK\x03\x04" + example,
        "text": lambda: b"not a checkpoint\n",
    }
    return {name: build() for name, build in make.items()}
