"""The table of what runs cost, and of what a strategy adds."""

import math

import pytest

from benchmark.runs.costs import Costs, Device
from reports import costs
from reports.collected import collect
from reports.compare import settings
from tests.reports.fakes import make_runs, make_spec, pick, plan

CPU = Device(type="cpu", name="Some CPU", processes=1, threads=2)
GPU = Device(type="cuda", name="Some GPU", processes=1, threads=4)


def measured(rate=100.0, gibibytes=1.0, hours=2.0, device=CPU, parameters=12_500_000):
    return Costs(
        parameters=parameters,
        trained_parameters=2_500_000,
        gflops=1234.5,
        training_images_per_second=rate,
        evaluation_expressions_per_second=0.0123,
        peak_bytes=int(gibibytes * 2**30),
        training_seconds=hours * 2700,
        evaluation_seconds=hours * 900,
        device=device,
    )


@pytest.fixture
def runs(tmp_path):
    """Return three seeds of the baseline and two of MaskRIS, as what is compared."""
    specs = [make_spec("baseline", seed) for seed in (0, 1, 2)]
    specs += [make_spec("maskris", seed) for seed in (0, 1)]
    make_runs(tmp_path, *specs)
    return settings(collect(plan(specs), tmp_path))


def keys(runs):
    (setting,) = runs
    return {
        run.key: (run.spec.strategy.name, seed)
        for by_seed in setting.strategies.values()
        for seed, run in by_seed.items()
    }


def costs_of(runs, **by_strategy):
    return {key: by_strategy[strategy](seed) for key, (strategy, seed) in keys(runs).items()}


def test_costs_are_means_over_seeds_and_ratios_over_shared_ones(runs):
    every = costs_of(
        runs,
        # The seed that MaskRIS lacks is slow, and enters the mean and not the ratio.
        baseline=lambda seed: measured(rate=(100.0, 50.0, 1.0)[seed], hours=1 + seed),
        maskris=lambda seed: measured(rate=25.0, gibibytes=1.5, hours=6.0),
    )
    table = costs.table(runs, every)
    assert table["strategy"].tolist() == ["baseline", "+MaskRIS"]
    plain, with_it = (pick(table, strategy=name) for name in table["strategy"])
    assert (plain["seeds"], with_it["seeds"]) == (3, 2)
    assert plain["training_images_per_second"] == pytest.approx(151 / 3)
    assert plain["hours"] == pytest.approx(2) and plain["peak_bytes"] == 2**30
    assert math.isnan(plain["step_time_ratio"])
    # Steps of 1/100 and 1/50 s became steps of 1/25 s.
    assert with_it["step_time_ratio"] == pytest.approx((2 / 25) / (1 / 100 + 1 / 50))
    assert with_it["memory_ratio"] == pytest.approx(1.5)
    assert with_it["hours_ratio"] == pytest.approx((6 + 6) / (1 + 2))
    assert with_it["parameters_added"] == 0


def test_runs_on_different_devices_are_not_averaged_or_compared(runs):
    every = costs_of(
        runs,
        baseline=lambda seed: measured(device=GPU if seed else CPU),
        maskris=lambda seed: measured(rate=50.0, device=GPU),
    )
    table = costs.table(runs, every)
    assert pick(table, device="Some CPU, 2 threads")["seeds"] == 1
    assert pick(table, device="Some GPU", strategy="baseline")["seeds"] == 2
    with_it = pick(table, strategy="+MaskRIS")
    assert with_it["seeds"] == 2 and with_it["step_time_ratio"] == pytest.approx(2)


def test_what_was_not_measured_is_said(runs):
    (block,) = costs.blocks(costs.table(runs, {}))
    assert block.title == "costs on refshapes (split by unc), device unknown"
    assert block.header == ("method", "strategy", "seeds")
    first, *_ = keys(runs)
    partly, _ = costs.blocks(costs.table(runs, {first: measured()}))
    assert len(partly.lines) == 1 and "–" not in partly.lines[0]
    times = Costs(training_seconds=3600.0, evaluation_seconds=1800.0)
    table = costs.table(runs, dict.fromkeys(keys(runs), times))
    assert set(table["device"]) == {"device unknown"} and set(table["hours"]) == {1.5}
    assert table["hours_ratio"].isna().all(), "nobody knows whether it was one device"


def test_the_table_has_units_and_three_digits(runs):
    every = costs_of(runs, baseline=lambda _: measured(), maskris=lambda _: measured(rate=30.0))
    cost, added = costs.blocks(costs.table(runs, every))
    assert cost.title == "costs on refshapes (split by unc), Some CPU, 2 threads"
    assert all("\n(" in heading for heading in cost.header[3:])
    numbers = ("3", "12.5", "2.50", "1234", "100", "0.0123", "1.00", "2.00")
    assert cost.lines[0] == ("cris tiny", "baseline", *numbers)
    assert cost.lines[1][0] == "", "a method is named once"
    (line,) = added.lines
    assert line[1:] == ("+MaskRIS", "3.33 ×", "1.00 ×", "1.00 ×", "+0")
    assert len(line) == len(added.header) and len(cost.lines[0]) == len(cost.header)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.07123, "0.0712"), (9.999, "10.0"), (12345.6, "12346"), (math.nan, "–")],
)
def test_significant_digits(value, text):
    assert costs.significant(value) == text
