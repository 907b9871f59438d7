"""TorchScript archives are read without the code in them."""

import os
import pickle
import zipfile

import pytest
import torch
from torch import Tensor, nn

from benchmark.base import torchscript, weights_files
from benchmark.base.errors import WorldError
from benchmark.evaluation import checkpoint_reading
from tests.base.archives import modules_of

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")

# Names of OpenAI's CLIP, at a tiny size.
STATE = {
    "visual.conv1.weight": torch.randn(4, 3, 2, 2).half(),
    "visual.bn1.running_mean": torch.randn(4).half(),
    "visual.bn1.num_batches_tracked": torch.tensor(7),
    "visual.layer1.0.downsample.0.weight": torch.randn(4, 4, 1, 1).half(),
    "transformer.resblocks.0.attn.in_proj_weight": torch.randn(12, 4).half(),
    "transformer.resblocks.10.mlp.c_fc.bias": torch.randn(16).half(),
    "token_embedding.weight": torch.randn(9, 4).half(),
    "text_projection": torch.randn(4, 5).half(),
    "logit_scale": torch.tensor(4.6),
    "input_resolution": torch.tensor(224),
}


def equal(found, expected):
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], value) and found[name].dtype == value.dtype
        for name, value in expected.items()
    )


def test_an_archive_gives_the_state_dict_of_its_module(tmp_path):
    module = modules_of(STATE)
    torch.jit.save(torch.jit.script(module), tmp_path / "x.pt")
    assert torchscript.is_torchscript(tmp_path / "x.pt")
    assert equal(torchscript.read(tmp_path / "x.pt"), STATE)
    assert equal(torch.jit.load(tmp_path / "x.pt").state_dict(), STATE), "torch says the same"
    assert equal(checkpoint_reading.read(tmp_path / "x.pt").weights, STATE)
    torch.save(STATE, tmp_path / "other.pt")
    assert not torchscript.is_torchscript(tmp_path / "other.pt")


class Rich(nn.Module):
    """Has what lies beside weights in an archive: lists, views, shared parts, plain values."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.weight = nn.Parameter(torch.arange(12.0).reshape(3, 4).t()[1:])
        self.sizes, self.names, self.rate, self.nothing = [1, 2], ["a", "b"], 0.5, None

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) @ self.weight.t() * self.rate * self.sizes[0] + len(self.names)


@pytest.mark.parametrize("how", ["script", "trace"])
def test_an_archive_of_a_network_that_computes(how, tmp_path):
    module = Rich().eval()
    if how == "script":
        scripted = torch.jit.script(module)
    else:
        scripted = torch.jit.trace(module, torch.zeros(2, 3))
    torch.jit.save(scripted, tmp_path / "x.pt")
    weights_files.check(tmp_path / "x.pt")
    assert equal(torchscript.read(tmp_path / "x.pt"), module.state_dict())


def rewritten(path, pickled):
    """Replace what an archive holds."""
    with zipfile.ZipFile(path) as file:
        members = {info.filename: (file.read(info), info.compress_type) for info in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, (content, compression) in members.items():
            changed = pickled if name.endswith("/data.pkl") else content
            file.writestr(name, changed, compress_type=compression)


@pytest.fixture
def archive(tmp_path):
    torch.jit.save(torch.jit.script(modules_of(STATE)), tmp_path / "x.pt")
    return tmp_path / "x.pt"


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_code_in_the_pickle_of_an_archive_is_not_run(archive, tmp_path):
    rewritten(archive, pickle.dumps(Hostile(tmp_path / "ran"), protocol=2))
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL \w+\.system"):
        torchscript.read(archive)
    assert not (tmp_path / "ran").exists()


PART = b"c__torch__.x\nM\n"


@pytest.mark.parametrize(
    "pickled, message",
    [
        (b"N.", "holds no module"),
        (b"}.", "holds no module"),
        (PART + b".", "holds no module"),
        (PART + b")\x81K\x01b.", "damaged"),
        (PART + b")\x81}X\x01\x00\x00\x00aX\x01\x00\x00\x00bQsb.", "damaged"),
        # Attributes of what a pickle refers to cannot be set.
        (PART + b"}X\x01\x00\x00\x00aK\x01sb.", "damaged"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "damaged"),
        (b"ctorch.jit._pickle\nx\nN}X\x08\x00\x00\x00__code__K\x01s\x86b.", "damaged"),
        (b"ctorch\nHalfStorage\n)R.", "damaged"),
    ],
)
def test_odd_archives_are_damaged(archive, pickled, message):
    rewritten(archive, b"\x80\x02" + pickled)
    with pytest.raises(ValueError, match=message):
        torchscript.read(archive)
    with pytest.raises(WorldError, match="is damaged or no checkpoint"):
        checkpoint_reading.read(archive)


def test_a_tensor_outside_of_its_storage_is_refused(archive):
    with zipfile.ZipFile(archive) as file:
        pickled = file.read("x/data.pkl")
    changed = pickled.replace(b"(K\x10t(", b"(K\x7ft(")
    assert changed != pickled, "the bias of 16 numbers becomes one of 127"
    rewritten(archive, changed)
    with pytest.raises(RuntimeError, match="out of bounds"):
        torchscript.read(archive)


def test_a_part_that_holds_itself_ends(archive):
    rewritten(archive, b"\x80\x02" + PART + b")\x81q\x01}X\x01\x00\x00\x00ah\x01sb.")
    assert torchscript.read(archive) == {}
