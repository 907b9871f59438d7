"""`python -m tests.parity FIXTURE.npz ...` prints one line per array. It exits with 1 where one
differs or was not compared.
"""

import argparse
import pathlib
import sys

from benchmark.base.errors import UserError
from tests.parity.check import Row, check


def line(row: Row) -> str:
    """Return the row as it is printed."""
    if row.difference is None:
        return f"{row.name:34}{'-':>12}  {'-':16}not compared: {row.note}"
    verdict = "ok" if row.ok else "exceeded"
    numbers = f"{row.name:34}{row.difference:12.3e}  {row.tolerance!s:16}"
    return f"{numbers}{verdict} {row.note}".rstrip()


def main() -> int:
    """Check every fixture on the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("fixtures", nargs="+", type=pathlib.Path, metavar="FIXTURE.npz")
    failed = False
    for path in parser.parse_args().fixtures:
        try:
            rows = check(path)
        except UserError as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"{path}\n{'array':34}{'difference':>12}  tolerance")
        print(*map(line, rows), sep="\n")
        failed |= not all(row.ok for row in rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
