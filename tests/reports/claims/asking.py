"""How tests ask constructed runs for the answer to a claim."""

import functools

from reports.claims.answers import answers
from reports.claims.claims import read_claims
from reports.claims.evidence import Evidence
from reports.claims.finished import FinishedRuns


@functools.cache
def claims():
    return read_claims().claims


def claim(name):
    (found,) = [its for its in claims() if its.id == name]
    return found


def answer(runs, name):
    """Return the answer to one claim. The family counts all claims of its table."""
    wanted = claim(name)
    family = [its for its in claims() if its.family == wanted.family and its.family] or [wanted]
    (found,) = answers(family, Evidence(runs, FinishedRuns(runs, family)), [name])
    return found
