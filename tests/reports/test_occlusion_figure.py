"""Tests of the figure of the score over the covered share."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from reports.robustness import occlusion


def table(strategies, lost=1.0):
    """Return rows of two targets at two shares, in which `strategies` lose ever less."""
    rows = []
    for number, strategy in enumerate(strategies):
        for kind, name, level in [
            ("clean", "clean", np.nan),
            *(("occlusion", name, level) for name in ("image", "referent") for level in (30, 60)),
        ]:
            share = 0.0 if np.isnan(level) else level / 100
            mean = 0.6 - lost * share / (2 + number)
            row = {"label": "lavt tiny", "kind": kind, "name": name, "level": level}
            row |= {"strategy": strategy, "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
            rows.append(row)
    return pd.DataFrame(rows)


def test_a_line_per_strategy_goes_from_clean_over_the_shares():
    drawn = occlusion.figure(table(["baseline", "+MaskRIS"]), "refshapes val", "oiou")
    assert [axes.get_title() for axes in drawn.axes] == ["of the whole image", "of the referent"]
    for axes in drawn.axes:
        hollow, filled = axes.lines
        assert hollow.get_xdata().tolist() == filled.get_xdata().tolist() == [0, 30, 60]
        assert hollow.get_ydata() == pytest.approx([60, 45, 30])
        assert filled.get_ydata() == pytest.approx([60, 50, 40])
        assert hollow.get_markerfacecolor() == "white"
        assert matplotlib.colors.same_color(filled.get_markerfacecolor(), filled.get_color())
        bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
        assert [(ys.min(), ys.max()) for ys in bands] == [
            pytest.approx((20, 70)),
            pytest.approx((30, 70)),
        ]


def test_two_lines_are_named_where_they_are_apart_and_else_by_a_legend():
    apart = occlusion.figure(table(["baseline", "+MaskRIS"]), "", "oiou")
    names = {text.get_text(): text for axes in apart.axes for text in axes.texts}
    assert names.keys() == {"baseline", "+MaskRIS"} and not apart.legends
    assert names["baseline"].xy == pytest.approx((60, 30))
    assert names["+MaskRIS"].xy == pytest.approx((60, 40))
    for rows in (table(["baseline", "+MaskRIS"], 0.01), table(["baseline", "+MaskRIS", "+x"])):
        drawn = occlusion.figure(rows, "", "oiou")
        assert not any(axes.texts for axes in drawn.axes)
        (legend,) = drawn.legends
        assert [text.get_text() for text in legend.get_texts()] == [*rows["strategy"].unique()]
