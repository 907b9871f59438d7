"""Hours and memory by card: measured steps as they are, others scaled as computed by hand here."""

import json

import pytest
import torch

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.data.tokenizers import PUBLISHED_BERT_SIZE
from benchmark.planning import by_card, cards, estimates
from benchmark.planning.cards import Card, Rates, Step
from benchmark.planning.estimates import Wanted
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened
from benchmark.runs.preset import read_preset
from tests.cli.commands import run
from tests.helpers import PROJECT

FAST = Rates(fp32=100.0, tf32=200.0, bf16=400.0, fp16=400.0, bytes=30.0)
SLOW = Rates(fp32=50.0, tf32=100.0, bf16=100.0, fp16=100.0, bytes=10.0)


def step(**changes):
    values = {"method": "cris", "variant": "paper", "strategy": "baseline", "passes": 1}
    values |= {"precision": "fp32", "pairs": 4, "seconds": 8.0, "flops": 400.0}
    return Step(**values | {"peak_bytes": 10_000_000_000, "source": "measured"} | changes)


def card(steps=(), memory_bytes=20_000_000_000, **rates):
    return Card(card="one", source="a test", memory_bytes=memory_bytes, steps=steps, **rates)


def wanted(**changes):
    values = {"method": "cris", "variant": "paper", "strategy": "baseline", "passes": 1}
    return Wanted(**values | {"precision": "fp32"} | changes)


@pytest.fixture
def reference(monkeypatch):
    """Let one step of CRIS be all that is measured on the reference."""
    its = card((step(),), peak=FAST, measured=FAST)
    monkeypatch.setattr(estimates, "card", lambda name: its)
    return its


def test_a_measured_step_is_taken_as_it_is(reference):
    found = estimates.seconds(wanted(), reference)
    assert found == estimates.Seconds(2.0, "measured")
    published = card((step(source="published", seconds=4.0),), measured=SLOW)
    assert estimates.seconds(wanted(), published) == estimates.Seconds(1.0, "published")


def test_another_card_is_estimated_from_products_and_bandwidth(reference):
    # 100 operations of a pair are 1 of its 2 seconds there. On the slow card they take 2 seconds,
    # and the other second takes 3, as the bandwidth is a third.
    slow = card(measured=SLOW)
    assert estimates.seconds(wanted(), slow) == estimates.Seconds(5.0, "estimate")
    # In half precision, 100 operations take 1 second, and half of the bytes are moved.
    found = estimates.seconds(wanted(precision="fp16"), slow)
    assert found.value == pytest.approx(1.0 + 3.0 / 2)
    found = estimates.seconds(wanted(strategy="maskris", passes=2), slow)
    assert found.value == pytest.approx(2 * 5.0)


def test_another_variant_is_estimated_from_its_operations(reference, monkeypatch):
    monkeypatch.setattr(
        estimates,
        "_networks",
        lambda: {
            "cris": {
                "paper": {"gflops": 30.0, "parameters": 5e8, "trained_parameters": 1e8},
                "paper-rn50": {"gflops": 15.0, "parameters": 2e8, "trained_parameters": 2e8},
            }
        },
    )
    found = estimates.seconds(wanted(variant="paper-rn50"), reference)
    assert found == estimates.Seconds(1.0, "estimate")
    # 4 bytes a parameter and 12 a trained one are 3.2 GB of the 10 GB, so a pair takes 1.7 GB.
    memory = estimates.memory(wanted(), reference)
    assert memory.fixed == pytest.approx(3.2e9) and memory.of_pair == pytest.approx(1.7e9)
    assert memory.bytes(4) == 10_000_000_000 and memory.bytes(2) == pytest.approx(6.6e9)
    # 92 % of 20 GB leave 15.2 GB for pairs.
    assert memory.most_pairs(reference) == 8
    memory = estimates.memory(wanted(variant="paper-rn50", precision="bf16"), reference)
    # Autocast keeps a copy of 2 bytes a parameter, and half of the bytes of a pair.
    assert memory.fixed == pytest.approx(6 * 2e8 + 12 * 2e8)
    assert memory.of_pair == pytest.approx(1.7e9 / 2 / 2) and not memory.measured


def test_nothing_is_said_of_networks_that_nobody_measured(reference):
    assert estimates.seconds(wanted(variant="tiny"), reference) is None
    assert estimates.memory(wanted(method="lavt"), reference) is None


def test_a_card_that_was_not_measured_reaches_the_share_of_the_reference(monkeypatch):
    half = Rates(**{name: value / 2 for name, value in FAST})
    its = card(peak=FAST, measured=half)
    monkeypatch.setattr(cards, "card", lambda name: its)
    assert card(peak=SLOW).rates().fp16 == pytest.approx(50.0)
    assert card(peak=SLOW).rates().bytes == pytest.approx(5.0)


def test_the_shipped_cards_can_be_read_and_the_reference_has_all_methods():
    for name in cards.names():
        its = cards.card(name)
        assert its.peak and its.rates().bytes < its.peak.bytes
    reference = cards.card(cards.REFERENCE)
    assert {step.method for step in reference.steps} == {*methods.names()}
    for its in reference.steps:
        assert its.passes == strategies.get(its.strategy).passes


def test_misspelt_and_damaged_cards_are_named(tmp_path):
    with pytest.raises(UserError, match="did you mean h100"):
        cards.card("h10")
    assert cards.card("H100") == cards.card("h100")
    (tmp_path / "mine.json").write_text(json.dumps({"card": "x", "source": "y", "memory_bytes": 1}))
    with pytest.raises(UserError, match="needs the rates"):
        cards.card(str(tmp_path / "mine.json"))


def test_known_networks_are_the_published_ones():
    known = estimates._networks()
    assert {name: [*its] for name, its in known.items()} == {
        name: [its for its in methods.definition(name).variants if its.startswith("paper")]
        for name in methods.names()
    }


def test_known_networks_have_their_parameters():
    sizes = {"bert": PUBLISHED_BERT_SIZE, "clip": 49408}  # word pieces
    for name, variants in estimates._networks().items():
        definition = methods.definition(name)
        for variant, known in variants.items():
            with torch.device("meta"):
                network = methods.get(name)(definition.variants[variant], sizes[definition.text[0]])
            assert known["parameters"] == sum(its.numel() for its in network.parameters())
            groups = network.parameter_groups(definition.recipes[variant])
            trained = {id(its): its for group in groups for its in group["params"]}.values()
            count = sum(its.numel() for its in trained if its.requires_grad)
            assert known["trained_parameters"] == count


def rows(preset, its, **changes):
    preset = read_preset(preset).model_copy(update=changes)
    return by_card.on_card(preset, its, Opened(Places(PROJECT / "nowhere")))


def test_a_preset_on_a_card():
    found = {its.name: its for its in rows("paper", cards.card("h100"))}
    maskris = found["caris paper maskris"]
    # RefCOCO has 42,404 refs to train on, in 50 epochs.
    assert maskris.samples == 42404 * 50 and maskris.seeds == 3
    (measured,) = [
        its
        for its in cards.card("h100").steps
        if (its.method, its.strategy, its.precision) == ("caris", "maskris", "fp16")
    ]
    assert maskris.hours == pytest.approx(42404 * 50 / 16 * measured.seconds / 3600)
    assert maskris.step_seconds == pytest.approx(measured.seconds)
    assert maskris.bytes == measured.peak_bytes and maskris.memory_is_measured
    assert all(its.fits for its in found.values()) and by_card.advice([*found.values()]) == []
    total = 3 * sum(its.hours for its in found.values())
    assert by_card.total_hours([*found.values()]) == pytest.approx(total)


def test_a_small_card_gets_the_micro_batch_that_all_strategies_of_a_network_fit():
    found = rows("paper", cards.card("4090"), methods=("lavt", "etris"))
    assert [its.fits for its in found] == [False, False, True, True]
    for its in found:
        held = its.at_a_time * its.bytes
        assert held <= its.card.usable_bytes < held + its.bytes
    lavt = found[1]
    assert lavt.memory.bytes(8) <= lavt.card.usable_bytes < lavt.memory.bytes(16)
    (sentence,) = by_card.advice(found)
    assert "8 fit" in sentence and "`recipes: {lavt: {micro_batch: 8}}`" in sentence
    assert "BatchNorm and the loss would see 8 samples at a time in place of 32" in sentence
    tiny = cards.card("4090").model_copy(update={"memory_bytes": 2**30})
    (sentence,) = by_card.advice(rows("paper", tiny, methods=("lavt",)))
    assert "this card cannot train it" in sentence


def test_runs_that_make_targets_are_counted():
    found = rows("paper", cards.card("a100"), methods=("tris_step2",))
    assert [its.name for its in found] == [
        "tris paper baseline",
        "tris_step2 paper baseline",
        "tris_step2 paper maskris",
    ]


def test_the_command_shows_cards_without_data(capsys):
    assert run("plan", "--preset", "paper", "--card", "h100,3090", "--methods", "caris") == 0
    out = capsys.readouterr().out
    assert "NVIDIA H100 80GB HBM3" in out and "GeForce RTX 3090" in out and "micro_batch: 8" in out
    assert run("plan", "--preset", "quick", "--card", "h100", "--methods", "cris") == 0
    assert "Nobody has measured cris tiny" in capsys.readouterr().out
    for wrong in (("--card", "309"), ("--card", ""), ("--card", "3090", "--detect", "1")):
        assert run("plan", *wrong) == 2
