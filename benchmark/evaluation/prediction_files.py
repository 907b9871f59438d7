"""Predicted masks in files: the formats in which people have them, read and written.

    JSON        a list in COCO's format of results, or JSON Lines, gzipped or not, where
                each entry has a `segmentation` (run lengths or polygons) and says whose it is
    parquet     a table with the same columns, or with those of a run's masks (see `masks`)
    a folder    PNG masks called <sent_id>.png or <ref_id>_<index>.png

An entry says whose mask it has by `sent_id`, by `ref_id` and `index` (the place among the ref's
sentences, from 0), or by `image_id` and `sentence`. Nothing that a file says is believed here: it
is read an entry at a time and within bounds, and `prediction_reading` compares it with the data.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.files import (
    MOST_BYTES,
    atomic_write,
    describe_error,
    open_regular,
    parse_json,
)
from benchmark.evaluation.masks import as_coco

IDS = ("sent_id", "ref_id", "index", "image_id", "sentence")
SEGMENTATION = "segmentation"
STORED = ("height", "width", "counts")  # columns in which a run keeps a mask
MOST_LINE = 2**26  # bytes of a line, twice those of the worst mask of a photograph of 16 megapixels
ROWS_AT_ONCE = 256  # of a parquet table
WRITTEN = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")
PNG_NAME = re.compile(r"([0-9]{1,18})(?:_([0-9]{1,9}))?\.png")
BROKEN_STREAM = (OSError, EOFError, zlib.error)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a file says of one mask. Its values may be anything.

    Attributes:
        where: where it stands in the file, such as `line 12`.
        ids: those of `IDS` that are given.
        segmentation: run lengths, polygons, or the path of a PNG file.
    """

    where: str
    ids: Mapping[str, Any]
    segmentation: Any


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file or folder of predictions.

    Raises:
        UserError: it is missing, damaged, far too large, or in none of the formats.
    """
    if not path.exists():
        raise UserError(f"there are no predictions at {path}: check the path.")
    if path.is_dir():
        return _pictures(path)
    return _rows(path) if path.suffix == ".parquet" else _json(path)


def _entry(where: str, values: Any) -> Entry:
    """Return an entry of a JSON or parquet file."""
    if not isinstance(values, dict):
        return Entry(where, {}, None)
    ids = {name: values[name] for name in IDS if values.get(name) is not None}
    segmentation = values.get(SEGMENTATION)
    if segmentation is None and all(name in values for name in STORED):
        size = [values["height"], values["width"]]
        segmentation = {"size": size, "counts": values["counts"]}
    return Entry(where, ids, segmentation)


# --- JSON -----------------------------------------------------------------------------------------


def _json(path: Path) -> Iterator[Entry]:
    """Yield the entries of a JSON list or of JSON Lines, whatever the name of the file is."""
    try:
        with open_regular(path) as file:
            is_gzipped = file.peek(2)[:2] == b"\x1f\x8b"
            stream = gzip.open(file) if is_gzipped else file
            first, lines = _begin(path, stream)
            if first.lstrip().startswith(b"["):
                yield from _list(path, first, stream)
                return
            for number, line in lines:
                if line.strip():
                    yield _entry(f"line {number}", _object(path, number, line))
    except BROKEN_STREAM as error:
        said = getattr(error, "strerror", None) or describe_error(error)
        raise UserError(f"{path} cannot be read ({said}): check or write it again.") from None


def _begin(path: Path, stream: BinaryIO) -> tuple[bytes, Iterator[tuple[int, bytes]]]:
    """Return the first line that is not blank, and all numbered lines from it on."""
    lines = _lines(path, stream)
    for number, line in lines:
        if line.strip():
            return line, itertools.chain([(number, line)], lines)
    raise UserError(f"{path} is empty: name a file of predictions.")


def _lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number in itertools.count(1):
        line = stream.readline(MOST_LINE + 1)
        if not line:
            return
        # A list may stand in a single line, and is read whole.
        if len(line) > MOST_LINE and not line.lstrip().startswith(b"["):
            raise UserError(
                f"{path}: line {number} has more than {MOST_LINE / 1e6:.0f} MB, which no mask"
                " takes: write one object a line."
            )
        yield number, line


def _list(path: Path, first: bytes, stream: BinaryIO) -> Iterator[Entry]:
    content = first + stream.read(max(0, MOST_BYTES + 1 - len(first)))
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{path} has more than {MOST_BYTES / 1e6:,.0f} MB, which are read at once: write JSON"
            " Lines, an object a line."
        )
    for number, values in enumerate(parse_json(content, path), 1):
        yield _entry(f"entry {number}", values)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: line {number} is no JSON object: write a list in COCO's format of results,"
            " or JSON Lines with one object a line."
        )
    return values


# --- parquet --------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[Entry]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    numbers = itertools.count(1)
    try:
        with open_regular(path) as file:
            table = ParquetFile(file)
            size = sum(
                table.metadata.row_group(number).total_byte_size
                for number in range(table.metadata.num_row_groups)
            )
            if size > MOST_BYTES:
                raise UserError(
                    f"{path} holds more than {MOST_BYTES / 1e6:,.0f} MB, which no masks of a split"
                    " take: write one file for each split."
                )
            known = {*IDS, SEGMENTATION, *STORED}
            names = [name for name in table.schema_arrow.names if name in known]
            batches = table.iter_batches(ROWS_AT_ONCE, columns=names, use_threads=False)
            for row in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
                number = next(numbers)
                yield _entry(f"row {number}", row | {SEGMENTATION: _of_cell(row)})
    except (OSError, ValueError, ArrowException) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{path} is no parquet table ({said:.200}): write it again.") from None


def _of_cell(row: Mapping[str, Any]) -> Any:
    """Return the segmentation of a row, which may be nested or a JSON text."""
    value = row.get(SEGMENTATION)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value  # which is no segmentation, and is told with the others
    if isinstance(value, dict) and isinstance(value.get("counts"), bytes):
        return value | {"counts": value["counts"].decode("ascii", "replace")}
    return value


# --- pictures -------------------------------------------------------------------------------------


def _pictures(folder: Path) -> Iterator[Entry]:
    paths = sorted(path for path in folder.glob("[!.]*.png"))
    if not paths:
        raise UserError(
            f"{folder} holds no PNG masks: name a folder with a mask <sent_id>.png for each"
            " expression, or a JSON or parquet file."
        )
    for path in paths:
        ids: dict[str, Any] = {}
        if named := PNG_NAME.fullmatch(path.name):
            first, index = named.groups()
            ids = {"sent_id": int(first)}
            if index is not None:
                ids = {"ref_id": int(first), "index": int(index)}
        yield Entry(path.name, ids, path)


# --- writing --------------------------------------------------------------------------------------


def check_out(path: Path) -> str:
    """Return the ending of a file of predictions that is to be written.

    Raises:
        UserError: it is a folder, or its name ends in none of `WRITTEN`.
    """
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: name the file that the masks are written to.")
    # The longest one that fits, since `.json.gz` ends as `.gz` does.
    fitting = [ending for ending in WRITTEN if path.name.endswith(ending)]
    if not fitting:
        raise UserError(
            f"--out {path} says no format of masks: let its name end in {', '.join(WRITTEN)}."
        )
    return max(fitting, key=len)


def write_predictions(path: Path, records: pd.DataFrame, table: pd.DataFrame) -> None:
    """Write the masks of a split as `read_entries` reads them.

    Args:
        path: the file, whose ending says the format.
        records: of the split.
        table: the masks of the same expressions (see `masks`).

    Raises:
        UserError: the ending is none of `WRITTEN`, or the file cannot be written.
    """
    ending = check_out(path)
    if ending == ".parquet":
        ids = records[["sent_id", "image_id", "ref_id", "sentence"]]
        joined = ids.merge(table, on="sent_id", validate="one_to_one")
        atomic_write(path, lambda aside: joined.to_parquet(aside, index=False, compression="zstd"))
        return
    rows = as_coco(records, table)
    if ending.startswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = json.dumps(rows) + "\n"
    content = text.encode()
    if ending.endswith(".gz"):
        content = gzip.compress(content, mtime=0)  # The same masks give the same bytes.
    atomic_write(path, lambda aside: aside.write_bytes(content))
