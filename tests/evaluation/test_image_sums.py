"""Records summed by image give the numbers of the records themselves."""

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.image_sums import ImageSums, same_expressions
from tests.evaluation.tables import random_table


def test_the_sums_are_those_of_pandas():
    records = random_table(0).sample(frac=1, random_state=0)
    summed = ImageSums.of(records)
    assert summed.points == metrics.compute(records)
    by_image = records.groupby("image_id")[["intersection", "union"]].sum()
    assert summed.images == len(by_image)
    np.testing.assert_array_equal(summed.named(["oiou"])[..., 0], by_image.to_numpy(float))
    assert [*summed.expressions.sentences] == sorted(records["sent_id"])


def test_intervals_and_differences_are_those_of_the_records():
    before, after = random_table(0), random_table(1)
    summed = [ImageSums.of(table) for table in (before, after)]
    assert bootstrap.intervals(*summed) == bootstrap.intervals(before, after)
    pairs = bootstrap.paired_differences({0: summed[0]}, {0: summed[1]})
    of_records = bootstrap.paired_differences({0: before}, {0: after})
    assert {name: its.value for name, its in pairs.items()} == {
        name: its.value for name, its in of_records.items()
    }
    assert pairs["oiou"].interval == of_records["oiou"].interval


def test_a_mean_over_seeds_has_the_interval_of_seeds_and_images():
    seeds = {seed: random_table(seed) for seed in range(3)}
    its = bootstrap.means(seeds)["miou"]
    values = [metrics.compute(table)["miou"] for table in seeds.values()]
    assert its.value == pytest.approx(np.mean(values)) and [*its.per_seed.values()] == values
    assert its.estimate.seed_deviation == pytest.approx(np.std(values, ddof=1))
    assert its.half_width == pytest.approx(its.estimate.half_width())
    alone = bootstrap.means({0: seeds[0]})["miou"]
    assert alone.interval == alone.over_images == bootstrap.intervals(seeds[0])["miou"]


def test_equal_numbers_are_equal_sums_and_expressions_are_kept_once():
    one, same, other = (ImageSums.of(random_table(seed)) for seed in (0, 0, 1))
    assert one == same and hash(one) == hash(same) and one != other
    assert one.expressions is same.expressions
    records = random_table(0)
    changed = ImageSums.of(records.assign(union=records["union"] + 1))
    assert changed != one and changed.expressions is one.expressions


def test_sums_about_other_expressions_are_refused_by_name():
    records = random_table(0)
    summed = {"one": ImageSums.of(records), "two": ImageSums.of(records.iloc[:-2])}
    with pytest.raises(UserError, match="2 of one are missing in two"):
        same_expressions(summed)
    moved = records.assign(image_id=records["image_id"].where(records["sent_id"] > 3, 99))
    with pytest.raises(UserError, match="has another image_id in one than in two"):
        same_expressions({"one": ImageSums.of(records), "two": ImageSums.of(moved)})
    with pytest.raises(UserError, match="the records table of two is damaged"):
        same_expressions({"one": records, "two": pd.concat([records, records])})


def test_the_weights_of_resamples_are_those_of_every_call():
    kept = [weights.copy() for weights in bootstrap._weights(7, 50)]
    again = [*bootstrap._weights(7, 50)]
    drawn = [*bootstrap._drawn_weights(7, 50)]
    for one, two, three in zip(kept, again, drawn, strict=True):
        assert one.dtype == np.float64 and (one == two).all() and (one == three).all()
        assert (one.sum(axis=1) == 7).all()
