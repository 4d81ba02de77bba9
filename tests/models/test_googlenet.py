"""The 2D GoogLeNet against torchvision's, whose weights file it must take."""

import pytest
import torch
from torchvision.models import googlenet as torchvision_googlenet

from transfer3d.errors import WeightsError
from transfer3d.models.image import create_image_model, image_facts


@pytest.fixture
def theirs():
    """torchvision's net as its pretrained form is: with auxiliary classifiers, and converting its input."""
    torch.manual_seed(0)
    return torchvision_googlenet(
        weights=None, aux_logits=True, transform_input=True, init_weights=False, num_classes=7
    ).eval()


def test_takes_torchvision_s_file_and_answers_alike(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "googlenet.pth")
    ours = create_image_model("googlenet", str(tmp_path / "googlenet.pth"))
    assert ours.num_classes == 7
    pixels = torch.rand(2, 3, 75, 90)
    imagenet = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    facts = image_facts(ours)
    mean, std = (torch.tensor(values)[:, None, None] for values in (facts.mean, facts.std))
    with torch.no_grad():
        wanted = theirs((pixels - imagenet[0]) / imagenet[1])
        found = ours((pixels - mean) / std)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_file_that_lacks_a_tensor_is_refused(theirs, tmp_path):
    state = theirs.state_dict()
    del state["inception4c.branch2.1.bn.running_var"]
    torch.save(state, tmp_path / "googlenet.pth")
    with pytest.raises(WeightsError, match="running_var"):
        create_image_model("googlenet", str(tmp_path / "googlenet.pth"))


def test_has_no_pretrained_weights_on_the_hub():
    with pytest.raises(WeightsError, match="--weights FILE"):
        create_image_model("googlenet", "timm")


def test_its_halves_make_a_whole():
    net = create_image_model("test_googlenet", "none", num_classes=5, in_chans=2)
    images = torch.randn(2, 2, 64, 64)
    with torch.no_grad():
        maps = net.forward_features(images)
        torch.testing.assert_close(net.forward_head(maps), net(images))
        assert net.forward_head(maps, pre_logits=True).shape == (2, net.num_features)
