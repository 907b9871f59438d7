"""From paired differences to a verdict: how sure one strategy's advantage over another is.

Two things make a measured difference uncertain: the seeds that were trained and the images that
were tested on. The half-width of its interval at level a joins both (Howe 1974, and Graybill and
Wang 1980):

    h(a) = sqrt((t[n-1, 1-a/2] * s / sqrt(n))^2 + (z[1-a/2] * e)^2)

Here n is the number of seed pairs, s the sample standard deviation of their differences (ddof = 1),
and e the bootstrap standard error of the mean difference when images are resampled. The p-value is
the least a with |D| > h(a). All differences are fractions, as in `metrics`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.05
LEAST_PAIRS = 3  # two differences alone leave the deviation between seeds all but unknown
MOST_SEEDS = 1000
BISECTIONS = 36  # they leave a relative error of 1e-10 at most in a p-value
Word = Literal["better", "worse", "no relevant difference", "undecided", ""]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean difference over seed pairs, and what makes it uncertain.

    Attributes:
        value: D, the mean of the pairs' differences. Positive is an improvement.
        pairs: n, at least 1.
        seed_deviation: s, which is NaN for a single pair.
        image_error: e, which is NaN where it is not known.
    """

    value: float
    pairs: int
    seed_deviation: float
    image_error: float

    @classmethod
    def of(cls, differences: Sequence[float], image_error: float) -> "Estimate":
        """Return the estimate from the differences of all seed pairs, at least one."""
        # From the first one on, so that equal differences have a deviation of exactly 0.
        beyond = np.subtract(differences, differences[0])
        deviation = float(beyond.std(ddof=1)) if len(beyond) > 1 else math.nan
        return cls(differences[0] + float(beyond.mean()), len(beyond), deviation, image_error)

    def half_width(self, level: float = LEVEL) -> float:
        """Return h(level), which is NaN for a single pair."""
        return float(half_width(level, self.pairs, self.seed_deviation, self.image_error))

    def p_value(self) -> float:
        """Return the least level at which the interval excludes 0, or NaN below two pairs."""
        return float(p_values([self])[0])


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a comparison says.

    Attributes:
        word: the verdict. Fewer than three pairs have none, and it is "".
        p: the p-value after Holm, or NaN where there is no verdict.
        why: what would decide an undecided comparison or give it a verdict, else empty.
    """

    word: Word
    p: float
    why: str = ""


def half_width(
    level: float | np.ndarray,
    pairs: int | np.ndarray,
    seed_deviation: float | np.ndarray,
    image_error: float | np.ndarray,
) -> np.ndarray:
    """Return h(level) for arrays that broadcast, NaN where there is a single pair.

    Args:
        level: in (0, 1].
    """
    pairs = np.asarray(pairs, np.float64)
    degrees = np.where(pairs > 1, pairs - 1, np.nan)
    from_seeds = special.stdtrit(degrees, 1 - level / 2) * seed_deviation / np.sqrt(pairs)
    return np.hypot(from_seeds, special.ndtri(1 - level / 2) * image_error)


def p_values(estimates: Sequence[Estimate]) -> np.ndarray:
    """Return the p-values of no difference, float64 (estimates,), NaN below two pairs."""
    value, pairs, seed_deviation, image_error = (
        np.array([getattr(estimate, field.name) for estimate in estimates], np.float64)
        for field in dataclasses.fields(Estimate)
    )
    value, degrees = np.abs(value), np.where(pairs > 1, pairs - 1, np.nan)
    seed_error = seed_deviation / np.sqrt(pairs)

    def larger_of_both(value: np.ndarray) -> np.ndarray:
        """Return the larger p-value of the tests by seeds alone and by images alone."""
        with np.errstate(divide="ignore", invalid="ignore"):
            by_seeds = 2 * special.stdtr(degrees, -value / seed_error)
            by_images = 2 * special.ndtr(-value / image_error)
        return np.fmax(by_seeds, by_images)

    # h is at least the larger of its two parts and at most sqrt(2) times it, which bounds p. It
    # falls as the level rises, so the bounds are halved, on a logarithmic scale, until they meet.
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.log(larger_of_both(value)), np.log(larger_of_both(value / math.sqrt(2)))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            tail = np.exp(middle) / 2
            width = np.hypot(
                special.stdtrit(degrees, tail) * seed_error, special.ndtri(tail) * image_error
            )
            low, high = np.where(value > width, low, middle), np.where(value > width, middle, high)
        found = np.exp(high)
    found[(seed_error == 0) & (image_error == 0)] = 0.0
    found[value == 0] = 1.0
    return np.where(np.isnan(degrees + seed_error + image_error), np.nan, found)


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Return p-values adjusted for all tests of a family (Holm 1979), in the given order.

    NaN is no test and stays.

    Args:
        family: number of planned tests [those that are given]. Those beyond the given ones count
            as tests with p = 1.
    """
    given = np.asarray(p_values, np.float64)
    tests = np.flatnonzero(~np.isnan(given))
    count = max(family or 0, len(tests))
    order = tests[np.argsort(given[tests], kind="stable")]
    stepped = given[order] * (count - np.arange(len(order)))
    adjusted = np.full(given.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted.tolist()


def judge(estimates: Sequence[Estimate], margin: float, family: int | None = None) -> list[Verdict]:
    """Return the verdicts of a family of comparisons, in order.

    A comparison of fewer than three pairs counts as a test with p = 1 and has no verdict.

    Args:
        margin: differences below it are not relevant, a fraction above 0.
        family: number of planned comparisons [those that are given].
    """
    raw = p_values(estimates)
    raw[[its.pairs < LEAST_PAIRS or math.isnan(its.image_error) for its in estimates]] = 1.0
    adjusted = holm(raw.tolist(), family)
    return [_verdict(its, p, margin) for its, p in zip(estimates, adjusted, strict=True)]


def _verdict(estimate: Estimate, p: float, margin: float) -> Verdict:
    if estimate.pairs < LEAST_PAIRS:
        # A single pair is two checkpoints, which no number of images makes a verdict of.
        why = f"it takes at least {LEAST_PAIRS} seed pairs" if estimate.pairs > 1 else ""
        return Verdict("", math.nan, why)
    if p < LEVEL:
        return Verdict("better" if estimate.value > 0 else "worse", p)
    if abs(estimate.value) + estimate.half_width() < margin:
        return Verdict("no relevant difference", p)
    return Verdict("undecided", p, what_decides(estimate))


def what_decides(estimate: Estimate) -> str:
    """Return what would make the interval half as wide as the difference is large."""
    seeds = seeds_for(abs(estimate.value) / 2, estimate.seed_deviation, estimate.image_error)
    if seeds is None:
        return "more seeds cannot decide this: too few images"
    if seeds <= estimate.pairs:
        # Narrow enough alone, and not beside the other comparisons of the family.
        return "the comparison is one of many: fewer at a time, or more seeds"
    if seeds == MOST_SEEDS:
        return f"more than {MOST_SEEDS} seeds would be needed"
    return f"about {seeds} seeds would decide"


def seeds_for(width: float, seed_deviation: float, image_error: float) -> int | None:
    """Return the least number of seeds, from 3 on, whose half-width is at most `width`.

    Returns:
        None where the images alone make the interval wider. `MOST_SEEDS` stands for it and more.
    """
    if not special.ndtri(1 - LEVEL / 2) * image_error < width:
        return None
    seeds = np.arange(LEAST_PAIRS, MOST_SEEDS + 1)
    fits = half_width(LEVEL, seeds, seed_deviation, image_error) <= width
    return int(seeds[fits.argmax()]) if fits.any() else MOST_SEEDS


# --- before a run ---------------------------------------------------------------------------------


def power(
    difference: float, pairs: int, seed_deviation: float, image_error: float, family: int = 1
) -> float:
    """Return the probability that a true difference is found better or worse, rightly.

    The sample deviation of the seeds is integrated over its distribution. The comparison is tested
    at the level of Holm's first step, `LEVEL / family`, which is what it has where it is the only
    one of its family with a difference.

    Args:
        difference: the true one, a fraction of at least 0.
        pairs: planned, at least `LEAST_PAIRS`.
        seed_deviation: the true deviation of the pairs' differences.
        image_error: the standard error from the images.
        family: number of planned comparisons.
    """
    quantiles = (np.arange(2000) + 0.5) / 2000
    chi2 = 2 * special.gammaincinv((pairs - 1) / 2, quantiles)  # its quantiles
    ratio = np.sqrt(chi2 / (pairs - 1))
    width = half_width(LEVEL / family, pairs, seed_deviation * ratio, image_error)
    error = math.hypot(seed_deviation / math.sqrt(pairs), image_error)
    if error == 0:
        return float(difference > 0)
    return float(special.ndtr((difference - width) / error).mean())


def detectable(
    pairs: int,
    seed_deviation: float,
    image_error: float,
    family: int = 1,
    wanted: float = 0.8,
) -> float:
    """Return the smallest true difference that is found with a power of `wanted`.

    Args: as for `power`.
    """

    def lacking(difference: float) -> float:
        return power(difference, pairs, seed_deviation, image_error, family) - wanted

    # Wide enough for any deviation: the half-width at the largest deviations, and some errors more.
    most = 10 * half_width(LEVEL / family, pairs, seed_deviation, image_error)
    if most == 0:
        return 0.0
    # Imported here because plans with fewer pairs need not wait for it.
    from scipy import optimize

    return float(optimize.brentq(lacking, 0, most, xtol=1e-7))


def seeds_to_detect(
    difference: float,
    seed_deviation: float,
    image_error: float,
    family: int = 1,
    wanted: float = 0.8,
) -> int | None:
    """Return the least number of seeds, from 3 on, that find a true difference with such a power.

    Returns:
        None where no number up to `MOST_SEEDS` does: the images alone are too few.
    """

    def enough(seeds: int) -> bool:
        return power(difference, seeds, seed_deviation, image_error, family) >= wanted

    if not enough(MOST_SEEDS):
        return None
    # Power rises with the seeds.
    low, high = LEAST_PAIRS, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
