from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from zmanifold._base.errors import InputError
from zmanifold.measures._embedding import Embedding
from zmanifold.plotting import (
    label_colors,
    plot_ellipses,
    plot_embedding,
    plot_id,
    plot_labels,
    plot_vicinity,
    sweep_figure,
)


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


def test_hollow_markers_stand_at_flags(frame):
    plain = sweep_figure(frame.assign(flags=np.nan))
    assert [text.get_text() for text in plain.legends[0].get_texts()][:3] == [
        "original", "mixup", "ζ-mixup"
    ]  # fmt: skip
    assert not [line for ax in plain.axes for line in ax.get_lines() if line.get_mfc() == "none"]
    at_five = (frame["mixer"] == "zeta") & (frame["gamma"] == 5) & (frame["seed"] == 1)
    frame["flags"] = np.where(at_five, "saturated;bimodal", "")
    frame.loc[frame["mixer"] == "mixup", "flags"] = "few-batches"
    in_one = (frame["dataset"] == "b") & (frame["n_neighbors"] == 128)
    frame.loc[~in_one, "flags"] = "unknown"
    figure = sweep_figure(frame)
    marked = {
        (figure.axes.index(ax), line.get_marker()): line
        for ax in figure.axes for line in ax.get_lines()
        if line.get_mfc() == "none" and len(line.get_xdata())
    }  # fmt: skip
    assert set(marked) == {(3, "^"), (3, "D"), (3, "s")}
    assert marked[3, "^"].get_xydata().tolist() == [[5, 131.5]]
    assert marked[3, "s"].get_xydata().tolist() == [[0, 129.5], [5, 129.5]]
    # The legend is that of all panels.
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"original", "saturated", "bimodal", "few-batches"} <= set(names)
    assert len(names) == len(set(names))
    title = figure.legends[0].get_title().get_text()
    assert title == "mean and standard deviation over points"


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


def test_colours_mix_as_labels_do():
    pure = label_colors(["a", "b", "a"])
    np.testing.assert_array_equal(pure[0], pure[2])
    np.testing.assert_allclose(label_colors([[0.3, 0.7]])[0], 0.3 * pure[0] + 0.7 * pure[1])
    with pytest.raises(InputError, match="labels has 11 classes but 10 colours can be told apart"):
        label_colors(range(11))


@pytest.mark.parametrize("dim", [2, 3])
def test_labels_are_drawn_where_the_points_are(dim, rng):
    points, soft = rng.normal(size=(40, dim)), rng.dirichlet([1, 1], 40)
    ax = Figure().add_subplot(projection="3d" if dim == 3 else None)
    assert plot_labels(points, soft, ax) is ax
    (drawn,) = ax.collections
    if dim == 2:
        np.testing.assert_allclose(drawn.get_offsets(), points)
        np.testing.assert_allclose(drawn.get_facecolors()[:, :3], label_colors(soft))
    with pytest.raises(InputError, match="points has 4 columns but 2 or 3 can be drawn"):
        plot_labels(np.ones((3, 4)), [0, 1, 1], ax)


def test_ellipses_are_the_covariance(rng):
    """Half axes are two standard deviations along the eigenvectors; dashes mean dimension 1."""
    flat = rng.normal(size=(30, 2)) @ np.array([[3, 1], [0, 0.1]])
    points = np.concatenate([flat, rng.normal(size=(30, 2)) + 9, np.zeros((3, 2))])
    hoods = [np.arange(30), np.arange(30, 60)]
    ax = plot_ellipses(points, hoods, Figure().add_subplot())
    for hood, ellipse, style in zip(hoods, ax.patches, ("--", "-"), strict=True):
        np.testing.assert_allclose(ellipse.get_center(), points[hood].mean(axis=0))
        values, vectors = np.linalg.eigh(np.cov(points[hood].T))
        expected = 4 * np.sqrt(values)
        np.testing.assert_allclose((ellipse.get_height(), ellipse.get_width()), expected)
        along = np.array([np.cos(a := np.radians(ellipse.get_angle())), np.sin(a)])
        assert abs(along @ vectors[:, 1]) == pytest.approx(1)
        assert ellipse.get_linestyle() == style
    # Coinciding points have no ellipse.
    ax = plot_ellipses(points, [[60, 61, 62]], Figure().add_subplot())
    assert (len(ax.patches), len(ax.lines)) == (0, 1)
    with pytest.raises(InputError, match="points has 3 columns but ellipses lie in a plane"):
        plot_ellipses(np.eye(3), [[0, 1]], ax)


def test_the_vicinity_that_is_drawn(rng):
    X, y, T = rng.normal(size=(50, 2)), np.arange(50) % 2, rng.normal(size=(4, 2))
    result = zm.vicinity(X, y, T, [0, 1, 0, 1], n_neighbors=(3, 7))
    ax = plot_vicinity(X, y, T, result, Figure().add_subplot(), sample=2)
    lines = [line.get_xydata() for line in ax.lines[:7]]
    np.testing.assert_allclose([line[1] for line in lines], X[result.indices[2]])
    assert [patch.get_radius() for patch in ax.patches] == result.distances[2, [2, 6]].tolist()
    assert ax.get_xlabel() == "\n".join(
        f"k = {k}: {n} of {k} have its class"
        for k, n in zip((3, 7), result.n_same[:, 2], strict=True)
    )
    with pytest.raises(InputError, match="sample=4 is one of 4 test samples"):
        plot_vicinity(X, y, T, result, ax, sample=4)


def test_an_embedding_is_drawn_in_one_frame(rng):
    embedding = Embedding(rng.normal(size=(40, 2)), rng.normal(size=(3, 2)))
    train_y, test_y = np.array(["a", "b"])[np.arange(40) % 2], ["b", "a", "b"]
    near = rng.integers(0, 40, (3, 5))
    ax = plot_embedding(embedding, train_y, test_y, Figure().add_subplot(), neighbors=near)
    train, test = ax.collections
    np.testing.assert_array_equal(train.get_offsets(), embedding.train)
    np.testing.assert_array_equal(test.get_offsets(), embedding.test)
    np.testing.assert_array_equal(test.get_facecolors()[:2, :3], train.get_facecolors()[[1, 0], :3])
    assert len(ax.lines) == 15
    ends = [[embedding.test[q], embedding.train[row]] for q in range(3) for row in near[q]]
    for line, expected in zip(ax.lines, ends, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), expected)
    for text in ax.texts:
        members = embedding.train[train_y == text.get_text()]
        assert text.get_position() == tuple(np.median(members, axis=0))
    with pytest.raises(InputError, match="test_y holds label 'c' in row 0"):
        plot_embedding(embedding, train_y, ["c", "a", "b"], ax)
