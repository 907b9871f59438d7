"""How numbers are written in tables: two decimals, intervals in brackets, a dash for nothing."""

import math

from benchmark.evaluation import metrics

NOTHING = "–"
PERCENT = 100.0


def heading(metric: str) -> str:
    """Return what heads a column of a metric: its name for people, with a unit other than percent."""
    found = metrics.get(metric)
    return found.heading if found.unit == "percent" else f"{found.heading} ({found.unit})"


def factor(metric: str) -> float:
    """Return what a metric's values are multiplied by to be shown: 100 for fractions."""
    return metrics.get(metric).factor


def number(value: float, times: float = PERCENT, sign: str = "") -> str:
    """Return a value with two decimals, never as a negative zero, and a dash where it is NaN.

    Args:
        times: what it is multiplied by first; 100 shows a fraction in percent.
        sign: "+" shows the sign of positive values, too.
    """
    return NOTHING if math.isnan(value) else format(round(times * value, 2) + 0.0, f"{sign}.2f")


def plus_minus(mean: float, deviation: float, times: float = PERCENT) -> str:
    """Return `a ± b`, or the mean alone where the deviation is NaN."""
    spread = "" if math.isnan(deviation) else f" ± {number(deviation, times)}"
    return number(mean, times) + spread


def between(low: float, high: float, times: float = PERCENT) -> str:
    """Return `[low, high]`, or nothing where there is no interval."""
    return "" if math.isnan(low) else f"[{number(low, times)}, {number(high, times)}]"


def with_interval(
    mean: float, deviation: float, low: float, high: float, times: float = PERCENT
) -> str:
    """Return `a ± b [low, high]`, without what is NaN."""
    return f"{plus_minus(mean, deviation, times)} {between(low, high, times)}".rstrip()


def difference(value: float, low: float, high: float, times: float = PERCENT) -> str:
    """Return `+a [low, high]`, and a dash where the value is NaN."""
    if math.isnan(value):
        return NOTHING
    return f"{number(value, times, '+')} {between(low, high, times) or '(no interval)'}"
