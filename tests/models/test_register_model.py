"""Any module as a student."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models import registry
from transfer3d.models.registry import families, list_models, register_model

CLIP = ClipSpec(frames=4, size=16)


class Small(nn.Module):
    """Feature maps of 6 channels, and a buffer that no state_dict holds."""

    num_features = 6

    def __init__(self, in_chans=3, *, width=5):
        super().__init__()
        self.first, self.second = nn.Conv3d(in_chans, width, 3, 2, 1), nn.Conv3d(width, 6, 1)
        self.register_buffer("gain", torch.full((1,), 2.0), persistent=False)

    def forward(self, clips):
        return self.second(self.first(clips).relu()) * self.gain


@pytest.fixture
def small(monkeypatch):
    for table in ("_FAMILIES", "_ENTRIES"):
        list_models()
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    register_model("small", clip=CLIP)(Small)
    return "small"


def test_no_image_network_is_inflated_to_it(small):
    with pytest.raises(UsageError, match="no image network can be inflated to small, a registered module"):
        transfer3d.inflate(transfer3d.create_model(small), small)
    done = CliRunner().invoke(app, ["inflate", "test_resnet", "--to", small, "--weights", "none"])
    assert done.exit_code == 2


def test_it_is_listed_built_and_pooled(small):
    assert small in list_models()
    assert transfer3d.is_model(small)
    assert small not in families()
    student = transfer3d.create_model(small, 3, width=7).eval()
    assert isinstance(student, transfer3d.VideoStudent)
    assert student.trunk.net.first.out_channels == 7
    clips = torch.randn(student.clip.shape(2))
    maps = student.trunk.net(clips)
    assert torch.equal(student.forward_features(clips), maps)
    torch.testing.assert_close(student(clips), student.head(maps.mean((2, 3, 4))))
    assert student.feature_info == [
        {"module": "net", "num_chs": 6, "reduction": 2, "temporal_reduction": 2, "index": 0}
    ]
    assert torch.equal(student.forward_intermediates(clips, intermediates_only=True)[0], maps)
    assert transfer3d.create_model(small, 0, in_chans=1).clip.mean == (sum(CLIP.mean) / 3,)


def test_it_is_saved_and_loaded(small, tmp_path):
    student = transfer3d.create_model(small, 3, width=7).eval()
    transfer3d.save(student, tmp_path / "small.safetensors")
    clips = torch.randn(student.clip.shape(2))
    assert torch.equal(transfer3d.load(tmp_path / "small.safetensors")(clips), student(clips))


def test_another_process_is_told_to_register_it(small, tmp_path):
    file = tmp_path / "small.safetensors"
    transfer3d.save(transfer3d.create_model(small, 3), file)
    code = (
        f"import transfer3d\ntry: transfer3d.load({json.dumps(str(file))})\nexcept ValueError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no student 'small'" in done.stdout
    assert "import the module that registers it" in done.stdout


def test_what_does_not_fit_is_refused(small):
    with pytest.raises(UsageError, match=r"no argument 'widht' \(did you mean 'width'\?\): it has in_chans"):
        transfer3d.create_model(small, widht=7)
    with pytest.raises(ValueError, match="'p3d_tiny' is taken"):
        register_model("p3d_tiny", clip=CLIP)(Small)
    with pytest.raises(ValueError, match="'small' is taken"):
        register_model("small", clip=CLIP)(nn.Identity)
    register_model("small", clip=CLIP)(Small)  # a cell of a notebook that is run again
    register_model("nothing", clip=CLIP)(nn.Identity)
    with pytest.raises(UsageError, match="Identity needs `num_features`"):
        transfer3d.create_model("nothing")

    @register_model("pooled", clip=CLIP)
    class Pooled(Small):
        def forward(self, clips):
            return super().forward(clips).mean((2, 3, 4))

    with pytest.raises(UsageError, match=r"Pooled returned a tensor of shape \(1, 6\): return feature maps"):
        transfer3d.create_model("pooled")(torch.randn(CLIP.shape(1)))


def test_pretrained_says_what_to_do():
    assert transfer3d.create_model("p3d_tiny", 3, pretrained=False).num_classes == 3
    with pytest.raises(UsageError, match=r"pass a checkpoint as `weights`, or inflate an image model"):
        transfer3d.create_model("p3d_tiny", pretrained=True)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a module as a package whose entry point registers students."""
    list_models()
    for table in ("_FAMILIES", "_ENTRIES"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[transfer3d.models]\n{name} = {name}\n")
        registry._load_families.cache_clear()

    yield install
    registry._load_families.cache_clear()


def test_an_installed_package_brings_students_to_every_command(installed, tmp_path):
    installed(
        "package_with_a_student",
        "import torch, transfer3d\n"
        "@transfer3d.register_model('from_a_package', clip=transfer3d.ClipSpec(frames=4, size=16))\n"
        "class Net(torch.nn.Conv3d):\n"
        "    num_features = 6\n"
        "    def __init__(self, in_chans=3):\n"
        "        super().__init__(in_chans, 6, 3)\n",
    )
    transfer3d.save(transfer3d.create_model("from_a_package", num_classes=2), tmp_path / "s.safetensors")
    for arguments in (["models", "from_a*"], ["info", str(tmp_path / "s.safetensors")]):
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, "from_a_package" in done.output) == (0, True), done.output


def test_a_package_that_does_not_import_is_left_out_in_a_sentence(installed, caplog):
    installed("broken_package", "import no_such_module")
    assert "p3d_tiny" in list_models()
    assert "broken_package are not available" in caplog.text
    assert "No module named 'no_such_module'" in caplog.text
