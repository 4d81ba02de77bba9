import pytest
import torch
from batch_norms import train_norms
from torch import nn

from transfer3d.models.image import create_image_model


def _randomise(model, seed=0):
    """Gives BatchNorm statistics and weights that are not trivial, so that no test passes by accident."""
    train_norms(model, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in model.parameters():
        if parameter.ndim == 1 and 0 < parameter.abs().max() < 1e-3:  # a layer scale, nearly off at first
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    for name, parameter in model.named_parameters():
        if (
            name.endswith("gain") and not parameter.any()
        ):  # of the branches of a normaliser-free network, off at first
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model


@pytest.fixture
def randomise():
    return _randomise


@pytest.fixture
def image_model():
    """Makes a timm model with random, untrivial weights."""

    def make(name, **kwargs):
        return _randomise(create_image_model(name, "none", **kwargs))

    return make
