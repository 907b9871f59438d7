"""What the page calls each run, whether it is finished or has only begun."""

import dataclasses
from collections.abc import Sequence

from benchmark.runs.predictions import AnySpec
from reports import labels

LOOKS = 6  # strategies that the style sheet tells apart


def style(look: int) -> int:
    """Return the number of a strategy's style, which begins again after the last.

    The reference, which has 0, shares its own with none.
    """
    return look if look < LOOKS else 1 + (look - 1) % (LOOKS - 1)


@dataclasses.dataclass(frozen=True)
class Named:
    """A run as the page names it.

    Attributes:
        spec: its configuration.
        dataset: what it is trained on, such as `refcoco (unc)`.
        method: its method, variant, and what else tells it apart from others of the plan.
        strategy: label of its strategy.
        look: place of that strategy among all of the plan. The reference has 0.
    """

    spec: AnySpec
    dataset: str
    method: str
    strategy: str
    look: int

    @property
    def style(self) -> int:
        """The number of its strategy's color and dashes in the style sheet."""
        return style(self.look)

    @property
    def place(self) -> tuple[str, str]:
        """What panels and tables group runs by."""
        return self.dataset, self.method

    @property
    def text(self) -> str:
        """The whole name in one line."""
        return f"{self.method} {self.strategy}, seed {self.spec.seed}, {self.dataset}"


def named(specs: Sequence[AnySpec]) -> dict[str, Named]:
    """Return run key -> what the page calls it, in the order of data sets, methods and seeds.

    Args:
        specs: of every run of the plan that has begun. Unfinished ones take part in the names.
    """
    suffixes = labels.setting_suffixes({labels.setting(spec): spec for spec in specs})
    label_of = labels.label_of_strategy(specs)
    looks = {label: place for place, label in enumerate(labels.strategy_labels(specs))}
    every = []
    for spec in specs:
        strategy = label_of[labels.identity(spec.strategy)]
        columns = {
            "method": spec.method,
            "stage": spec.definition.stage if spec.definition else "",
            "variant": spec.variant,
            "settings": suffixes[labels.setting(spec)],
        }
        dataset = f"{spec.dataset} ({spec.split_by})"
        method = labels.method_label(columns)
        every.append(Named(spec, dataset, method, strategy, looks[strategy]))
    every.sort(key=lambda its: (*its.place, its.look, its.spec.seed))
    return {its.spec.key: its for its in every}
