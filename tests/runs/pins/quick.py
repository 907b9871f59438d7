"""Compare a finished quick matrix with the one that was run before the code was moved into rooms.

    python -m tests.runs.pins.quick runs/

On the processor that made the pins the record columns must be the same to the last bit. On
another one, float sums come in another order and masks may differ in single pixels, so the
numbers are compared with a tolerance.
"""

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd

PINS = Path(__file__).with_name("quick.json")
COLUMNS = (
    "image_id",
    "ref_id",
    "ann_id",
    "sent_id",
    "sentence",
    "intersection",
    "union",
    "swapped_intersection",
    "swapped_union",
)
TOLERANCE = 0.02  # of a fraction: training amplifies a last bit


def processor() -> str:
    """Return the name of this machine's processor and what it can do that changes float sums."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    flags = [flag for flag in ("avx2", "avx512f", "fma") if flag in found.get("flags", "").split()]
    return f"{found.get('model name', 'unknown')} {' '.join(flags)}"


def digest(records: pd.DataFrame) -> str:
    """Return a digest of the columns that records had when the pins were made."""
    content = hashlib.sha256()
    for name in COLUMNS:
        column = records[name]
        values = (
            column.tolist() if name == "sentence" else column.astype("Int64").fillna(-1).tolist()
        )
        content.update(json.dumps([name, values]).encode())
    return content.hexdigest()


def describe(run: Path) -> dict[str, dict]:
    """Return split -> digest of the records and numbers of one finished run directory."""
    result = json.loads((run / "result.json").read_text())
    return {
        path.stem: {"records": digest(pd.read_parquet(path)), "numbers": result[path.stem]}
        for path in sorted((run / "records").glob("*.parquet"))
    }


def compare(runs: Path) -> list[str]:
    """Return what differs between the finished runs in a folder and the pins, one line each."""
    pins, problems = json.loads(PINS.read_text()), []
    exact = pins["processor"] == processor()
    for key, splits in pins["runs"].items():
        if not (runs / key / "result.json").exists():
            problems.append(f"{key}: there is no such finished run")
            continue
        found = describe(runs / key)
        for split, pinned in splits.items():
            if exact and found[split]["records"] != pinned["records"]:
                problems.append(f"{key} {split}: the records differ")
            for name, value in pinned["numbers"].items():
                now = found[split]["numbers"][name]
                if now != value and (exact or abs(now - value) > TOLERANCE):
                    problems.append(f"{key} {split}: {name} was {value} and is {now}")
    return problems


if __name__ == "__main__":
    lines = compare(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
    print("\n".join(lines) or "every run of the quick matrix gives the pinned numbers")
    sys.exit(1 if lines else 0)
