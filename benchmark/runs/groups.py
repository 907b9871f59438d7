"""Which runs belong to a preset or a study: `runs/groups/<name>.json`, written when they are planned."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
Kind = Literal["preset", "study"]


@dataclasses.dataclass
class Group:
    """Runs that belong together.

    Attributes:
        name, kind: of the preset or study. keys: of its runs, sorted.
        trials: run key -> numbers of the trials of a search that are this run.
    """

    name: str
    kind: Kind
    keys: list[str] = dataclasses.field(default_factory=list)
    trials: dict[str, list[int]] = dataclasses.field(default_factory=dict)


def _read(path: Path) -> Group:
    try:
        return Group(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; delete it and start the same matrix or study again.") from None


def check_name(runs: Path, name: str, kind: Kind) -> None:
    """Check that a preset or study can be called `name`.

    Raises:
        UserError: it cannot be a file name, or a group of the other kind has it.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot name a preset or study: use letters, digits and . _ + - alone.")
    path = runs / "groups" / f"{name}.json"
    if path.exists() and (other := _read(path).kind) != kind:
        raise UserError(f"'{name}' is the name of a {other} in {runs}: give this {kind} another name.")


def write_group(
    runs: Path, name: str, kind: Kind, keys: Iterable[str], trials: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Add runs to a group; those that are in it stay, so a narrowed preset takes none out.

    Args:
        runs: folder of the run directories. name, kind: of the preset or study. keys: of its runs.
        trials: run key -> numbers of the trials of a search that are this run.

    Raises:
        UserError: as `check_name`, the file that is there is damaged, or it cannot be written.
    """
    check_name(runs, name, kind)
    path = runs / "groups" / f"{name}.json"
    before = _read(path) if path.exists() else None
    known = before or Group(name, kind)
    added = {key: list(numbers) for key, numbers in (trials or {}).items()}
    group = Group(name, kind, sorted({*known.keys, *keys}), {**known.trials, **added})
    if group != before:
        atomic_write(path, lambda aside: aside.write_text(json.dumps(dataclasses.asdict(group), indent=1) + "\n"))


def read_groups(runs: Path) -> list[Group]:
    """Return all groups, presets before studies, each kind by name; a damaged file raises a UserError."""
    found = [_read(path) for path in (runs / "groups").glob("*.json")]
    # MLflow shows a run under its first group: one that a study shares with a preset stays where it was.
    return sorted(found, key=lambda group: (group.kind, group.name))
