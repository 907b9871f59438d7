"""Notes as MLflow shows them: with addresses of its own, and no longer than it allows."""

import json
import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

PLACE = re.compile(r"\{(artifact|run|compare):([^{}]*)\}")


def addressed(note: str, ids: Mapping[str, str], experiment_id: str, parent: str = "") -> str:
    """Return a note with the addresses that the store gives to files and runs.

    Args:
        note: `{artifact:PARENT/NAME}` in it is a file of a parent's report, `{run:NAME}` is a run,
            and `{compare:KEY,KEY}` the comparison of runs. Other names are somebody's words, which
            stay as they are.
        ids: MLflow's id of each run, by run key or name of the parent.
        experiment_id: of the experiment that the runs are in.
        parent: whose files are meant where none is named.
    """

    def address(match: re.Match[str]) -> str:
        kind, text = match.groups()
        owner, _, file = text.rpartition("/") if kind == "artifact" else ("", "", "")
        names = {"artifact": [owner or parent], "run": [text]}.get(kind) or text.split(",")
        if any(name not in ids for name in names):
            return match[0]
        if kind == "artifact":
            query = urlencode({"path": f"report/{file}", "run_uuid": ids[names[0]]})
            return f"get-artifact?{query}"
        if kind == "run":
            return f"#/experiments/{experiment_id}/runs/{ids[names[0]]}"
        runs = quote(json.dumps([ids[name] for name in names]))
        return f"#/compare-runs?runs={runs}&experiments={quote(json.dumps([experiment_id]))}"

    return PLACE.sub(address, note)


def cut(note: str, most: int) -> str:
    """Return a note of at most so many characters, cut between two lines."""
    return note if len(note) <= most else note[: most + 1].rpartition("\n")[0]
