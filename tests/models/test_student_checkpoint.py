"""The portable checkpoint: what it holds, and what is refused."""

import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import transfer3d
from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.models.checkpoint import load, save
from transfer3d.models.factory import create_model
from transfer3d.weights.metadata import read_metadata

NAMES = ["zero", "one", "two"]


@pytest.fixture(scope="module")
def student():
    made = create_model("t3d_tiny", num_classes=3, seed=5, stem_pool_t=2)
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return made


@pytest.fixture
def file(student, tmp_path):
    path = tmp_path / "student.safetensors"
    save(student, path, class_names=NAMES, provenance={"recipe": "none", "metrics": {"top1": 0.5}})
    return path


def test_round_trip(student, file):
    again = load(file)
    assert not again.training
    assert (again.model_name, again.model_args, again.clip) == ("t3d_tiny", {"stem_pool_t": 2}, student.clip)
    state = student.state_dict()
    assert list(state) == list(again.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_metadata(file):
    facts = read_metadata(file)
    assert facts.class_names == NAMES
    assert facts.num_classes == 3
    assert facts.version == transfer3d.__version__
    assert facts.provenance == {"recipe": "none", "metrics": {"top1": 0.5}}
    with safe_open(file, "pt") as opened:
        strings = opened.metadata()
    assert strings["format"] == "pt"
    expected = {
        *("version", "model", "model_args", "num_classes", "class_names", "clip", "provenance", "digest")
    }
    assert {key.removeprefix("transfer3d.") for key in strings} == expected | {"format"}
    assert json.loads(strings["transfer3d.clip"])["frames"] == 8


def test_needs_nothing_but_safetensors(student, file):
    fresh = create_model("t3d_tiny", num_classes=3, stem_pool_t=2)
    fresh.load_state_dict(load_file(file), strict=True)
    clips = torch.randn(1, 3, 8, 32, 32)
    assert torch.equal(fresh.eval()(clips), load(file)(clips))


def test_create_model_with_weights(file):
    assert create_model("t3d_tiny", weights=file).num_classes == 3
    assert create_model("t3d_tiny", weights=file, drop_rate=0.9).dropout.p == 0.9
    with pytest.raises(WeightsError, match=r"holds t3d_tiny, not densenet3d_tiny"):
        create_model("densenet3d_tiny", weights=file)
    with pytest.raises(WeightsError, match="3 classes, not 7"):
        create_model("t3d_tiny", weights=file, num_classes=7)


def test_channels_last_and_half_precision_are_saved_as_they_are(tmp_path):
    student = create_model("p3d_tiny", num_classes=2).to(memory_format=torch.channels_last_3d)
    save(student, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert all(torch.equal(p, q) for p, q in zip(student.parameters(), again.parameters(), strict=True))


def test_a_failed_write_leaves_the_old_file(student, file, monkeypatch):
    before = file.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transfer3d.models.checkpoint.save_file", full)
    with pytest.raises(SetupError, match="No space left"):
        save(student, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_class_names_must_match(student, tmp_path):
    with pytest.raises(UsageError, match="2 class names for 3"):
        save(student, tmp_path / "x.safetensors", class_names=["a", "b"])


def rewrite(path, change):
    """Rewrites a file's header and keeps its bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = change(data[8 : 8 + length].decode())
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data[8 + length :])


def spoil_meta(key, value):
    def change(text):
        header = json.loads(text)
        header["__metadata__"][f"transfer3d.{key}"] = value
        return json.dumps(header)

    return lambda path: rewrite(path, change)


def lie_about_offsets(path):
    def change(text):
        header = json.loads(text)
        header["head.bias"]["data_offsets"][1] += 4096
        return json.dumps(header)

    rewrite(path, change)


def twice(path):
    rewrite(
        path,
        lambda text: text.rstrip()[:-1] + ',"head.bias":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}',
    )


def rename_tensor(path):
    rewrite(path, lambda text: text.replace('"head.bias"', '"head.BIAS"'))


CORPUS = {
    "empty": (lambda path: path.write_bytes(b""), "0 bytes"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged"),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:500]), "damaged"),
    "header longer than the file": (
        lambda path: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"),
        "damaged",
    ),
    "header of 20 MB": (
        lambda path: path.write_bytes(struct.pack("<Q", 20_000_000) + b" " * 20_000_000),
        "damaged",
    ),
    "lying offsets": (lie_about_offsets, "damaged"),
    "a name twice": (twice, "twice"),
    "text": (lambda path: path.write_text("not a checkpoint, whatever its name says"), "damaged"),
    "a pickle": (lambda path: torch.save({"a": torch.zeros(3)}, path), "damaged"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    "missing": (lambda path: path.unlink(), "does not exist"),
    "another tensor's name": (rename_tensor, r"1 missing \(head.bias\); 1 unexpected \(head.BIAS\)"),
    "another architecture": (spoil_meta("model", "p3d_tiny"), "cannot be built"),
    "another depth": (spoil_meta("model", "t3d_densenet121"), "no t3d_densenet121 with 3 classes"),
    "an unknown architecture": (spoil_meta("model", "resnet_of_mine"), "no student 'resnet_of_mine'"),
    "other classes": (spoil_meta("num_classes", "4"), "3 class names for 4 classes"),
    "classes that are not a number": (spoil_meta("num_classes", "many"), "do not describe a student"),
    "arguments of another kind": (spoil_meta("model_args", '{"weights": "/etc/passwd"}'), "cannot be built"),
    "arguments that are no JSON": (spoil_meta("model_args", "{"), "do not describe a student"),
    "arguments of wrong types": (spoil_meta("model_args", '{"stem_pool_t": [[]]}'), "cannot be built"),
    "rows of another head": (
        lambda path: (spoil_meta("class_names", "null")(path), spoil_meta("num_classes", "4")(path)),
        r"4 classes, and head.weight has \[3\] rows",
    ),
    "integers for weights": (
        lambda path: rewrite(
            path, lambda text: text.replace('"head.bias":{"dtype":"F32"', '"head.bias":{"dtype":"I32"')
        ),
        "head.bias are torch.int32",
    ),
    "a giant": (
        spoil_meta("model_args", '{"spec": {"depths": [9, 9, 9, 9], "growth_rate": 999}}'),
        "missing",
    ),
}


@pytest.mark.parametrize("case", CORPUS)
def test_a_bad_file_is_refused_by_name(case, file):
    spoil, said = CORPUS[case]
    spoil(file)
    with pytest.raises(WeightsError, match=said) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_safetensors_of_another_program_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="not a transfer3d checkpoint"):
        load(path)


def test_nan_is_loaded_with_a_warning(student, tmp_path):
    broken = create_model("p3d_tiny", num_classes=2)
    torch.nn.init.constant_(broken.head.bias, float("nan"))
    save(broken, tmp_path / "nan.safetensors")
    with pytest.warns(UserWarning, match=r"NaN or infinite values in head\.bias"):
        load(tmp_path / "nan.safetensors")


def test_public_functions_are_found_on_the_package(file):
    assert transfer3d.load(file).num_classes == 3
    assert "t3d_tiny" in transfer3d.list_models()
    assert callable(transfer3d.inflate)
    assert callable(transfer3d.save)
    assert transfer3d.create_model("p3d_tiny").num_classes == 400
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = transfer3d.nothing_like_it


@pytest.mark.parametrize("model_args", [{}, {"stages": ["res3", "res4"]}])
def test_a_v4d_tiny_from_before_res4_had_a_block_is_what_it_was(tmp_path, model_args):
    """Then `res4` meant nothing in a stage of one bottleneck, and the kernel was the family's."""
    before = create_model("v4d_tiny", num_classes=3, stages=["res3"], kernel=[3, 3, 1, 1])
    before.model_args = model_args
    transfer3d.save(before, tmp_path / "old.safetensors")
    found = transfer3d.load(tmp_path / "old.safetensors")
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in before.named_parameters()]
    clips = torch.randn(1, 4, 3, 4, 32, 32)
    torch.testing.assert_close(found(clips), before.eval()(clips), rtol=0, atol=0)
    transfer3d.save(found, tmp_path / "again.safetensors")
    assert transfer3d.load(tmp_path / "again.safetensors").model_args["stages"] == ["res3.0"]


def test_a_v4d_without_a_block_that_it_always_had_is_refused(tmp_path):
    torn = create_model("v4d_tiny", num_classes=3, stages=["res4"], kernel=[3, 3, 1, 1])
    torn.model_args = {}
    transfer3d.save(torn, tmp_path / "torn.safetensors")
    with pytest.raises(WeightsError, match="no v4d_tiny with 3 classes: tensors .* missing .*res3.after0"):
        transfer3d.load(tmp_path / "torn.safetensors")
