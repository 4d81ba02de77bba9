"""The formats of a file of features: safetensors, and for other programs Parquet and npz."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer3d.errors import SetupError, UsageError, did_you_mean
from transfer3d.files import MAX_JSON_BYTES, atomic_path
from transfer3d.insight.features.file import FeatureMetadata, FeatureSet, header_of, save_features

COLUMNS = ("key", "source", "labels", "class")
ARRAYS = ("keys", "sources", "classes", "labels", "facts")


@dataclass(frozen=True)
class Format:
    """A file format of features.

    Attributes:
        name: name of the format; also the suffix of its files.
        write: writes features to a path, atomically.
        read_header: returns a file's layers and metadata; raises any error if the file has another format.
    """

    name: str
    write: Callable[[FeatureSet, Path], None]
    read_header: Callable[[Path], tuple[list[str], FeatureMetadata]]


def write_parquet(features: FeatureSet, path: Path) -> None:
    """Writes a table with a row per video and the columns `key`, `source`, `labels`, `class` and each layer.

    Labels are lists of int64, `class` is the first one's name, layers are lists of D float32. The schema's
    metadata have `facts` as JSON.

    Raises:
        SetupError: pyarrow is not installed, or the file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    names = [features.classes[labels[0]] if labels else None for labels in features.label_sets]
    labels = [list(label_set) for label_set in features.label_sets]
    described = (
        pyarrow.array(features.keys, pyarrow.string()),
        pyarrow.array(features.sources, pyarrow.string()),
        pyarrow.array(labels, pyarrow.list_(pyarrow.int64())),
        pyarrow.array(names, pyarrow.string()),
    )
    columns: dict[str, Any] = dict(zip(COLUMNS, described, strict=True))
    for name, tensor_ND in features.layers.items():
        flat = pyarrow.array(tensor_ND.flatten().numpy())
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, tensor_ND.shape[1])
    table = pyarrow.table(columns).replace_schema_metadata({"facts": features.metadata.model_dump_json()})
    with atomic_path(path) as partial:
        pyarrow.parquet.write_table(table, partial)


def write_npz(features: FeatureSet, path: Path) -> None:
    """Writes one float32 array `N D` per layer, and `keys`, `sources`, `classes`, `labels`, `facts`.

    Labels are int64, the first of each video, -1 if unlabelled; facts are JSON, the others strings.

    Raises:
        SetupError: the file cannot be written.
    """
    described = (
        np.array(features.keys),
        np.array(features.sources),
        np.array(features.classes, dtype=str),
        features.labels_N.numpy(),
        np.array(features.metadata.model_dump_json()),
    )
    layers = {name: tensor_ND.numpy() for name, tensor_ND in features.layers.items()}
    arrays: dict[str, Any] = {**dict(zip(ARRAYS, described, strict=True)), **layers}
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _header_of_parquet(path: Path) -> tuple[list[str], FeatureMetadata]:
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    return schema.names[len(COLUMNS) :], FeatureMetadata.model_validate_json(schema.metadata[b"facts"])


def _header_of_npz(path: Path) -> tuple[list[str], FeatureMetadata]:
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("facts.npy").file_size  # unpacked, before it takes memory
    if size > MAX_JSON_BYTES:
        raise ValueError(f"facts of {size} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        layers = [name for name in arrays.files if name not in ARRAYS]
        return layers, FeatureMetadata.model_validate_json(str(arrays["facts"]))


FORMATS = {
    format.name: format
    for format in (
        Format("safetensors", save_features, header_of),
        Format("parquet", write_parquet, _header_of_parquet),
        Format("npz", write_npz, _header_of_npz),
    )
}


def format_of(path: Path, name: str | None) -> Format:
    """Returns a format by its name, or else by the file's suffix.

    Raises:
        UsageError: there is no such format.
        SetupError: a required package is not installed.
    """
    format_name = path.suffix[1:] if name is None else name
    if format_name not in FORMATS:
        near = did_you_mean(format_name, FORMATS)
        raise UsageError(f"{path}: no format '{format_name}'{near}: must be one of {', '.join(FORMATS)}.")
    if format_name == "parquet":
        try:
            import pyarrow  # noqa: F401 - fails now rather than after the work
        except ImportError:
            raise SetupError(
                "Parquet needs pyarrow: install it with `pip install 'transfer3d[parquet]'`."
            ) from None
    return FORMATS[format_name]
