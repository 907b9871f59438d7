"""Published starting weights: local files of the right layout are read, others are refused."""

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from benchmark.base import pretrained
from benchmark.base.errors import UserError
from benchmark.base.pretrained import from_environment
from benchmark.data.tokenizers import published_tokenizer
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened
from benchmark.training.start import start_from_published
from methods.backbones import bert, swin
from methods.backbones.bert import BertSize
from methods.cris.method import CRIS
from methods.etris.method import ETRIS
from methods.lavt.config import LavtConfig
from methods.lavt.method import LAVT
from methods.tris.method import TRIS
from tests.base.archives import modules_of

SWIN = "swin_tiny_patch4_window7_224.ms_in22k"
SMALL_BERT = BertSize(hidden=32, layers=2, heads=2, intermediate=64, positions=24)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RISBENCH_PRETRAINED", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture(scope="module")
def swin_state():
    torch.manual_seed(1)
    return timm.create_model(SWIN, pretrained=False).state_dict()


def as_swins_authors(state):
    """Return timm's weights as Swin's authors store them: each stage ends with its merging."""
    renamed = {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)
    }
    for name, value in state.items():
        parts = name.replace("head.fc.", "head.").split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        renamed[".".join(parts)] = value
    return {"model": renamed}


def save_bert(folder, name="small-bert", old_names=False):
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    model = BertForMaskedLM(config)  # as published: with a head, and every name under `bert.`
    nn.init.normal_(model.bert.embeddings.LayerNorm.weight)
    model.save_pretrained(folder / name)
    if old_names:
        path = folder / name / "model.safetensors"
        renamed = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for key, value in load_file(path).items()
        }
        save_file(renamed, path, metadata={"format": "pt"})
    return model.bert.state_dict()


def test_swin_from_timms_file_and_from_its_authors(folder, swin_state):
    save_file(swin_state, folder / f"{SWIN}.safetensors")
    own = swin.starting_weights(SWIN, from_environment())
    assert torch.equal(
        own["layers.0.downsample.reduction.weight"],
        swin_state["layers.1.downsample.reduction.weight"],
    )
    (folder / f"{SWIN}.safetensors").unlink()
    torch.save(as_swins_authors(swin_state), folder / "swin_tiny_patch4_window7_224_22k.pth")
    again = swin.starting_weights(SWIN, from_environment())
    assert pretrained.digest(again) == pretrained.digest(own), (
        "the same weights, whatever file they came from"
    )
    with torch.device("meta"):
        network = LAVT(LAVT.definition.variants["paper-t"], 30522).network.backbone
    given = {name: value.shape for name, value in network.state_dict().items() if name in own}
    assert given == {name: value.shape for name, value in own.items()}
    assert all(
        name.startswith("norm") or "fusion" in name or "gate" in name
        for name in set(network.state_dict()) - set(own)
    )


def test_a_swin_file_that_lacks_a_part_is_refused(folder, swin_state):
    save_file(
        {k: v for k, v in swin_state.items() if "layers.2.blocks.3" not in k},
        folder / f"{SWIN}.safetensors",
    )
    with pytest.raises(
        UserError, match=r"could not be loaded.*huggingface\.co/timm/swin_tiny.*--pretrained"
    ):
        swin.starting_weights(SWIN, from_environment())


@pytest.mark.parametrize("old_names", [False, True])
def test_bert_from_a_folder(folder, old_names):
    expected = save_bert(folder, old_names=old_names)
    own = bert.starting_weights("small-bert", from_environment())
    assert own.keys() == bert.build(SMALL_BERT, 90).state_dict().keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)


def test_a_bert_that_lacks_a_part_is_refused(folder):
    save_bert(folder)
    path = folder / "small-bert" / "model.safetensors"
    cut = {
        name: value
        for name, value in load_file(path).items()
        if "layer.1.output.dense.weight" not in name
    }
    save_file(cut, path, metadata={"format": "pt"})
    with pytest.raises(
        UserError,
        match=r"encoder\.layer\.1\.output\.dense\.weight' is missing.*small-bert/ into a folder",
    ):
        bert.starting_weights("small-bert", from_environment())


def save_clip(folder, model):
    """Write a random CLIP as the hub has it, in half precision."""
    torch.manual_seed(3)
    state = open_clip.create_model(f"{model}-quickgelu").state_dict()
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    save_file(
        {key: value.contiguous() for key, value in half.items()}, folder / f"{model}.safetensors"
    )
    return half


@pytest.mark.parametrize(
    "kind, variant, model", [(CRIS, "paper-rn50", "RN50"), (ETRIS, "paper-vitb16", "ViT-B-16")]
)
def test_clip_from_the_hubs_file(folder, kind, variant, model):
    half, config = save_clip(folder, model), kind.definition.variants[variant]
    own = kind.weights.starting_weights(config, from_environment())
    for name in (
        "backbone.visual.conv1.weight",
        "backbone.transformer.resblocks.0.mlp.c_fc.weight",
    ):
        assert torch.equal(own[name], half[name.removeprefix("backbone.")].float())
    with torch.device("meta"):
        network = kind(config, 49408).network.state_dict()
    assert all(network[name].shape == value.shape for name, value in own.items())
    left = {name for name in network if name.startswith("backbone.") and name not in own}
    assert all("attnpool.connect" in name or "num_batches_tracked" in name for name in left)


def test_tris_takes_two_clips(folder):
    """The towers' and the frozen one's, each complete under the names of its network."""
    save_clip(folder, "RN50"), save_clip(folder, "ViT-B-32")
    config = TRIS.definition.variants["paper"]
    own = TRIS.weights.starting_weights(config, from_environment())
    with torch.device("meta"):
        method = TRIS(config, 49408)
    towers, helper = (
        {n: v.shape for n, v in part.state_dict().items()}
        for part in (method.network, method.auxiliary)
    )
    given = {name: value.shape for name, value in own.items()}
    assert {
        name.removeprefix("auxiliary."): s
        for name, s in given.items()
        if name.startswith("auxiliary.")
    } == helper
    assert all(
        towers[name] == shape for name, shape in given.items() if not name.startswith("auxiliary.")
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    "kind, variant, model",
    [(CRIS, "paper-rn50", "RN50"), (ETRIS, "paper-vitb16", "ViT-B-16"), (TRIS, "paper", "both")],
)
def test_openais_own_archives_give_the_key_of_the_hubs_files(folder, kind, variant, model):
    """They hold the same halves, and numbers about the network beside them."""
    models = ["RN50", "ViT-B-32"] if model == "both" else [model]
    states = {name: save_clip(folder, name) for name in models}
    config = kind.definition.variants[variant]

    def digest():
        places = Places(None, weights=from_environment())
        return Opened(places).weights_digest(kind.definition, config)

    expected = digest()
    for name, state in states.items():
        (folder / f"{name}.safetensors").unlink()
        numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
        tensors = state | {key: torch.tensor(value) for key, value in numbers.items()}
        torch.jit.save(torch.jit.script(modules_of(tensors)), folder / f"{name}.pt")
    assert digest() == expected


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_an_archive_of_another_network_is_refused(folder):
    torch.jit.save(torch.jit.script(modules_of({"visual.a": torch.ones(2)})), folder / "RN50.pt")
    with pytest.raises(
        UserError,
        match=r"'openai-RN50' could not be loaded.*fetch https://huggingface\.co/timm/resnet50_clip",
    ):
        CRIS.weights.starting_weights(CRIS.definition.variants["paper-rn50"], from_environment())


def test_what_libraries_report_stays_out_of_the_terminal(folder, capfd, caplog):
    """The file has a head that the encoder lacks, of which transformers makes a table."""
    save_bert(folder), save_clip(folder, "RN50")
    capfd.readouterr(), caplog.clear()
    bert.starting_weights("small-bert", from_environment())
    CRIS.weights.starting_weights(CRIS.definition.variants["paper-rn50"], from_environment())
    said = capfd.readouterr()
    assert (said.out, said.err, caplog.records) == ("", "", [])


@pytest.mark.parametrize(
    "read",
    [
        lambda: swin.starting_weights(SWIN, from_environment()),
        lambda: bert.starting_weights("small-bert", from_environment()),
    ],
)
def test_without_file_and_network_the_message_says_what_to_fetch(folder, read):
    with pytest.raises(
        UserError, match=r"fetch https://huggingface\.co/\S+ .* into a folder and name that folder"
    ):
        read()


def test_a_named_folder_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("RISBENCH_PRETRAINED", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="is not a folder"):
        published_tokenizer("bert", from_environment())


def digest_of(config):
    places = Places(None, weights=from_environment())
    return Opened(places).weights_digest(LAVT.definition, config)


def test_the_digest_is_of_the_weights_and_a_run_refuses_others(folder, swin_state):
    save_file(swin_state, folder / f"{SWIN}.safetensors")
    save_bert(folder)
    config = LavtConfig.published("tiny", 7, size=56).model_copy(
        update={"pretrained": f"{SWIN}+small-bert", "bert": SMALL_BERT}
    )
    method = LAVT(config, 90)
    spec = type("Spec", (), {"network": config, "weights": digest_of(config)})
    start_from_published(method, spec, from_environment())
    merged = method.network.state_dict()
    assert torch.equal(
        merged["backbone.patch_embed.proj.weight"], swin_state["patch_embed.proj.weight"]
    )
    assert torch.equal(
        merged["text_encoder.embeddings.word_embeddings.weight"],
        bert.starting_weights("small-bert", from_environment())[
            "embeddings.word_embeddings.weight"
        ],
    )
    changed = {**swin_state, "patch_embed.proj.bias": swin_state["patch_embed.proj.bias"] + 1e-6}
    save_file(changed, folder / f"{SWIN}.safetensors")
    assert digest_of(config) != spec.weights
    with pytest.raises(UserError, match="are not those of the run"):
        start_from_published(method, spec, from_environment())


def test_weights_of_another_size_are_refused(folder):
    with pytest.raises(UserError, match=r"do not fit this network \(first at 'weight'\)"):
        pretrained.start(nn.Linear(2, 2), {"weight": torch.zeros(3, 2)}, "some weights")
