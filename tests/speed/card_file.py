"""Turns what `python -m tests.speed gpu` measured into the file of a card, which plans read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write, read_json, read_model
from benchmark.planning.cards import Card, Rates, Step

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
NEW = "python -m tests.speed gpu: each step is the median of several, with random weights"


def write(path: Path, measured: Iterable[Mapping[str, Any]]) -> Card:
    """Write the file of a card, or add to it.

    Args:
        path: the file. Its steps that were not measured again, and its data sheet, stay.
        measured: contents of files of `python -m tests.speed gpu`, the newest last.

    Returns:
        The card.

    Raises:
        UserError: the file is of another card, or the card itself was not measured.
    """
    values = read_json(path) if path.exists() else {}
    for content in measured:
        values = _merged(values, content, path)
    found = read_model(Card, values, f"card {path.name}")
    text = json.dumps(found.model_dump(exclude_none=True), indent=1) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return found


def _merged(known: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    card = content["card"]
    if card.get("state") != "measured" or "memory_bytes" not in card:
        raise UserError(
            f"{path} is not written, since no GPU was measured: run `gpu` again with more minutes"
            " on a machine that has one."
        )
    if known.get("card", card["card"]) != card["card"]:
        raise UserError(
            f"{path} is about {known['card']}, and this is {card['card']}: name another file with"
            " --card-file."
        )
    rates = {name: card[f"{name}_flops_per_second"] for name in PRECISIONS}
    steps = {_identity(step): step for step in known.get("steps", [])}
    for row in content["rows"]:
        # Plans tell the times of a network that is executed as it is by default.
        if row["kind"] == "step" and row["state"] == "measured" and not row.get("switch"):
            step = _step(row)
            steps[_identity(step)] = step
    return {
        "card": card["card"],
        "source": known.get("source", NEW),
        "memory_bytes": card["memory_bytes"],
        "peak": known.get("peak"),
        "measured": Rates(**rates, bytes=card["copy_bytes_per_second"]).model_dump(),
        "steps": [steps[name] for name in sorted(steps)],
    }


def _step(row: Mapping[str, Any]) -> dict[str, Any]:
    same = ("method", "variant", "strategy", "precision", "pairs", "flops", "peak_bytes")
    return Step(
        **{name: row[name] for name in same},
        passes=strategies.get(row["strategy"]).passes,
        seconds=row["median_seconds"],
        source="measured",
    ).model_dump()


def _identity(step: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(step[name] for name in ("method", "variant", "precision", "passes", "strategy"))
