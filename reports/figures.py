"""The style of all figures, with the sizes and fonts of a paper.

The colors are Okabe and Ito's, which color-blind readers can tell apart. No date and no program
enters a file, so the same numbers give the same bytes.
"""

import dataclasses
import io
from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import methods
from benchmark.evaluation.drawn_text import fonts, quiet_glyphs

COLUMN = 3.35  # width of a paper's column, inches
PAGE = 6.9  # width of a paper's page, inches
DPI = 200
OURS = "#0072B2"
PUBLISHED = "#D55E00"
QUIET = "0.45"
# Matplotlib asks viewers of an SVG to show the pixels of a picture as squares.
PIXELATED = b"image-rendering:crisp-edges;image-rendering:pixelated"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), "-.", (0, (7, 1, 1, 1, 1, 1)), (0, (3, 3)), (0, (9, 2)))

# "default" comes first, so that a user's matplotlibrc does not change the bytes.
STYLE = [
    "default",
    {
        "font.family": fonts(),  # the one that matplotlib brings along comes first
        "font.size": 7.5,
        "axes.labelsize": 7.5,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.hashsalt": "risbench",  # or the names inside would differ from file to file
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
    },
]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure of a report.

    Attributes:
        kind: what it shows, such as `occlusion`.
        runs: keys of the runs whose numbers it shows, as the rows of a table name them.
        contents: file name -> content, one of each format.
    """

    kind: str
    runs: frozenset[str]
    contents: Mapping[str, bytes]

    @classmethod
    def of(cls, kind: str, rows: pd.DataFrame, name: str, figure: Figure) -> "Drawn":
        """Return a figure of the rows of a table, whose column `runs` holds keys."""
        return cls(kind, frozenset(rows["runs"].explode()), files(name, figure))


def contents_of(every: Iterable[Drawn]) -> dict[str, bytes]:
    """Return file name -> content of figures."""
    return {name: content for drawn in every for name, content in drawn.contents.items()}


def method_color(name: str) -> str:
    """Return the color of a method, which is the same in every figure."""
    return COLORS[methods.names().index(name) % len(COLORS)]


def grid(axes: Axes, axis: str = "both") -> None:
    """Draw a pale grid behind everything else."""
    axes.grid(axis=axis, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def files(name: str, figure: Figure) -> dict[str, bytes]:
    """Return a figure as `<name>.png`, `.pdf` and `.svg`, without date or program.

    A vector format holds the pixels of a picture as they are, and its viewer scales them.
    """
    nameless = {
        "png": {"Software": None},
        "pdf": dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator")),
        "svg": {"Date": None, "Creator": None},
    }
    images = [image for axes in figure.axes for image in axes.images]
    # The cells of a heat map have one value each, and must keep their edges.
    pictures = [image for image in images if image.get_array().ndim == 3]
    smooth = [picture.get_interpolation() for picture in pictures]
    contents = {}
    for kind, metadata in nameless.items():
        for picture, interpolation in zip(pictures, smooth, strict=True):
            picture.set_interpolation(interpolation if kind == "png" else "none")
        buffer = io.BytesIO()
        with quiet_glyphs():
            figure.savefig(buffer, format=kind, metadata=metadata)
        contents[f"{name}.{kind}"] = buffer.getvalue().replace(PIXELATED, b"")
    for picture, interpolation in zip(pictures, smooth, strict=True):
        picture.set_interpolation(interpolation)
    return contents
