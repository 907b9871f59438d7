"""Spaces of searches: what fits, what is refused, and how values are drawn."""

import optuna
import pytest

from benchmark.base.errors import UserError
from studies.trials import (
    existing,
    open_study,
    suggest,
)
from studies.trials.trial import sampler as trial_sampler
from tests.studies.searches import TRIAL_PAPER, TRIAL_SPACE, prepared, started_search, url


def test_a_search_starts_from_the_baseline(preset, tmp_path):
    with pytest.raises(UserError, match="must be searched from 0 on: that is the baseline"):
        space = {**TRIAL_SPACE, "distill_weight": {"low": 0.1, "high": 0.9}}
        started_search(preset, tmp_path, space=space)
    with pytest.raises(UserError, match="'image_mask'.*did you mean image_mask_ratio"):
        started_search(
            preset,
            tmp_path,
            space={**TRIAL_SPACE, "image_mask": {"low": 0, "high": 1}},
            paper={**TRIAL_PAPER, "image_mask": 0},
        )


def test_shares_of_masked_words_sum_to_one(preset, tmp_path):
    room = {"low": 0.0, "high": 1.0}
    found = started_search(
        preset,
        tmp_path,
        space={**TRIAL_SPACE, "mask_share": room, "random_share": room},
        paper={**TRIAL_PAPER, "mask_share": 0.8, "random_share": 0.5},
    )
    shares = found.trial_spec(found.study.paper).strategy.text_mask_shares
    assert shares == pytest.approx((0.8, 0.1, 0.1))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"space": {**TRIAL_SPACE, "image_mask_ratio": {"low": 0.9, "high": 0.1}}},
            r"low \(0.9\) must be below high",
        ),
        (
            {"paper": {**TRIAL_PAPER, "image_mask_ratio": 0.9}},
            "lies outside the space in image_mask_ratio",
        ),
        (
            {
                "space": {**TRIAL_SPACE, "patch_size": {"choices": [8, 7]}},
                "paper": {**TRIAL_PAPER, "patch_size": 8},
            },
            "patch_size 7: mask patch size 7 does not divide the image size 64",
        ),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_anything_runs(preset, tmp_path, fields, said):
    with pytest.raises(UserError, match=said):
        started_search(preset, tmp_path, **fields)


def test_whole_numbers_stay_whole(preset, tmp_path):
    found = started_search(
        preset,
        tmp_path,
        space={**TRIAL_SPACE, "epochs": {"low": 1, "high": 3}},
        paper={**TRIAL_PAPER, "epochs": 2},
    )
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    values = suggest(found.study, trial)
    assert (
        isinstance(values["epochs"], int)
        and found.trial_spec(values).recipe.epochs == values["epochs"]
    )


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_of_one_trial_each_search_together(preset, tmp_path, sampler):
    """Every worker makes its sampler anew. Together they must not repeat themselves, and must
    find a plain optimum.
    """
    found, runs = prepared(preset, tmp_path, trials=22, sampler=sampler)

    def closed_form(trial):
        trial.study.sampler = trial_sampler(found.study, trial.number)
        return -abs(suggest(found.study, trial)["distill_weight"] - 0.3)

    for _ in range(22):
        open_study(found, url(runs)).optimize(closed_form, n_trials=1)
    trials = existing(found, url(runs)).trials
    assert len({tuple(trial.params.values()) for trial in trials}) == 22
    assert max(trial.value for trial in trials) > -0.05


def test_an_unknown_corruption_is_refused_before_anything_runs(preset, tmp_path):
    with pytest.raises(UserError, match="corruption 'frog' is not known: did you mean fog"):
        started_search(
            preset,
            tmp_path,
            objectives=["oiou", "corrupted_oiou"],
            corruptions=["frog"],
            severities=[3],
        )
