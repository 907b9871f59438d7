"""Which comparisons are judged, in which family, and what they say.

Judged is one metric a comparison, the primary one of the plan, on test splits. The split that chose
the epoch is shown with its interval and never judged. Holm's family is what was planned, whatever
of it a table shows, and a planned comparison without three seed pairs counts as p = 1.
"""

import math

import pandas as pd

from benchmark.evaluation import metrics
from benchmark.evaluation.verdict import Estimate, judge
from benchmark.runs.groups import Group

POINTS = 100.0  # a margin is in points, differences are fractions


def with_verdicts(
    table: pd.DataFrame, group: Group, family: int, among: pd.Series | bool = True
) -> pd.DataFrame:
    """Return a table of comparisons with the columns `p_holm`, `verdict` and `needs`.

    Args:
        table: rows of `compare.compare`, with `supervision`, `role` and `metric`.
        group: whose primary metrics and margin count.
        family: number of planned comparisons.
        among: which rows may have a verdict, bool (rows,) [all].
    """
    primary = table["metric"] == table["supervision"].map(group.primary)
    shown = primary & table["difference"].notna() & among
    judged = shown & (table["role"] == "test")
    found = judge(
        [estimate(row) for row in table[judged].itertuples()], group.margin / POINTS, family
    )
    table = table.assign(p_holm=math.nan, verdict="", needs="")
    table.loc[shown & (table["role"] == "chosen on"), "verdict"] = "chosen on"
    table.loc[judged, "p_holm"] = [its.p for its in found]
    table.loc[judged, "verdict"] = [its.word for its in found]
    table.loc[judged, "needs"] = [its.why for its in found]
    return table


def estimate(row: object) -> Estimate:
    """Return the estimate of a row's difference, turned so that positive is an improvement."""
    sign = 1 if metrics.get(row.metric).higher_is_better else -1
    pairs = len(row.differences)
    return Estimate(sign * row.difference, pairs, row.seed_deviation, row.image_error)
