"""What is printed: to closed, full and narrow streams, in any encoding, of any name."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pty
import re
import select
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold._base.progress import progress_bar
from zmanifold.cli import app as cli
from zmanifold.cli import printing
from zmanifold.cli.sweep_id import SPARE
from zmanifold.plotting import plot_embedding

SWEEP = ["sweep-id", "helix-r3", "--n-samples", "300", "--gamma", "0:1:1", "--neighbors", "4",
         "--seeds", "1"]  # fmt: skip

# A title of the window, red letters, markup of rich, an emoji's name, a reversed direction.
HOSTILE = "\x1b]0;owned\x07\x1b[31m[bold red]x[/] :smile: \u202egnp"
SHOWN = r"\x1b]0;owned\x07\x1b[31m[bold red]x[/] :smile: \u202egnp"


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal, of an encoding and a width."""

    def __init__(self, monkeypatch, encoding="utf-8", columns=80):
        super().__init__(io.BytesIO(), encoding, write_through=True)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")

    def isatty(self):
        return True

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture(scope="module")
def table():
    settings = {"n_neighbors": (4, 8), "seeds": 1, "progress": False}
    mixers = [None, zm.Mixup(), zm.ZetaMixup(0.0), zm.ZetaMixup(1.0)]
    X, _ = zm.make_helix(300, random_state=0)
    return zm.sweep_id(X, mixers=mixers, **settings).to_frame()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
@pytest.mark.parametrize("columns", [80, 40, 8, 1])
def test_a_table_of_any_width_and_encoding(monkeypatch, table, encoding, columns):
    frame = table.assign(mixer=[f"ζ…{HOSTILE}", *table["mixer"][1:]])
    stream = Terminal(monkeypatch, encoding, columns)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with printing.standing_streams():
            printing.print_frame(frame)
    text = stream.text()
    assert "\x1b" not in text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\u202e" not in text
    words = text.split()
    if columns == 80:
        # No number is broken or cut, and what is missing is named.
        for number in table["id_mean"].map("{:.3f}".format):
            assert number in words or "left out, too wide here" in text
        lines = re.sub(r"\x1b\[[01]m", "", text).splitlines()
        assert max(map(len, lines)) <= 80 + 10 * (encoding != "utf-8")  # letters are spelled
    if columns == 80 and encoding == "ascii":
        assert "zeta..." in text


def test_at_80_columns_means_and_flags_are_shown(monkeypatch, table):
    stream = Terminal(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        printing.print_frame(table, spare=SPARE)
    text = stream.text()
    _, left_out = text.split("left out, too wide here: ")
    assert {*left_out.replace(",", " ").split()} <= {*SPARE}
    words = text.split()
    for column in ("id_mean", "id_sem"):
        assert all(f"{value:.3f}" in words for value in table[column])
    assert table["flags"].any()
    assert {*table["flags"]} <= {*words, ""}
    assert "dataset array, estimator FO, batch_size 32" in text


def test_rows_that_are_all_alike(monkeypatch):
    stream = Terminal(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        printing.print_frame(pd.DataFrame({"a": [1, 1], "b": ["x", "x"]}))
    assert stream.text().split()[-4:] == ["1", "x", "1", "x"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_help_in_any_encoding(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with printing.standing_streams():
            assert cli._run(["sweep-id", "--help"]) == 0
    assert "zeta-mixup" in stream.buffer.getvalue().decode(encoding)


class Failing(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def isatty(self):
        return False


FULL = OSError(errno.ENOSPC, "No space left on device")
GONE = BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize(
    ("stream", "code", "said"),
    [
        (Failing(FULL), 1, "zmanifold: failed: the result cannot be printed (No space left"),
        (Failing(GONE), 141, ""),
        (None, 2, "stdout is closed and no file holds the result: name one with --out"),
    ],
)
@pytest.mark.parametrize(
    "command", [SWEEP, ["vicinity", "--train", "a.npz", "--test", "a.npz", "--k", "2"]]
)
def test_a_stdout_that_takes_nothing(run, monkeypatch, tmp_path, rng, command, stream, code, said):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=rng.normal(size=(9, 2)), y=np.arange(9) % 2)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert cli._run(command) == code
        kept = cli._run([*command, "--out", "run.csv"])
    assert kept == 0
    assert {"run.csv", "run.json"} <= {path.name for path in tmp_path.iterdir()}


def test_a_stdout_that_takes_nothing_is_told(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(FULL))
    with pytest.raises(typer.Exit) as ended:
        printing.print_line("accuracy 0.9")
    assert ended.value.exit_code == 1
    printing.print_line("accuracy 0.9", kept="run.json")
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(InputError, match="stdout is closed"):
        printing.check_shown(None)
    printing.check_shown(None, "run.csv")
    _, error = capsys.readouterr()
    assert error.splitlines() == [
        "zmanifold: failed: the result cannot be printed (No space left on device).",
        "zmanifold: stdout cannot be written (No space left on device): run.json holds the result.",
    ]


def test_files_are_there_whatever_becomes_of_stdout(tmp_path):
    """The streams of a process: closed, full, without a reader."""
    import_cost = [sys.executable, "-m", "zmanifold", "train", "digits", "--epochs", "1",
                   "--batch-size", "64", "--n-train", "128", "--out"]  # fmt: skip
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*import_cost, tmp_path / "gone.pt"], stdout=write, stderr=-1, text=True)
    os.close(write)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    closed = subprocess.run(
        [*import_cost, tmp_path / "closed.pt"],
        preexec_fn=lambda: os.close(1), stderr=-1, text=True,
    )  # fmt: skip
    assert closed.returncode == 0
    assert "stdout is closed" in closed.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"gone.pt", "gone.json", "closed.pt", "closed.json"}


def test_no_name_steers_a_terminal(run, tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    name = f"{HOSTILE.replace('/', '')}.npy"
    np.save(name, rng.normal(size=(40, 3)))
    shown = SHOWN.replace("/", "")
    for arguments in (
        ["sweep-id", name, "--neighbors", "39", "--seeds", "1", "--gamma", "0,1"],
        ["sweep-id", name, "--label-column", "1"],
        ["sweep-id", f"no-{name}"],
        ["sweep-id", "digits", "--mixer", HOSTILE],
        ["sweep-id", "digits", "--estimator", HOSTILE],
        ["sweep-id", "digits", f"--{HOSTILE}"],
        ["train", "digits", "--out", f"{HOSTILE}/x.pt"],
        [HOSTILE],
    ):
        _, out, error = run(*arguments)
        assert "\x1b" not in error
        assert "\u202e" not in error
        assert r"\x1b]0;owned" in error
        assert "\x1b" not in out or name.removesuffix(".npy") in out
    code, out, error = run(
        "sweep-id", name, "--neighbors", "4", "--seeds", "1", "--gamma", "0,1", "--out", "run.csv"
    )
    assert code == 0
    assert f"{shown}.npy: an array; no labels." in error


def test_a_bar_shows_a_name_as_it_stands(monkeypatch):
    stream = Terminal(monkeypatch, columns=120)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(True, 2, HOSTILE) as advance:
        advance(2)
    assert SHOWN in stream.text()
    assert "\x1b]0" not in stream.text()


def test_a_notebook_without_widgets_has_a_bar(monkeypatch, recwarn):
    """rich itself would warn, and show nothing."""
    from rich import console

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    with progress_bar(True, 2, "helix") as advance:
        advance(2)
    assert "helix" in stream.getvalue()
    assert "2/2" in stream.getvalue()
    assert not recwarn.list


@pytest.fixture
def cost(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    np.save("cost $^$.npy", rng.normal(size=(60, 3)))
    return ["sweep-id", "cost $^$.npy", "--neighbors", "8", "--seeds", "1", "--gamma", "0:2:1"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_dollar_signs_are_drawn(run, cost, tmp_path, ending):
    code, out, error = run(*cost, "--plot", f"p.{ending}")
    assert code == 0
    assert f"wrote p.{ending}" in error.splitlines()
    assert "cost $^$" in pd.read_csv(io.StringIO(out))["dataset"].unique()
    if ending == "svg":
        assert "cost $^$" in (tmp_path / "p.svg").read_text()


def test_a_failing_plot_leaves_the_table_whole(run, cost, tmp_path, monkeypatch):
    many = import_module("zmanifold.sweep.many")
    monkeypatch.setattr(many, "sweep_figure", lambda frame: 1 / 0)
    code, out, error = run(*cost, "--plot", "p.png")
    assert code == 1
    assert len(pd.read_csv(io.StringIO(out))) == 5
    last = (
        "failed: the plot 'p.png' failed (ZeroDivisionError: division by zero), the table is whole."
    )
    assert error.splitlines()[-1] == f"zmanifold: {last}"
    code, out, error = run(*cost, "--plot", "p.png", "--out", "t.csv")
    assert (code, len(pd.read_csv("t.csv"))) == (1, 5)
    assert last in error
    with pytest.raises(many.PlotFailed) as failed:
        many.sweep_many(
            [np.load("cost $^$.npy")], mixers=[None], n_neighbors=4, seeds=1, plot="p.png",
            progress=False,
        )  # fmt: skip
    assert len(failed.value.results[0].rows) == 1


@pytest.fixture
def near(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)

    def make(n_classes):
        y = np.array([f"$c{i}$^" for i in range(n_classes)])[np.arange(120) % n_classes]
        np.savez("n.npz", x=rng.normal(size=(120, 3)), y=y)
        return ["vicinity", "--train", "n.npz", "--test", "n.npz", "--out", "v.csv"]

    return make


def test_classes_beyond_the_colours_are_refused_before_the_work(run, near, tmp_path, monkeypatch):
    command = near(12)
    module = import_module("zmanifold.measures._vicinity")
    monkeypatch.setattr(module, "search", lambda *a, **k: pytest.fail("work has begun"))
    code, out, error = run(*command, "--embed", "v.png")
    assert (code, out) == (2, "")
    assert "labels has 12 classes but 10 colours can be told apart" in error
    assert [path.name for path in tmp_path.iterdir()] == ["n.npz"]


def test_a_failing_picture_leaves_the_table_whole(run, near, monkeypatch):
    command = near(3)
    embedding = import_module("zmanifold.measures._embedding")
    monkeypatch.setattr(embedding, "centred_in_float32", lambda *a: 1 / 0)
    code, out, error = run(*command, "--embed", "v.png")
    assert code == 1
    assert out.startswith("n_neighbors,")
    assert len(pd.read_csv("v.csv")) == 240
    assert error.splitlines()[-2:] == [
        "wrote v.csv, v.json",
        "zmanifold: failed: 'v.png' cannot be written (ZeroDivisionError: division by zero), all "
        "else is whole.",
    ]


def test_dollar_signs_of_classes_are_drawn():
    from matplotlib.figure import Figure
    from zmanifold.measures import Embedding

    embedding = Embedding(np.eye(4)[:, :2], np.zeros((1, 2)))
    figure = Figure()
    ax = plot_embedding(embedding, ["$^$", "_b", "$^$", "_b"], ["_b"], figure.add_subplot())
    figure.savefig(io.BytesIO())
    assert [text.get_text() for text in ax.texts] == [r"\$^\$", " _b"]


def test_the_home_folder_of_outputs_and_data(run, tmp_path, monkeypatch, rng):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.normal(size=(40, 3)))
    command = ["sweep-id", "~/x.npy", "--neighbors", "4", "--seeds", "1", "--mixer", "none"]
    code, _, error = run(*command, "--out=~/r.csv", "--plot=~/r.png")
    assert code == 0, error
    assert {path.name for path in tmp_path.iterdir()} == {
        "x.npy", "r.csv", "r.json", "r.journal", "r.png"
    }  # fmt: skip
    assert run("datasets", "--data-dir=~/no")[0] == 2
    assert run("datasets", "--data-dir=~")[0] == 0


def test_names_that_are_not_utf8_work_throughout(run, tmp_path, monkeypatch, rng):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    folder = Path(os.fsdecode(b"d\xe9"))
    for name in (b"a\xe9", b"b"):
        inside = folder / os.fsdecode(name)
        inside.mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 255, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(inside / f"{i}.png")
    for ending in ("csv", "parquet"):
        out = Path(os.fsdecode(b"v\xe9.") + ending)
        command = ["vicinity", "--train", folder, "--test", folder, "--out", out, "--overwrite"]
        code, _, error = run(*command)
        assert code == 0, error
        assert out.with_suffix(".json").exists()
    with out.open("rb") as file:
        assert r"count_a\xe9" in pd.read_parquet(file).columns
    model = Path(os.fsdecode(b"m\xe9.pt"))
    command = ["train", folder, "--epochs", "1", "--batch-size", "8", "--out", model]
    for options in ([], ["--resume"]):
        code, _, error = run(*command, *options)
        assert code == 0, error
    assert model.with_suffix(".json").exists()
    error.encode()


def test_on_a_real_terminal(tmp_path):
    """The command in a pseudo-terminal of latin-1 draws its table to the end."""
    leader, follower = pty.openpty()
    ran = subprocess.Popen(
        [sys.executable, "-m", "zmanifold", "mixers"], stdout=follower, stderr=follower,
        env=os.environ | {"PYTHONIOENCODING": "latin-1", "COLUMNS": "60", "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    text = b""
    with contextlib.suppress(OSError):  # of a terminal without writers
        while select.select([leader], [], [])[0] and (part := os.read(leader, 4096)):
            text += part
    os.close(leader)
    assert ran.wait() == 0
    assert b"zeta-mixup:" in text
    assert b"2024." in text
