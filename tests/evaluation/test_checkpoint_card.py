"""What travels with exported weights: numbers are the same everywhere, contradictions refused."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import methods
from benchmark.base.errors import UserError
from benchmark.data import tokenizers
from benchmark.evaluation import checkpoint_card, checkpoint_files, inference
from benchmark.evaluation.predict import evaluate
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from tests.helpers import tiny_spec


def made_run(boxes, folder, method, **changes):
    """Return a run with weights that were not trained, and where its data lie."""
    spec, places = tiny_spec(boxes, method, **changes)
    run = RunDir(folder / spec.key)
    run.create(spec)
    network = inference.build_method(spec, Opened(places).run(spec)[1])
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, run.path / "best.safetensors")
    return run, places


def other_training_split(boxes, folder):
    """Return a folder with the same val split and other training sentences."""
    shutil.copytree(boxes, folder)
    path = folder / "refcoco" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    for ref in refs:
        for sentence in ref["sentences"] if ref["split"] == "train" else ():
            sentence["sent"] = sentence["raw"] = f"quickly {sentence['sent']} over there"
    path.write_bytes(pickle.dumps(refs, protocol=2))
    return folder


@pytest.fixture(scope="module")
def made(boxes, tmp_path_factory):
    return made_run(boxes, tmp_path_factory.mktemp("runs"), "cris")


@pytest.fixture
def exported(made, tmp_path):
    run, places = made
    path = tmp_path / "out.safetensors"
    return checkpoint_files.export(run, places, inference.best_weights(run), "safetensors", path)


def rewritten(path, **changes):
    """Write other notes into an exported file."""
    with safe_open(path, "pt") as file:
        notes = {**file.metadata(), **changes}
        weights = {name: file.get_tensor(name) for name in file.keys()}
    save_file(weights, path, {name: value for name, value in notes.items() if value is not None})
    return path


def load(path, places, method=None, variant=None):
    return inference.load_checkpoint(path, method, variant, "refcoco", "unc", Opened(places), "cpu")


@pytest.mark.parametrize("method", ["cris", "lavt"])
@pytest.mark.parametrize("form", checkpoint_files.FORMS)
def test_an_export_gives_the_same_records_beside_another_training_split(
    boxes, method, form, tmp_path
):
    run, places = made_run(boxes, tmp_path / "runs", method)
    loaded = inference.load(run, Opened(places), "cpu")
    expected = evaluate(loaded.method, loaded.dataset, "val", loaded.tokenizer, loaded.device)

    out = tmp_path / f"out{checkpoint_files.FORMS[form]}"
    checkpoint_files.export(run, places, inference.best_weights(run), form, out)
    there = Places(other_training_split(boxes, tmp_path / "other"), runs=tmp_path)
    file = load(out, there)
    found = evaluate(file.method, file.dataset, "val", file.tokenizer, file.device)
    assert found.equals(expected)

    definition = methods.definition(method)
    trained_there = Opened(there).tokenizer(definition, run.spec().network, file.dataset)
    assert trained_there != file.tokenizer == loaded.tokenizer, "the other split has other pieces"


def test_an_export_is_evaluated_in_the_precision_of_its_run(boxes, tmp_path):
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4, "precision": "bf16"}
    run, places = made_run(boxes, tmp_path / "runs", "cris", recipes={"cris": recipe})
    loaded = inference.load(run, Opened(places), "cpu")
    out = tmp_path / "out.pth"
    checkpoint_files.export(run, places, inference.best_weights(run), "published", out)
    file = load(out, places)
    assert file.method.precision == loaded.method.precision == "bf16"
    same, other = (
        evaluate(its.method, its.dataset, "val", its.tokenizer, its.device)
        for its in (loaded, file)
    )
    assert same.equals(other)


def test_the_length_is_that_of_the_data_that_a_run_was_trained_on(made, exported):
    """CRIS' published networks read 22 ids where they were trained on RefCOCOg."""
    definition = methods.definition("cris")
    long = definition.config_for("paper-rn50", "refcocog")
    with safe_open(exported, "pt") as file:
        notes = file.metadata()
    with torch.device("meta"):
        needs = methods.get("cris")(long, 100).needs
    card = checkpoint_card.read(
        {
            **notes,
            "variant": "paper-rn50",
            "revision": str(definition.revision("paper-rn50", "fp16")),
            "precision": "fp16",
            "dataset": "refcocog",
            "network": long.model_dump_json(),
            "input": json.dumps(checkpoint_card._plain(needs)),
            "tokenizer": tokenizers.published_tokenizer("clip", made[1].weights).identity(),
        },
        "out.pth",
    ).model_copy(update={"vocabulary": None})
    opened = Opened(made[1])
    data = opened.dataset("refcoco", "unc")
    with torch.device("meta"):
        network, tokenizer, _ = inference._as_exported(card, None, None, data, opened, "out.pth")
    assert network.needs.max_length == 22 and tokenizer.size == 49408


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"revision": "77"}, r"of revision 77 of cris tiny, and this version has revision 2"),
        (
            {
                "variant": "paper",
                "revision": str(methods.definition("cris").revision("paper", "fp32")),
            },
            r"trained with network\.\w+ = .*evaluate it with the version",
        ),
        ({"variant": "huge"}, r"variant of cris 'huge' is not known"),
        ({"method": "crsi"}, r"did you mean cris"),
        ({"network": '{"size": 7777}'}, r"trained with network\.size = 7777, and this version has"),
        ({"network": '{"later": 1}'}, r"network\.later = 1, and this version has no such setting"),
        (
            {"input": '{"mean": [0.5, 0.5, 0.5]}'},
            r"trained with input\.mean = \[0\.5, 0\.5, 0\.5\]",
        ),
        ({"input": '{"max_length": 5}'}, r"trained with input\.max_length = 5"),
        ({"tokenizer": "f" * 16}, r"trained with other word pieces \(ffff"),
        ({"vocabulary": None}, "trained with other word pieces"),
        ({"vocabulary": "no JSON"}, "word pieces are damaged"),
        ({"network": "no JSON"}, r"notes beside its weights: network: invalid json"),
        ({"precision": "fp8"}, r"notes beside its weights: precision: "),
        ({"revision": "many"}, r"notes beside its weights: revision: "),
    ],
)
def test_what_contradicts_an_export_is_refused(made, exported, boxes, changes, message, tmp_path):
    there = Places(other_training_split(boxes, tmp_path / "other"), runs=tmp_path)
    with pytest.raises(UserError, match=message):
        load(rewritten(exported, **changes), there)


@pytest.mark.parametrize("method, variant", [("lavt", None), ("cris", "small"), (None, "paper")])
def test_options_that_contradict_an_export_are_refused(made, exported, method, variant):
    with pytest.raises(UserError, match="is of cris tiny, and not of .*: leave --method"):
        load(exported, made[1], method, variant)


def test_options_that_agree_with_an_export_change_nothing(made, exported):
    assert load(exported, made[1], "cris", "tiny").name == load(exported, made[1]).name


def test_word_pieces_that_no_file_says_are_not_guessed(made, exported):
    """An export of an earlier version has none, and neither has a bare state dict."""
    bare = rewritten(exported, network=None, input=None, vocabulary=None)
    with pytest.raises(UserError, match="does not hold the word pieces of its run"):
        load(bare, made[1], "cris", "tiny")
    with pytest.raises(UserError, match="does not say which network it is of"):
        load(bare, made[1])


def hostile_vocabularies():
    ids = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    for family, model in (
        ("bert", {"vocab": {"a": 0}}),
        ("bert", {"vocab": {**ids, "a": 7}}),
        ("bert", {"vocab": {**ids, "\ud800": 5}}),
        ("bert", {"vocab": ["a"]}),
        ("clip", {"vocab": {"<pad>": 0, "a": 1}, "merges": [["a", "b"]]}),
        ("clip", {"vocab": {"<pad>": 0, "a": 1}, "merges": [["a", "a"]]}),
        ("clip", {"vocab": {"<pad>": 0, "a": 1}, "merges": "aa"}),
        ("other", {"vocab": ids}),
    ):
        yield json.dumps({"family": family, "backend": json.dumps({"model": model})})
    yield json.dumps({"family": "bert", "backend": "[" * 100_000})
    yield "{}"


@pytest.mark.parametrize("text", list(hostile_vocabularies()))
def test_a_vocabulary_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="word pieces are damaged"):
        tokenizers.from_text(text)
