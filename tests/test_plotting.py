from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from zmanifold.errors import InputError
from zmanifold.plotting import plot_id, sweep_figure


@pytest.fixture
def frame():
    rows = []
    for dataset in ("a", "b"):
        for k in (8, 128):
            for seed in (0, 1):
                cells = [
                    ("none", np.nan),
                    ("mixup", np.nan),
                    ("zeta", 0.0),
                    ("zeta", 5.0),
                    ("own", 5.0),
                ]
                rows += [
                    {"dataset": dataset, "mixer": mixer, "gamma": gamma, "n_neighbors": k,
                     "seed": seed, "id_mean": k + i + seed, "id_std": 1.0}
                    for i, (mixer, gamma) in enumerate(cells)
                ]  # fmt: skip
    return pd.DataFrame(rows)


def test_lines_are_means_over_seeds(frame):
    ax = Figure().add_subplot()
    assert plot_id(frame[frame["dataset"] == "a"], ax, n_neighbors=8) is ax
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["original"].get_ydata().tolist() == [8.5, 8.5]
    assert lines["original"].get_xdata().tolist() == [0.0, 5.0]
    assert lines["mixup"].get_ydata().tolist() == [9.5, 9.5]
    assert lines["ζ-mixup"].get_xdata().tolist() == [0.0, 5.0]
    assert lines["ζ-mixup"].get_ydata().tolist() == [10.5, 11.5]
    assert lines["own"].get_marker() == "o"
    (vertical,) = [line for label, line in lines.items() if "gamma" in label]
    assert vertical.get_xdata()[0] == zm.gamma_min()
    assert vertical.get_linestyle() == ":"
    assert len({line.get_color() for line in lines.values()}) == len(lines)


def test_bands_are_one_standard_deviation(frame):
    ax = Figure().add_subplot()
    plot_id(frame[(frame["dataset"] == "a") & (frame["mixer"] == "zeta")], ax, n_neighbors=8)
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (9.5, 12.5)


def test_the_grid(frame, tmp_path):
    figure = sweep_figure(frame, titles={"a": "First"})
    assert len(figure.axes) == 4
    assert [ax.get_title() for ax in figure.axes] == ["First", "b", "", ""]
    assert figure.axes[2].get_ylabel() == "local ID, k = 128"
    figure.savefig(tmp_path / "a.png")


@pytest.mark.parametrize("datasets", [["a"], ["a", "b"]])
def test_the_legend_lies_inside_the_figure(frame, datasets):
    figure = sweep_figure(frame[frame["dataset"].isin(datasets)])
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0
    assert box.x1 <= whole.x1
    assert box.y1 < min(ax.get_tightbbox().y0 for ax in figure.axes)


def test_without_gammas_there_is_a_figure_too(frame):
    only = frame[frame["mixer"] == "none"]
    assert len(sweep_figure(only).axes) == 4


def test_an_ambiguous_table_is_refused(frame):
    with pytest.raises(InputError, match=r"2 data set\(s\) and 2 neighbourhood size"):
        plot_id(frame, Figure().add_subplot())
    with pytest.raises(InputError, match="0 neighbourhood"):
        plot_id(frame, Figure().add_subplot(), n_neighbors=9)
