"""Two states of the code in turns: their processes, what they take, and that nothing is left."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from rich.console import Console

from benchmark.base.errors import UserError
from tests.speed import against, trees
from tests.speed.against import Line
from tests.speed.parts import Part, every_part
from tests.speed.trees import Failed, Sample, Tree, execute

BUSY = "import time\nwhile time.process_time() < {0}: pass"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{BUSY}'''])"


class Fake:
    """A tree that takes what it is told to."""

    def __init__(self, name, seconds, order):
        self.name, self.seconds, self.order = name, iter(seconds), order

    def measure(self, part):
        self.order.append(self.name)
        seconds = next(self.seconds)
        if isinstance(seconds, str):
            raise Failed(seconds)
        return {part.label: Sample(seconds, 2 * seconds)}


PART = Part(("plan",), "plan", ())


def test_both_states_are_measured_in_turns_after_one_that_warms_up():
    order = []
    both = Fake("older", [9, 1, 2, 4], order), Fake("this", [9, 2, 1, 2], order)
    (line,) = against.lines(PART, both, 3, 1)
    assert order == ["older", "this"] * 4
    assert line.ratios("cpu") == [2, 0.5, 0.5] == line.ratios("wall")
    content = line.content()
    assert content["cpu_ratio"] == 0.5 and content["cpu_ratio_quartiles"] == [0.5, 1.25]
    assert content["wall_before_seconds"] == [2, 4, 8]
    console = Console(file=io.StringIO(), width=120)
    against.show([line], "abc", console)
    assert "2.000  2.000  0.50 0.50–1.25" in " ".join(console.file.getvalue().split("\n")).replace(
        "   ", "  "
    )


def test_what_the_older_code_cannot_do_is_said():
    both = Fake("older", ["no module named x"], []), Fake("this", [1], [])
    (line,) = against.lines(PART, both, 3, 1)
    assert line.content() == {
        "part": "plan",
        "cores": 1,
        "reason": "the older code cannot be measured: no module named x",
    }


def test_a_process_that_times_itself_has_no_wall_time():
    line = Line("step", 1, [Sample(2.0, None)], [Sample(1.0, None)])
    assert line.ratios("cpu") == [0.5] and line.ratios("wall") == []
    assert "wall_ratio" not in line.content()


def test_parts_are_chosen_by_name():
    every = every_part((), (), (10, 20), 1, 1)
    chosen = against.chosen_parts(["step", "report"], every)
    assert [part.names for part in chosen] == [("step",), ("report",), ("report",)]
    assert against._is_chosen("cris tiny step baseline", chosen[0])
    assert not against._is_chosen("cris tiny forward", chosen[0])
    with pytest.raises(UserError, match="did you mean status"):
        against.chosen_parts(["stats"], every)


def test_the_time_of_children_counts(tmp_path):
    script = CHILD.format(0.3)
    _, sample = execute([sys.executable, "-c", script], tmp_path, os.environ)
    assert 0.3 <= sample.cpu < 3 and sample.wall >= 0.25


def test_a_command_that_fails_says_why_and_one_that_hangs_is_ended(tmp_path, monkeypatch):
    with pytest.raises(Failed, match="ValueError: what was wrong"):
        execute([sys.executable, "-c", "raise ValueError('what was wrong')"], tmp_path, os.environ)
    monkeypatch.setattr(trees, "MOST_SECONDS", 0.5)
    started = time.monotonic()
    # A child of the command outlives it, unless it is ended, too.
    sleep = "import subprocess; subprocess.run(['sleep', '60'])"
    with pytest.raises(Failed, match="ended with -9"):
        execute([sys.executable, "-c", sleep], tmp_path, os.environ)
    assert time.monotonic() - started < 20


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose package says 1 in its first commit, and 2 now."""
    root = tmp_path / "repository"
    for folder in ("benchmark", "tests/speed"):
        (root / folder).mkdir(parents=True)
    (root / "tests" / "__init__.py").touch()
    (root / "benchmark" / "__init__.py").write_text("NUMBER = 1\n")
    (root / "tests" / "speed" / "only_older.py").write_text("print('older')\n")
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    (root / "tests" / "speed" / "only_older.py").unlink()
    (root / "benchmark" / "__init__.py").write_text("NUMBER = 2\n")
    module = "import json, benchmark\n"
    module += "print(json.dumps({'part': 'number', 'median': benchmark.NUMBER}))\n"
    (root / "tests" / "speed" / "telling.py").write_text(module)
    monkeypatch.setattr(trees, "ROOT", root)
    return root


def test_the_older_code_is_measured_by_the_newer_modules_and_nothing_is_left(repository):
    own = os.sched_getaffinity(0)
    commit = trees.commit_of("HEAD")
    part = Part(("number",), "", ("-m", "tests.speed.telling"), inner=True)
    with pytest.raises(RuntimeError), trees.two_trees(commit) as both, trees.limited(1):
        assert len(os.sched_getaffinity(0)) == 1
        found = [tree.measure(part)["number"].cpu for tree in both]
        assert found == [1, 2]
        older, _ = both
        folder = older.folder.parent
        # A module that this code has no more is the older code's own.
        output, _ = older._call(["-m", "tests.speed.only_older"], older.folder)
        assert output == "older\n"
        with pytest.raises(Failed, match="No module named tests.speed.nowhere"):
            older._call(["-m", "tests.speed.nowhere"], older.folder)
        raise RuntimeError
    assert not folder.exists() and os.sched_getaffinity(0) == own


def test_what_is_prepared_is_made_once_and_can_be_had_fresh(tmp_path):
    tree = Tree("this", [[tmp_path]], tmp_path)
    make = ("-c", "open('file', 'a').write('x')")
    reading = ("-c", "import sys; text = open('file').read(); sys.exit(0 if text == 'x' else text)")
    for _ in range(2):
        tree.measure(Part(("a",), "a", reading, make))
        tree.measure(Part(("b",), "b", make, make, fresh=True))
    with pytest.raises(Failed, match="not there"):
        tree.measure(Part(("c",), "c", make, ("-c", "raise ValueError('not there')")))


def test_unknown_commits_and_too_many_cores_are_named(repository):
    with pytest.raises(UserError, match="there is no commit 'nowhere'"):
        trees.commit_of("nowhere")
    with pytest.raises(UserError, match="change --cores"), trees.limited(10_000):
        pass


def test_results_are_written_while_they_come(repository, tmp_path):
    line = Line("plan", 1, [Sample(1.0, 2.0)], [Sample(0.5, 1.0)])
    against.write(tmp_path / "out.json", "HEAD", 1, [line, Line("step", 1, reason="why")])
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["rows"][0]["wall_ratio"] == 0.5 and content["rows"][1]["reason"] == "why"
    assert content["against"] == trees.commit_of("HEAD")
    table = against.markdown([content])
    assert "| plan | 1 | CPU | 1.000 s | 0.500 s | 0.50 | 0.50 to 0.50 |" in table
    assert "| step | 1 | | | | | why |" in table
