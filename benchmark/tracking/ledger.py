"""What the last pass brought a store to, kept beside the lock of the store.

A pass asks the store for what changed alone. It can do so only while the store is as the last pass
left it, so each experiment holds the digest of its part of the ledger. The digest is taken away
before anything is written and set again at the end. An interrupted pass, a second machine or a lost
file therefore only make the next pass look at every run of the experiment once.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmark.base.files import atomic_write
from benchmark.tracking.projection import digest


@dataclasses.dataclass
class Page:
    """What the ledger knows of one experiment.

    Attributes:
        ids: MLflow's id of each run, by run key or name of the parent.
        looks: run key -> what the directory looked like.
        reports: group -> what its report was made from.
        notes: group -> its part of the experiment's note.
        waiting: models that could not be registered, which the next pass tries again.
    """

    ids: dict[str, str] = dataclasses.field(default_factory=dict)
    looks: dict[str, str] = dataclasses.field(default_factory=dict)
    reports: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    waiting: list[str] = dataclasses.field(default_factory=list)

    @property
    def digest(self) -> str:
        """The digest that the experiment holds while the page says what it shows."""
        return digest(json.dumps(dataclasses.asdict(self), sort_keys=True).encode())


def read(path: Path) -> dict[str, Page]:
    """Return data set -> page. A file that is missing or damaged is an empty ledger."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return {dataset: Page(**page) for dataset, page in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write(path: Path, pages: dict[str, Page]) -> None:
    """Write the ledger, whole or not at all."""
    text = json.dumps({dataset: dataclasses.asdict(page) for dataset, page in pages.items()})
    atomic_write(path, lambda temporary: temporary.write_text(text))
