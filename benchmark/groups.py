"""Which runs belong to a preset or a study: `runs/groups/<name>.json`, written when they are planned."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from benchmark.errors import UserError
from benchmark.rundir import write_aside

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def _read(path: Path) -> list[str]:
    try:
        return list(json.loads(path.read_text())["keys"])
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; delete it and start the same matrix or study again.") from None


def write_group(runs: Path, name: str, kind: Literal["preset", "study"], keys: Iterable[str]) -> None:
    """Add runs to a group; those that are in it stay, so a narrowed preset takes none out.

    Args:
        runs: folder of the run directories. name: of the preset or study. keys: of its runs.

    Raises:
        UserError: the name cannot be a file name, the file that is there is damaged, or it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot name a preset or study: use letters, digits and . _ + - alone.")
    path = runs / "groups" / f"{name}.json"
    known = set(_read(path))
    if path.exists() and known.issuperset(keys := list(keys)):
        return
    content = {"name": name, "kind": kind, "keys": sorted(known.union(keys))}
    write_aside(path, lambda aside: aside.write_text(json.dumps(content, indent=1) + "\n"))


def read_groups(runs: Path) -> dict[str, list[str]]:
    """Return group -> keys of its runs, both sorted; a damaged file raises a UserError."""
    return {path.stem: sorted(_read(path)) for path in sorted((runs / "groups").glob("*.json"))}
