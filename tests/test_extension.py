"""The extensions of docs/extending.md, as files: every part of the package supports them."""

from __future__ import annotations

import functools
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold._base import registry
from zmanifold._base.errors import InputError
from zmanifold.plotting import plot_id

from processes import shell

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL))
FAST = ("--n-samples", "300", "--neighbors", "6", "--seeds", "1")


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory):
    """A folder with the files of the page, each imported like a user's module."""
    folder = tmp_path_factory.mktemp("own")
    for name, code in FILES.items():
        (folder / f"{name}.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("ZMANIFOLD_PLUGINS", ",".join(FILES))
        patch.setenv("PYTHONPATH", str(folder))
        registry.load_plugins.cache_clear()
        registry.load_plugins()
        yield folder
        for wing in ("mixers", "dimension", "measures"):
            importlib.import_module(f"zmanifold.{wing}.registry")._registry._registered.clear()
        patch.delenv("ZMANIFOLD_PLUGINS")
        registry.load_plugins.cache_clear()


def listed(run, command):
    code, out, _ = run(command)
    assert code == 0
    return pd.read_csv(pd.io.common.StringIO(out)).set_index("name")


def test_each_is_one_short_file():
    assert set(FILES) == {"my_mixer", "my_estimator", "my_measure", "my_format"}
    for code in FILES.values():
        statements = re.sub(r'""".*?"""', "", code, flags=re.DOTALL).split("\n")
        assert sum(bool(line.strip()) for line in statements) < 25


def test_listings_and_help(own):
    """Run the command in a process that finds the modules by the environment."""
    for command, name, parameter in (
        ("mixers", "fade", "p=0.1"),
        ("estimators", "halving", "share=0.5"),
        ("measures", "doubt", ""),
    ):
        out = shell(command).communicate()[0]
        assert re.search(rf"^{name},{parameter},", out, re.MULTILINE)
    said = " ".join(shell("sweep-id", "--help").communicate()[0].split())
    assert "fade" in said
    assert "halving" in said


def test_a_sweep_its_journal_table_and_plot(run, tmp_path):
    out, plot = tmp_path / "run.csv", tmp_path / "run.png"
    options = ["sweep-id", "helix-r3", *FAST, "--mixer", "none", "--estimator", "FO"]
    options += ["--estimator", "halving", "--out", out, "--plot", plot]
    code, _, err = run(*options, "--mixer", "fade:p=0.1/0.3")
    assert (code, err) == (0, "")
    frame = pd.read_csv(out)
    assert frame["mixer"].tolist() == ["none"] * 2 + ["fade"] * 4
    assert frame["estimator"].tolist() == ["FO", "halving"] * 3
    assert frame["parameters"].map(json.loads).tolist()[2:] == [{"p": 0.1}] * 2 + [{"p": 0.3}] * 2
    assert np.isfinite(frame["id_mean"]).all()
    # With one more strength, the cells in the journal keep even their durations.
    code, _, _ = run(*options, "--mixer", "fade:p=0.1/0.3/0.5", "--resume")
    assert code == 0
    again = pd.read_csv(out)
    assert again[again["parameters"] != '{"p": 0.5}'].reset_index(drop=True).equals(frame)
    assert len(again) == 8


def test_an_edited_mixer_is_another_one(tmp_path, monkeypatch, own):
    X, _ = zm.make_helix(300, random_state=0)

    def measured(mixer):
        options = {"n_neighbors": 6, "seeds": 1, "progress": False}
        journal = tmp_path / "a.journal"
        return zm.sweep_id(X, mixers=[mixer], journal=journal, **options).rows[0]["id_mean"]

    code = FILES["my_mixer"].replace("@register\n", "")
    found = []
    edited = code.replace("1 - self.p) * x", "1 + self.p) * x")
    for name, text in (("first", code), ("second", edited)):
        (own / f"{name}_mixer.py").write_text(text)
        module = importlib.import_module(f"{name}_mixer")
        module.Fade.__module__ = "mixer_of_the_user"
        found.append(measured(module.Fade(0.4)))
    assert found[0] != found[1]
    assert measured(module.Fade(0.4)) == found[1]


def test_on_a_cluster(own):
    X, _ = zm.make_helix(300, random_state=0)
    options = {"mixers": ["fade:p=0.3"], "estimators": ["halving"], "n_neighbors": 6, "seeds": 2}
    options["batch_size"] = 60
    here = zm.sweep_id(X, progress=False, **options).to_frame()
    there = zm.sweep_id(X, progress=False, dask="local:2", **options).to_frame()
    assert there.drop(columns="seconds").equals(here.drop(columns="seconds"))
    assert there["flags"].str.contains("few-batches").all()


def test_by_its_place(run):
    code, out, _ = run("sweep-id", "helix-r3", *FAST, "--mixer", "my_mixer.Fade:p=0.2")
    assert code == 0
    assert pd.read_csv(pd.io.common.StringIO(out))["mixer"].tolist() == ["fade"]
    code, _, err = run("sweep-id", "helix-r3", *FAST, "--mixer", "my_mixer.Fade:q=0.2")
    assert code == 2
    assert "takes other parameters" in err


def test_plots_show_any_strength_and_average_over_none():
    from matplotlib.figure import Figure

    X, _ = zm.make_helix(300, random_state=0)
    mixers = [None, "fade:p=0.1/0.3/0.5"]
    frame = zm.sweep_id(X, mixers=mixers, n_neighbors=6, seeds=1, progress=False).to_frame()
    ax = plot_id(frame, Figure().add_subplot())
    assert ax.get_xlabel() == "p"
    assert ax.get_lines()[1].get_xdata().tolist() == [0.1, 0.3, 0.5]
    both = zm.sweep_id(
        X, mixers=["zeta:gamma=2/3", "fade:p=0.1/0.3"], n_neighbors=6, seeds=1, progress=False
    ).to_frame()
    with pytest.raises(InputError, match="'fade' has several values of p but the axis shows gamma"):
        plot_id(both, Figure().add_subplot())


def test_what_one_plot_cannot_show_is_refused_before_the_work(run, tmp_path):
    specs = ["--mixer", "fade:p=0.1/0.3", "--mixer", "zeta:gamma=2/3"]
    plot = tmp_path / "a.png"
    code, out, err = run("sweep-id", "helix-r3", *FAST, *specs, "--plot", plot)
    assert (code, out) == (2, "")
    assert "'fade' has several values of p but the axis shows gamma" in err


def test_rows_without_the_strength_are_a_line_of_their_own():
    from matplotlib.figure import Figure

    def shift(x, y, by=0.0):
        return x + by, y

    X, _ = zm.make_helix(200, random_state=0)
    mixers = [shift, functools.partial(shift, by=1.0), functools.partial(shift, by=2.0)]
    frame = zm.sweep_id(X, mixers=mixers, n_neighbors=6, seeds=1, batch_size=20, progress=False)
    lines = plot_id(frame.to_frame(), Figure().add_subplot()).get_lines()
    assert [line.get_label() for line in lines] == ["shift", "shift, no by"]
    assert lines[0].get_xdata().tolist() == [1.0, 2.0]


def test_a_mixed_set_and_its_measure():
    X, y = zm.make_crescents(random_state=0)
    mixed, soft = zm.mixed_set(X, y, zm.make_mixer("fade:p=0.5"))
    assert set(np.unique(soft)) == {0.0, 0.5, 1.0}
    found = zm.mixed_set_metrics(X, y, mixed, soft)
    assert found.doubt.tolist() == (soft.max(axis=1) <= 0.5).tolist()
    assert found.summary()["doubt"] == found.doubt.mean()
    alone = zm.mixed_set_metrics(X, y, mixed, soft, measures=["doubt"])
    assert list(alone.summary()) == ["doubt"]


def test_training_with_it():
    from zmanifold.training import train

    data = zm.load_dataset("digits", n_samples=300, random_state=0)
    done = train(data, mixer=zm.make_mixer("fade"), epochs=1, batch_size=100, progress=False)
    assert "fade" in done.settings["mixer"]


def test_a_file_format(tmp_path):
    (tmp_path / "water.xyz").write_text("3\nwater\nO 0 0 0\nH 1 0 0\nH 0 1 0\n")
    water = zm.load_dataset(tmp_path / "water.xyz")
    assert water.points.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert water.class_names == ("H", "O")
    assert "my_format" in sys.modules
