"""Features for other programs: Parquet, a row for each video, and NumPy's npz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from transfer3d.errors import SetupError, UsageError, did_you_mean
from transfer3d.files import atomic_path
from transfer3d.insight.features.file import FeatureSet, save_features

Writer = Callable[[FeatureSet, Path], None]


def write_parquet(features: FeatureSet, path: Path) -> None:
    """Writes a table with the columns `key`, `source`, `labels`, `class`, and one for each layer.

    Labels are lists of int64, `class` is the first one's name, layers are lists of D float32. The schema's
    metadata hold `facts` as JSON.

    Raises:
        SetupError: pyarrow is not installed, or the place cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    names = [features.classes[labels[0]] if labels else None for labels in features.label_sets]
    columns = {
        "key": pyarrow.array(features.keys, pyarrow.string()),
        "source": pyarrow.array(features.sources, pyarrow.string()),
        "labels": pyarrow.array(
            [list(labels) for labels in features.label_sets], pyarrow.list_(pyarrow.int64())
        ),
        "class": pyarrow.array(names, pyarrow.string()),
    }
    for name, tensor_ND in features.layers.items():
        flat = pyarrow.array(tensor_ND.flatten().numpy())
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, tensor_ND.shape[1])
    table = pyarrow.table(columns).replace_schema_metadata({"facts": features.facts.model_dump_json()})
    with atomic_path(path) as partial:
        pyarrow.parquet.write_table(table, partial)


def write_npz(features: FeatureSet, path: Path) -> None:
    """Writes one float32 array `N D` for each layer, and `keys`, `sources`, `classes`, `labels`, `facts`.

    Labels are int64, the first of each video, -1 where there is none; facts are JSON, the others strings.

    Raises:
        SetupError: the place cannot be written.
    """
    arrays = {
        "keys": np.array(features.keys),
        "sources": np.array(features.sources),
        "classes": np.array(features.classes, dtype=str),
        "labels": features.labels_N.numpy(),
        "facts": np.array(features.facts.model_dump_json()),
        **{name: tensor_ND.numpy() for name, tensor_ND in features.layers.items()},
    }
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


WRITERS: dict[str, Writer] = {"safetensors": save_features, "parquet": write_parquet, "npz": write_npz}


def writer_of(path: Path, name: str | None) -> Writer:
    """Returns what writes a format, by its name, or else by the file's.

    Raises:
        UsageError: there is no such format.
        SetupError: what it needs is not installed.
    """
    wanted = path.suffix[1:] if name is None else name
    if wanted not in WRITERS:
        near = did_you_mean(wanted, WRITERS)
        raise UsageError("E227", f"{path}: no format '{wanted}'{near}: there are {', '.join(WRITERS)}.")
    if wanted == "parquet":
        try:
            import pyarrow  # noqa: F401 - better missed before the work
        except ImportError:
            raise SetupError(
                "E565", "Parquet needs pyarrow: install it with `pip install 'transfer3d[parquet]'`."
            ) from None
    return WRITERS[wanted]
