"""Every value of a preset is checked, and the message says where a wrong one stands."""

import pytest
import yaml

from benchmark.base.errors import UserError
from benchmark.planning.preset_check import check_preset
from benchmark.runs.preset import PRESETS, parse_preset, preset_names, read_preset
from tests.cli.commands import run

WRONG = [
    ({"methods": []}, "methods"),
    ({"methods": "cris"}, "methods"),
    ({"methods": ["cris", "cris"]}, "methods: cris stands there more than once"),
    ({"methods": ["criss"]}, "did you mean cris"),
    ({"strategies": ["maskriss"]}, "did you mean maskris"),
    ({"strategies": [["maskris"]]}, "strategies.0"),
    ({"variants": ["tiny", "big"]}, "variant of cris 'big'"),
    ({"datasets": ["combined:nonsense"]}, "way of splitting combined: 'nonsense'"),
    ({"datasets": ["refcco"]}, "did you mean refcoco"),
    ({"datasets": [3]}, "datasets.0"),
    ({"datasets": ["../x:unc"]}, "cannot name a file"),
    ({"seeds": []}, "seeds"),
    ({"seeds": 3}, "seeds"),
    ({"seeds": ["a"]}, "seeds.0"),
    ({"seeds": [True]}, "seeds.0"),
    ({"seeds": [-1]}, "seeds.0"),
    ({"seeds": [1, 1]}, "seeds: 1 stands there more than once"),
    ({"recipes": {"criss": {"epochs": 1}}}, "recipes: method 'criss' .* did you mean cris"),
    (
        {"recipes": {"cris": {"epochz": 1}}},
        "recipes: recipe of cris: field 'epochz' .* did you mean epochs",
    ),
    ({"recipes": {"cris": {"epochs": [1]}}}, "recipes: recipe of cris: epochs"),
    ({"recipes": {"cris": [1]}}, "recipes.cris"),
    ({"recipes": [1]}, "recipes"),
    ({"strategy": {"text_mask_ratoi": 0.1}}, "strategy: setting .* did you mean text_mask_ratio"),
    ({"strategy": {"text_mask_ratio": [1]}}, "strategy: strategy maskris: text_mask_ratio"),
    ({"strategy": 3}, "strategy"),
    ({"data": [1]}, "data"),
    ({"margin": 0}, "margin"),
    ({"margin": float("inf")}, "margin"),
    ({"margin": [1]}, "margin"),
    ({"jobs": 0}, "jobs"),
    ({"jobs": True}, "jobs"),
    ({"primary": {"full": "oiuo"}}, "primary: judged metric 'oiuo' .* did you mean oiou"),
    ({"primary": {"fll": "oiou"}}, "primary"),
    ({"selection": {"metric": "oiuo"}}, "selection: metric 'oiuo' .* did you mean oiou"),
    ({"selection": {"metric": "n_acc"}}, r"n_acc \(N-acc\) is not defined on refshapes"),
    ({"primary": {"full": "giou"}}, r"primary: giou \(gIoU\) is not defined on refshapes"),
    ({"selection": {"every": 0}}, "selection.every"),
    ({"report": ["refcoco"]}, "report: 'refcoco' names no split"),
    ({"execution": {"threads": 0}}, "execution: threads is 0"),
    ({"execution": {"log_every": 0}}, "execution: log_every is 0"),
    ({"execution": {"workers": -1}}, "execution: workers is -1"),
    ({"execution": {"workers": 1.5}}, "execution: workers is 1.5 and must be a whole number"),
    ({"execution": {"workers": [1]}}, "execution: workers is"),
    ({"execution": {"checkpoint_seconds": float("nan")}}, "execution: checkpoint_seconds is nan"),
    ({"execution": {"device": "cdua"}}, "did you mean cuda"),
    (
        {"robustness": {"splits": ["val"], "corruptions": ["fogg"]}},
        "robustness: .* did you mean",
    ),
    ({"robustness": {"splits": ["val"], "severities": []}}, "robustness: severities"),
    ({"robustness": {"splits": ["val"], "severities": [9]}}, "robustness: severity '9'"),
    ({"robustness": {"splits": []}}, "robustness: splits"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_a_wrong_value_is_refused_with_its_place(changes, message):
    whole = yaml.safe_load((PRESETS / "quick.yaml").read_text()) | changes
    with pytest.raises(UserError, match=message) as said:
        check_preset(parse_preset(yaml.safe_dump(whole), "own.yaml"), "own.yaml")
    assert "preset own.yaml" in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize("name", preset_names())
def test_the_shipped_presets_are_right(name):
    check_preset(read_preset(name), name)


@pytest.mark.parametrize(
    "command",
    [
        ["matrix"],
        ["plan"],
        ["run"],
        ["robustness"],
        ["study", "run", "components"],
    ],
)
def test_every_command_refuses_a_wrong_value_before_it_does_anything(command, tmp_path, capsys):
    whole = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(whole | {"selection": {"metric": "oiuo"}}))
    folders = [f"--{name}={tmp_path / name}" for name in ("runs", "data")]
    assert run(*command, "--preset", file, *folders) == 2
    shown = capsys.readouterr()
    said = " ".join((shown.out + shown.err).split())
    assert "own" in said and "selection: metric 'oiuo' is not known: did you mean oiou" in said
    assert [*tmp_path.iterdir()] == [file]


def test_a_metric_of_some_data_sets_is_planned_on_these():
    whole = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    changes = {"selection": {"metric": "giou"}, "primary": {"full": "giou", "weak": "giou"}}
    changes["datasets"] = ["grefcoco", "mine:unc"]
    check_preset(parse_preset(yaml.safe_dump(whole | changes), "own.yaml"), "own.yaml")
