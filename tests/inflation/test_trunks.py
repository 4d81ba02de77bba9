"""Every 2D trunk to every family that can take it: real sizes by their account, small ones by their proof."""

import pytest
import timm
import torch

from transfer3d import inflate
from transfer3d.inflation.rules import FRESH, WeightInflator
from transfer3d.inflation.source import SPEC_TYPES, read_source
from transfer3d.inflation.weight_report import check_complete
from transfer3d.models.factory import create_model
from transfer3d.models.registry import families, name_for

RESNET_FAMILIES = ("p3d", "i3ds", "r3d", "v4d", "f4d")
RESNETS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "test_resnet", "resnet18d", "resnet50d",
    "wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d", "seresnet18", "seresnet50", "seresnext50_32x4d",
)  # fmt: skip
DENSENET_FAMILIES = ("densenet3d", "t3d")
DENSENETS = ("densenet121", "densenet161", "densenet169", "densenet201", "test_densenet")
GOOGLENETS = ("googlenet", "test_googlenet")
PAIRS = [
    *((name, family) for name in RESNETS for family in RESNET_FAMILIES),
    *((name, family) for name in DENSENETS for family in DENSENET_FAMILIES),
    *((name, "i3d") for name in GOOGLENETS),
]
SMALL = {
    "resnet26d": {"channels": (16, 16, 32, 32), "layers": (2, 1, 2, 1)},
    "resnet10t": {"channels": (16, 16, 16, 32)},
    "wide_resnet50_2": {"channels": (8, 16, 16, 16), "layers": (1, 2, 1, 1)},
    "resnext50_32x4d": {"channels": (32, 32, 32, 32), "layers": (1, 1, 2, 1), "cardinality": 4},
    "seresnet50": {"channels": (32, 32, 32, 64), "layers": (1, 2, 1, 1)},
}


LARGE = ("seresnext50_32x4d", "densenet161", "googlenet")
"""Those whose account is closed in every test run; the others have theirs in the slow proof."""


@pytest.mark.parametrize("name, family", [pair for pair in PAIRS if pair[0] in LARGE])
def test_the_account_closes_at_the_real_size(name, family):
    """On the meta device: every tensor has its place and its shape; nothing is computed."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=7)
        source = read_source(model, next(kind for net, kind in SPEC_TYPES.items() if isinstance(model, net)))
        named = name_for(family, source.spec)
        args = {} if named else {"spec": source.spec}
        if "stride_in" in families()[family].options:
            args["stride_in"] = "spatial"
        student = create_model(named or family, num_classes=7, **args)
    tensors = model.state_dict()
    inflator = WeightInflator(tensors, source.modules, source.head, temporal_init="center", frozen_bn=False)
    account = check_complete(
        inflator.fill(student),
        targets=list(student.state_dict()),
        sources=list(tensors),
        fresh=FRESH,
        dropped="(?!)",
    )
    counts = account.counts()
    assert counts["inflated"] + counts["copied"] + counts["reshaped"] >= len(tensors)
    assert counts["inflated"] > 0 or family == "p3d"  # its time is in units of their own


VARIANTS = [(name, family) for name in SMALL for family in RESNET_FAMILIES]


@pytest.mark.parametrize(
    "name, family, temporal_init",
    [
        pytest.param(name, family, init, marks=[] if quick else [pytest.mark.slow])
        for index, (name, family) in enumerate(VARIANTS)
        for init, quick in zip(("center", "mean"), (index % 2, not index % 2), strict=True)
    ],
)
def test_variants_of_resnet_are_proved_in_every_family(name, family, temporal_init, randomise):
    """Every variant in every family with one rule of the two; the other one is slow."""
    model = randomise(timm.create_model(name, num_classes=5, in_chans=2, **SMALL[name]))
    done = inflate(model, family, temporal_init=temporal_init, proof_size=32)
    assert done.proof.verdict == "proved"
    assert done.proof.logits_difference is not None


@pytest.mark.parametrize("name, family", list(zip(SMALL, RESNET_FAMILIES, strict=True)))
def test_variants_of_resnet_with_random_kernels_and_a_new_head(name, family, randomise):
    model = randomise(timm.create_model(name, num_classes=5, in_chans=2, **SMALL[name]))
    done = inflate(model, family, temporal_init="random", num_classes=3)
    assert done.student.num_classes == 3
    assert done.proof.verdict == "nothing proved"


@pytest.mark.slow
@pytest.mark.parametrize("name, family", PAIRS)
def test_the_proof_at_the_real_size(name, family, image_model):
    """The account closes too, or there would be no proof."""
    assert inflate(image_model(name), family).proof.verdict == "proved"
