"""Reads third-party weight files without executing anything in them.

The format is recognised by the first bytes, not by the file's name. PyTorch's own files are pickles: they are
opened with `weights_only=True`, which allows only tensors and plain containers; no option turns that off.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from transfer3d.errors import WeightsError
from transfer3d.weights.header import LENGTH_BYTES, abbreviate, read_header, refuse_no_file

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
HEADER_MAGIC = b"{"
"""The first byte of a safetensors header, after its length, which may look like a pickle's."""
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state", "model")
"""Keys under which training programs put the state dict, an averaged one first."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every name."""
MAX_REPEATED_BYTES = 1 << 30
"""Of tensors that store less than their size, as `expand` makes them: a small file could fill any memory."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Returns the state dict of a file, on the CPU; wrappers around it are removed.

    Args:
        path: safetensors, or a PyTorch file that holds nothing but weights.

    Raises:
        WeightsError: the file does not exist, is damaged, or contains more than weights.
    """
    refuse_no_file(path)
    with path.open("rb") as file:
        start = file.read(LENGTH_BYTES + 1)
    if start.startswith(ZIP_MAGIC):
        _refuse_inflating_zip(path)
        return _state_in(path, _load_pickle(path))
    if start.startswith(PICKLE_MAGIC) and not start.endswith(HEADER_MAGIC):
        return _state_in(path, _load_pickle(path))
    read_header(path)
    try:
        return _state_in(path, load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: damaged ({error}): copy or write it again.") from error


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite; found without a mask of the tensor's size."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    narrow = tensor.float() if tensor.element_size() == 1 else tensor  # torch has no aminmax for float8
    return all(bool(end.isfinite()) for end in narrow.aminmax())


def warn_of_non_finite(tensors: Mapping[str, Tensor], where: str = "") -> None:
    """Warns of tensors with NaN or infinite values; `where` begins the message."""
    if bad := [name for name, tensor in tensors.items() if not is_finite(tensor)]:
        warnings.warn(f"{where}NaN or infinite values in {abbreviate(bad)}", stacklevel=4)


def _refuse_inflating_zip(path: Path) -> None:
    """Raises WeightsError for compressed members: PyTorch never writes them, so this may be a zip bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: damaged ({error}): copy or write it again.") from error
    compressed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if compressed or sum(member.file_size for member in members) > path.stat().st_size:
        raise WeightsError(
            f"{path}: its members unpack to more than the file ({abbreviate(compressed) or 'overlapping'}): "
            "no PyTorch weights are stored so; get it from another source."
        )


def _load_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # given a path, torch would choose the format by its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise any type
        text = str(error)
        refused = re.search(r"GLOBAL ([\w.]+)", text)
        if refused or "Unsupported" in text:
            what = f"`{refused[1]}`" if refused else "an instruction beyond tensors"
            raise WeightsError(
                f"{path}: asks to run {what}, which weights do not need: it is not opened. "
                "Save the state dict alone, best as safetensors."
            ) from None
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        raise WeightsError(f"{path}: its weights cannot be read ({reason}): copy it again.") from error


def _state_in(path: Path, loaded: Any) -> dict[str, Tensor]:
    """Unwraps a state dict and strips prefixes shared by all names."""
    state = loaded
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path}: holds a {type(state).__name__}, not a state dict: give another file.")
    others = [str(name) for name, value in state.items() if not _is_plain_tensor(name, value)]
    if others:
        raise WeightsError(
            f"{path}: not a state dict: {abbreviate(others)} are not tensors. Save the state dict alone."
        )
    tensors: dict[str, Tensor] = dict(state)
    repeated = {n: t.nbytes for n, t in tensors.items() if t.nbytes > t.untyped_storage().nbytes()}
    if sum(repeated.values()) > MAX_REPEATED_BYTES:
        raise WeightsError(
            f"{path}: {abbreviate(list(repeated))} are larger than what the file stores of them, as by "
            "`expand`. Save contiguous tensors."
        )
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _is_plain_tensor(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_meta
        and not value.is_complex()
    )
