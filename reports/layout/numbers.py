"""How numbers are written in tables.

They have two decimals, intervals stand in brackets, and a dash stands for nothing.
"""

import math

from benchmark.evaluation import metrics

NOTHING = "–"
PERCENT = 100.0


def heading(metric: str) -> str:
    """Return the heading of a metric's column, with the unit unless that is percent."""
    entry = metrics.get(metric)
    return entry.heading if entry.unit == "percent" else f"{entry.heading} ({entry.unit})"


def factor(metric: str) -> float:
    """Return what a metric's values are multiplied by to be shown, which is 100 for fractions."""
    return metrics.get(metric).factor


def number(value: float, times: float = PERCENT, sign: str = "") -> str:
    """Return a value with two decimals, or a dash if it is NaN.

    Args:
        value: the value.
        times: what it is multiplied by first. With 100 a fraction is shown in percent.
        sign: with "+" the sign of positive values is shown, too.
    """
    # Adding 0.0 makes a negative zero positive.
    return NOTHING if math.isnan(value) else format(round(times * value, 2) + 0.0, f"{sign}.2f")


def plus_minus(mean: float, deviation: float, times: float = PERCENT) -> str:
    """Return `a ± b`, or the mean alone if the deviation is NaN."""
    spread = "" if math.isnan(deviation) else f" ± {number(deviation, times)}"
    return number(mean, times) + spread


def between(low: float, high: float, times: float = PERCENT) -> str:
    """Return `[low, high]`, or nothing if there is no interval."""
    return "" if math.isnan(low) else f"[{number(low, times)}, {number(high, times)}]"


def with_interval(
    mean: float, deviation: float, low: float, high: float, times: float = PERCENT
) -> str:
    """Return `a ± b [low, high]`, without what is NaN."""
    return f"{plus_minus(mean, deviation, times)} {between(low, high, times)}".rstrip()


def p_value(p: float) -> str:
    """Return a p-value with two significant digits, and a dash where there is none."""
    if math.isnan(p):
        return NOTHING
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def difference(value: float, low: float, high: float, times: float = PERCENT) -> str:
    """Return `+a [low, high]`, or a dash if the value is NaN."""
    if math.isnan(value):
        return NOTHING
    return f"{number(value, times, '+')} {between(low, high, times) or '(no interval)'}"
