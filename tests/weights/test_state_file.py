"""Reading other people's weight files: nothing in them runs, and what is wrong is said."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from transfer3d.errors import WeightsError
from transfer3d.weights.state_file import is_finite, read_state

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.")


@pytest.mark.parametrize("name", ["w.pth", "misnamed.safetensors"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_state_dict_wrapped_or_not(name, wrapper, prefix, tmp_path):
    state = {f"{prefix}{key}": value for key, value in STATE.items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / name)
    assert_is_the_state(read_state(tmp_path / name))


@pytest.mark.parametrize("name", ["w.safetensors", "misnamed.pth"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_safetensors_whatever_their_name(name, prefix, tmp_path):
    save_file({f"{prefix}{key}": value for key, value in STATE.items()}, tmp_path / name)
    assert_is_the_state(read_state(tmp_path / name))


@pytest.mark.parametrize("length", [128, 384])
def test_a_header_whose_length_starts_like_a_pickle(length, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "w", metadata={"k": ""})
    short = int.from_bytes((tmp_path / "w").read_bytes()[:8], "little")
    save_file({"a": torch.ones(1)}, tmp_path / "w", metadata={"k": "x" * (length - short)})
    assert (tmp_path / "w").read_bytes()[0] == 0x80
    assert list(read_state(tmp_path / "w")) == ["a"]


def assert_is_the_state(found):
    assert set(found) == set(STATE)
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_a_prefix_that_not_every_name_has_stays(tmp_path):
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["module.a", "b"]


def test_pytorchs_old_format(tmp_path):
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert list(read_state(tmp_path / "old.pth")) == list(STATE)


class Payload:
    """Makes a folder when it is unpickled by someone who trusts it."""

    def __reduce__(self):
        return os.mkdir, ("PAYLOAD-RAN",)


class StatePayload:
    def __setstate__(self, state):
        os.mkdir("PAYLOAD-RAN")


class EvalPayload:
    def __reduce__(self):
        return eval, ("__import__('os').mkdir('PAYLOAD-RAN')",)


def zipped(path, member, **options):
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in parts.items():
            archive.writestr(name, member(name, data))


def tarred(path):
    with tarfile.open(path, "w") as archive:
        data = pickle.dumps(Payload())
        entry = tarfile.TarInfo("storages")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))


def evil_pickle(name, data):
    return pickle.dumps({"a": Payload()}, protocol=2) if name.endswith("data.pkl") else data


def payload(kind, **options):
    return lambda path: torch.save({"state_dict": {"a": kind()}}, path, **options)


def safetensors_header(header):
    text = header.encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(text)) + text)


OLD = {"_use_new_zipfile_serialization": False}
CORPUS = {
    "a payload": (payload(Payload), r"posix\.mkdir|nt\.mkdir"),
    "a payload in the old format": (payload(Payload, **OLD), "mkdir"),
    "eval": (payload(EvalPayload), "eval"),
    "a payload in __setstate__": (payload(StatePayload), "StatePayload"),
    "a bare pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), "beyond tensors"),
    "a payload put into a zip": (lambda path: zipped(path, evil_pickle), "mkdir"),
    "an old tar": (tarred, "damaged"),
    "a namespace beside the weights": (
        lambda path: torch.save({"state_dict": STATE, "args": SimpleNamespace(lr=1)}, path),
        "SimpleNamespace",
    ),
    "a whole module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "Linear"),
    "a zip bomb": (
        lambda path: zipped(path, lambda name, data: bytes(10_000_000), compression=zipfile.ZIP_DEFLATED),
        "unpack to more",
    ),
    "a truncated zip": (lambda path: (torch.save(STATE, path), cut(path)), "damaged"),
    "a truncated old file": (lambda path: (torch.save(STATE, path, **OLD), cut(path)), "cannot be read"),
    "0 bytes": (lambda path: path.write_bytes(b""), "0 bytes"),
    "text": (lambda path: path.write_text("weights? none here"), "damaged"),
    "a truncated safetensors": (lambda path: (save_file(STATE, path), cut(path)), "damaged"),
    "a header that lies about its length": (
        lambda path: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"),
        "damaged",
    ),
    "a header that lies about a tensor": (
        safetensors_header(json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}})),
        "damaged",
    ),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "nothing": (lambda path: None, "does not exist"),
    "a list": (lambda path: torch.save([torch.zeros(1)], path), "holds a list"),
    "an empty state dict": (lambda path: torch.save({}, path), "not a state dict"),
    "numbers": (
        lambda path: torch.save({"net": {"a": 1}, "epoch": 2}, path),
        "net, epoch are not tensors",
    ),
    "a tensor of one number that is repeated": (
        lambda path: torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path),
        "a are larger than what the file stores",
    ),
    "a repeated tensor in the old format": (
        lambda path: torch.save({"a": torch.zeros(2, 1).expand(2, 10**12)}, path, **OLD),
        "a are larger than what the file stores",
    ),
    "a sparse tensor": (
        lambda path: torch.save({"a": torch.eye(3).to_sparse()}, path),
        "a are not tensors",
    ),
}


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize("case", CORPUS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_bad_file_is_refused_and_nothing_in_it_runs(case, suffix, tmp_path, monkeypatch):
    make, said = CORPUS[case]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"bad.{suffix}"
    make(path)
    with pytest.raises(WeightsError, match=said) as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert "weights_only=False" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "PAYLOAD-RAN").exists()


def test_the_payloads_of_this_corpus_do_run_where_they_are_trusted(tmp_path, monkeypatch):
    """Else the test above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    for kind in (Payload, EvalPayload):
        pickle.loads(pickle.dumps(kind()))
        (tmp_path / "PAYLOAD-RAN").rmdir()


@pytest.mark.parametrize(
    "value, finite", [(0.0, True), (float("nan"), False), (float("inf"), False), (-float("inf"), False)]
)
def test_is_finite(value, finite):
    assert is_finite(torch.tensor([1.0, value, 2.0])) == finite


def test_nothing_is_finite():
    assert is_finite(torch.zeros(0))


@pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
def test_a_thousand_mutations_are_weights_or_refused(kind, tmp_path):
    """Bytes of the header, and of the pickle, changed at random: nothing else may come out."""
    path = tmp_path / "w"
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    rng = random.Random(7)
    outcomes = Counter()
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(min(len(data), 700))] = rng.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            outcomes[len(read_state(path)) > 0] += 1
        except WeightsError as error:
            outcomes[type(error)] += 1
    assert outcomes[WeightsError] > 100
    assert set(outcomes) <= {True, WeightsError}
