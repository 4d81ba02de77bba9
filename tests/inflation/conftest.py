import pytest
import torch
from torch import nn

from transfer3d.models.image import create_image_model


def _randomise(model, seed=0):
    """Gives BatchNorm statistics and weights that are not trivial, so that no test passes by accident."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    for parameter in model.parameters():
        if parameter.ndim == 1 and 0 < parameter.abs().max() < 1e-3:  # a layer scale, nearly off at first
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    for name, parameter in model.named_parameters():
        if (
            name.endswith("gain") and not parameter.any()
        ):  # of the branches of a normaliser-free network, off at first
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.eval()


@pytest.fixture
def randomise():
    return _randomise


@pytest.fixture
def image_model():
    """Makes a timm model with random, untrivial weights."""

    def make(name, **kwargs):
        return _randomise(create_image_model(name, "none", **kwargs))

    return make
