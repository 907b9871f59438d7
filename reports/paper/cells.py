"""What stands in one place of a paper's table: our number, the published one, and the verdict."""

import dataclasses
import math

from reports.layout import numbers
from reports.layout.numbers import NOTHING
from reports.layout.signs import look

BOLD = "better"  # the verdict that prints a number in bold, and nothing else does


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place of a paper's table.

    Attributes:
        times: what our fractions are multiplied by to be shown.
        value: our number, a fraction, or NaN where there is none.
        half_width: of its 95 % interval, or NaN.
        seeds: number of seeds that it is over.
        verdict: of its comparison with the row that it is compared with, or "".
        published: the paper's number as it is printed, or NaN where it prints none.
        why: why there is no number of ours, or "".
    """

    times: float
    value: float = math.nan
    half_width: float = math.nan
    seeds: int = 0
    verdict: str = ""
    published: float = math.nan
    why: str = ""

    @property
    def is_bold(self) -> bool:
        """Whether the verdict, and not a larger number, prints it in bold."""
        return self.verdict == BOLD

    @property
    def ours(self) -> str:
        """Our number as `57.37 ± 1.20 (3) ▲`, or why there is none."""
        sign = f" {its.sign}" if (its := look(self.verdict)) and self.verdict else ""
        if math.isnan(self.value):
            return (self.why or NOTHING) + sign
        width = (
            ""
            if math.isnan(self.half_width)
            else f" ± {numbers.number(self.half_width, self.times)}"
        )
        return f"{numbers.number(self.value, self.times)}{width} ({self.seeds}){sign}"

    @property
    def printed(self) -> str:
        """The published number, or a dash."""
        return NOTHING if math.isnan(self.published) else f"{self.published:.2f}"
