"""The 2D GoogLeNet against torchvision's, whose weights file it must take."""

from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from timm.models import get_pretrained_cfg
from torchvision.models import GoogLeNet_Weights
from torchvision.models import googlenet as torchvision_googlenet

from transfer3d.errors import SetupError, WeightsError
from transfer3d.files import sha256_file
from transfer3d.models.image import create_image_model, image_model_info


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
    facts = image_model_info(ours)
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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where torch keeps what it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


def test_its_weights_are_torchvision_s_own(theirs, home):
    url = GoogLeNet_Weights.IMAGENET1K_V1.url
    assert get_pretrained_cfg("googlenet").url == url
    home.mkdir(parents=True)
    torch.save(theirs.state_dict(), home / url.rpartition("/")[2])
    ours = create_image_model("googlenet")  # as torchvision would find them
    assert torch.equal(ours.fc.weight, theirs.fc.weight)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves a folder in the place of torchvision's server: the folder, and `ask(file)`."""
    folder = tmp_path / "served"
    folder.mkdir()
    seen = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_request(self, code="-", size="-"):
            seen.append(f"{self.command} {int(code)}")

        def log_error(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        Thread(target=made.serve_forever, daemon=True).start()

        def ask(file, address=f"http://127.0.0.1:{made.server_port}"):
            cfg = replace(get_pretrained_cfg("googlenet"), url=f"{address}/{file}")
            monkeypatch.setattr("transfer3d.models.image.get_pretrained_cfg", lambda name: cfg)
            return create_image_model("googlenet")

        yield folder, ask, seen
        made.shutdown()


def test_they_are_downloaded_once(theirs, home, server):
    folder, ask, seen = server
    torch.save(theirs.state_dict(), folder / "net.pth")
    name = f"net-{sha256_file(folder / 'net.pth')[:8]}.pth"
    (folder / "net.pth").rename(folder / name)
    for _ in range(2):
        assert torch.equal(ask(name).fc.weight, theirs.fc.weight)
    assert seen == ["HEAD 200", "GET 200"]
    assert [path.name for path in home.iterdir()] == [name]


def test_what_the_server_does_not_give(home, server):
    folder, ask, _ = server
    (folder / "net-12345678.pth").write_bytes(b"another file than its name says")
    for file, said in {"net-12345678.pth": "RuntimeError", "no.pth": "HTTPError"}.items():
        with pytest.raises(SetupError, match=rf"{said}.*--weights FILE.*--weights none"):
            ask(file)
    with pytest.raises(SetupError, match="URLError") as caught:
        ask("net.pth", "http://127.0.0.1:9")
    assert caught.value.exit_code == 5
    assert not list(home.glob("*"))


def test_its_halves_make_a_whole():
    net = create_image_model("test_googlenet", "none", num_classes=5, in_chans=2)
    images = torch.randn(2, 2, 64, 64)
    with torch.no_grad():
        maps = net.forward_features(images)
        torch.testing.assert_close(net.forward_head(maps), net(images))
        assert net.forward_head(maps, pre_logits=True).shape == (2, net.num_features)
