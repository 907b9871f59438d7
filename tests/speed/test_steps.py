"""The measurement of steps: it needs no data, and its rows say what they are of."""

import json

import torch
from typer.testing import CliRunner

from tests.speed.steps import app, subject


def test_every_part_is_a_line_of_json():
    threads = torch.get_num_threads()
    try:
        done = CliRunner().invoke(
            app, ["--methods", "sag", "--repeats", "2", "--batch-size", "2"], catch_exceptions=False
        )
    finally:
        torch.set_num_threads(threads)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    parts = ["step baseline", "step maskris", "forward", "evaluation"]
    assert [row["part"] for row in rows] == parts
    for row in rows:
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) <= row["median"] <= max(row["seconds"])
    assert [row["samples"] for row in rows] == [2, 2, 2, 12]


def test_two_subjects_are_the_same():
    weights = []
    for _ in range(2):
        one = subject("tris", "tiny", "maskris", batch_size=2)
        one.step()
        weights.append(one.method.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
