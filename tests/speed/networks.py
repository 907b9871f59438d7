"""Measures what `benchmark/planning/networks.json` says of the published networks.

    python -m tests.speed networks

It says what no card changes: the operations of a forward pass, and the numbers of parameters.
"""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import methods
from benchmark.base.files import atomic_write
from benchmark.evaluation.inference import build_method
from benchmark.planning.estimates import NETWORKS
from benchmark.training import costs
from benchmark.training.start import build_optimizer
from tests.speed.gpu_rows import Bench, Row, prepare, spec_of

SOURCE = (
    "python -m tests.speed networks: torch's flop counter, of the forward pass of one pair as"
    " evaluation computes it (two operations a multiplication with its addition)"
)


def published(name: str) -> list[str]:
    """Return the published variants of a method, which networks trained from scratch are not."""
    return [its for its in methods.definition(name).variants if its.startswith("paper")]


def network(name: str, variant: str, bench: Bench) -> dict[str, Any]:
    """Return what is known of a network without a card.

    Args:
        name: of the method.
        variant: its size.
        bench: says where the prepared data lie.

    Returns:
        `gflops`, 10^9 operations of a forward pass of one pair, `parameters`, and
        `trained_parameters`, which the optimizer changes.
    """
    opened = bench.opened()
    spec = spec_of(Row("step", name, variant, "baseline", "fp32"), opened)
    dataset, tokenizer = opened.run(spec)
    method = build_method(spec, tokenizer)
    optimizer = build_optimizer(method, spec)
    found = costs.measure(method, optimizer, dataset, "val", tokenizer, torch.device("cpu"))
    return {
        "gflops": round(found.gflops, 2),
        "parameters": found.parameters,
        "trained_parameters": found.trained_parameters,
    }


def write(path: Path = NETWORKS, names: Iterable[str] = ()) -> dict[str, Any]:
    """Measure networks, and write the file.

    Args:
        path: the file, whose other methods stay as they are.
        names: of methods [all].

    Returns:
        The content of the file.
    """
    known = json.loads(path.read_text(encoding="utf-8"))["networks"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), "cpu", steps=1, large=False)
        prepare(bench.folder, 4, 2)
        for name in names or methods.names():
            known[name] = {its: network(name, its, bench) for its in published(name)}
    content = {"source": SOURCE, "networks": dict(sorted(known.items()))}
    text = json.dumps(content, indent=1) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return content
