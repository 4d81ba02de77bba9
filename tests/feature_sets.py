"""Features drawn at random instead of extracted: classes are clouds of points, as far apart as is wanted."""

import numpy as np
import torch

from transfer3d.insight.features.file import FeatureMetadata, FeatureSet


def facts_of(**changes):
    """What a file of features says of itself; the same for all but for what is changed."""
    facts = {
        "checkpoint": "model.safetensors",
        "checkpoint_sha256": "00",
        "student": "p3d_tiny",
        "data": "videos/",
        "data_digest": "11",
        "split": "test",
        "views": {"places": "even", "count": 20},
        "precision": "fp32",
    }
    return FeatureMetadata(**{**facts, **changes})


def feature_set(classes=4, videos=10, width=12, apart=6.0, seed=0, name="train", per_source=1, **layers):
    """`videos` of each class; the clouds' centres are the same for every seed."""
    centres = apart * np.random.default_rng(99).standard_normal((classes, width))
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), videos)
    points = centres[labels] + rng.standard_normal((len(labels), width))
    return FeatureSet(
        keys=[f"{name}/{number}" for number in range(len(labels))],
        label_sets=[(int(label),) for label in labels],
        sources=[f"{name}-{number // per_source}" for number in range(len(labels))],
        classes=[f"class {label}" for label in range(classes)],
        layers={"pool5": torch.from_numpy(points).float(), **layers},
        metadata=facts_of(data_digest=f"{name} {seed}", split=name),
    )
