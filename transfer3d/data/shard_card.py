"""The README of a folder of shards, whose front matter has splits, columns and classes for HF `datasets`.

Keys and types are those of a dataset card (https://huggingface.co/docs/hub/datasets-manual-configuration, and
`Features` of datasets). Without them `datasets` only inspects the first samples: it takes all shards for one
split, classes have no names, and a second container format among the videos is an error.
"""

from __future__ import annotations

from transfer3d.data.shards import Index

CARD = "README.md"


def shard_card(index: Index) -> str:
    """Returns the README: the same text for the same index.

    Args:
        index: index of the shards beside it, whose files are named `NAME-SPLIT-*.tar`.
    """
    from huggingface_hub import DatasetCardData

    text = {"name": "json", "struct": [_column("source", "string"), _column("frames", "int64")]}
    if any(sample.labels for shard in index.shards for sample in shard.samples):
        text["struct"].append({"name": "labels", "list": "int64"})
    suffixes = sorted({sample.suffix for shard in index.shards for sample in shard.samples})
    features = [_column("__key__", "string"), *(_column(suffix, "video") for suffix in suffixes), text]
    if index.classes:
        names = {str(label): name for label, name in enumerate(index.classes)}
        features.append({"name": "cls", "dtype": {"class_label": {"names": names}}})
    front = DatasetCardData(
        task_categories=["video-classification"],
        tags=["webdataset", "transfer3d"],
        configs=[
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"{index.name}-{split}-*.tar"} for split in index.counts
                ],
            }
        ],
        dataset_info={
            "features": features,
            "splits": [{"name": split, "num_examples": count} for split, count in index.counts.items()],
        },
    )
    rows = [f"| {split} | {count} |" for split, count in index.counts.items()]
    lines = [
        f"---\n{front.to_yaml().strip()}\n---",
        f"# {index.name}",
        "Videos as webdataset shards, written by transfer3d. `index.json` has the sha256 of every video. The "
        "licence is that of the original videos.",
        "\n".join(["| split | videos |", "| --- | ---: |", *rows]),
        '```python\nimport datasets\n\nvideos = datasets.load_dataset("FOLDER")\n```',
        "```bash\ntransfer3d finetune p3d_resnet50 --data FOLDER\n```",
    ]
    return "\n\n".join(lines) + "\n"


def _column(name: str, dtype: str) -> dict[str, str]:
    return {"name": name, "dtype": dtype}
