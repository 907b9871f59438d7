"""The table of what training cost, measured and published, also relative to the reference row."""

import numpy as np

from reports.layout.block import Block
from reports.layout.numbers import NOTHING
from reports.studies.grids.results import Results


def block(results: Results) -> Block:
    """Return the hours of training, with a line per row of the grid."""
    lines = results.lines(results.splits[0], results.shown[0])
    (reference,) = [line for line in lines if line.row == results.grid.reference]
    has_published = any(not np.isnan(line.published_hours) for line in lines)
    header = ("row", "seeds", "epochs", "training", "relative")
    header += ("published", "published\nrelative") if has_published else ()
    texts = []
    for line in lines:
        specs, own = results.rows[line.row]
        epochs = str(next(iter(specs.values())).recipe.epochs)
        cells = (line.row, ", ".join(map(str, own)) or NOTHING, epochs)
        cells += _pair(line.training_hours, reference.training_hours)
        cells += _pair(line.published_hours, reference.published_hours) if has_published else ()
        texts.append(cells)
    return Block("time of training, mean over seeds", "", header, texts, names=2)


def _pair(hours: float, reference: float) -> tuple[str, str]:
    """Return a time, and how many times the reference's it is."""
    if np.isnan(hours):
        return NOTHING, NOTHING
    duration = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
    return duration, NOTHING if np.isnan(reference) else f"{hours / reference:.2f} ×"
