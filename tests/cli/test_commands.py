from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold.cli import app as cli
from zmanifold.cli import options as parsing
from zmanifold.sweep.plan import Sweep

COMMANDS = [
    "sweep-id", "train", "vicinity", "datasets", "mixers", "estimators", "measures",
]  # fmt: skip
FAST = ["--n-samples", "200", "--neighbors", "8", "--seeds", "1"]


def test_the_table_goes_to_a_pipe_as_csv(run):
    command = ["sweep-id", "helix-r3", "crescents", "--gamma", "0:4:2", "--batch-size", "20"]
    code, out, err = run(*command, *FAST)
    frame = pd.read_csv(pd.io.common.StringIO(out))
    assert code == 0
    # At γ = 0 every batch is one point.
    assert err.startswith("degenerate in 2 of 10 cells (the first helix-r3, zeta gamma=0, FO, k =")
    assert err.count("\n") == 1
    assert frame["dataset"].unique().tolist() == ["helix-r3", "crescents"]
    zeta = frame[(frame["mixer"] == "zeta") & (frame["dataset"] == "helix-r3")]
    assert zeta["gamma"].tolist() == [0.0, 2.0, 4.0]
    assert frame["mixer"].unique().tolist() == ["none", "mixup", "zeta"]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_files(run, tmp_path, ending):
    out, plot = tmp_path / f"run.{ending}", tmp_path / "run.png"
    command = ["sweep-id", "helix-r3", "--gamma", "2.4,4", *FAST, "--out", out, "--plot", plot]
    code, printed, _ = run(*command)
    assert code == 0
    assert printed == f"wrote {out}, {tmp_path / 'run.json'}, {plot}\n"
    settings = json.loads((tmp_path / "run.json").read_text())["sweeps"][0]
    assert settings["n_points"] == 200
    assert settings["device"] in ("cpu",) or settings["device"].startswith("cuda")
    assert plot.read_bytes().startswith(b"\x89PNG")
    before = out.read_bytes()
    code, _, err = run(*command)
    assert code == 2
    assert "exists: give --resume to go on, --overwrite to begin anew or another name" in err
    # Wrong input changes no file, even with --overwrite.
    assert run(*command, "--overwrite", "--batch-size", 1)[0] == 2
    assert out.read_bytes() == before
    assert (tmp_path / "run.journal").exists()
    code, _, err = run(*command, "--resume", "--batch-size", 16)
    assert code == 2
    assert "batch_size=32, now 16" in err
    assert run(*command, "--resume")[0] == 0
    # No cell was computed again: even the durations are those in the journal.
    assert out.read_bytes() == before
    assert run(*command, "--overwrite", "--batch-size", 16)[0] == 0


def test_own_files_and_all_mixers(run, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(60, 4)), y=rng.integers(0, 3, 60))
    code, out, _ = run(
        "sweep-id", tmp_path / "mine.npz", "--neighbors", "5,9", "--seeds", 2, "--gamma", 3,
        "--mixer", "none,mixup,zeta,zeta-anchored", "--n-mix", 4, "--alpha", 0.5,
        "--n-queries", 30, "--memory-limit", "64MiB", "--batch-size", 8,
    )  # fmt: skip
    frame = pd.read_csv(pd.io.common.StringIO(out))
    assert code == 0
    assert len(frame) == 4 * 2 * 2
    assert frame["n_queries"].unique().tolist() == [30]
    assert "zeta-anchored-T4" in set(frame["mixer"])


def test_what_is_finished_is_kept_when_a_later_data_set_fails(run, tmp_path, monkeypatch):
    from zmanifold.sweep.plan import Sweep

    whole = Sweep.run

    def fail_on_the_second(self, **kwargs):
        if self.name == "crescents":
            raise MemoryError("no room")
        return whole(self, **kwargs)

    monkeypatch.setattr(Sweep, "run", fail_on_the_second)
    out = tmp_path / "run.csv"
    code, _, err = run("sweep-id", "helix-r3", "crescents", *FAST, "--gamma", 2, "--out", out)
    assert code == 1
    assert err == "zmanifold: failed: MemoryError: no room\n"
    assert pd.read_csv(out)["dataset"].unique().tolist() == ["helix-r3"]


def test_datasets_are_listed(run, tmp_path):
    code, out, _ = run("datasets", "--data-dir", tmp_path)
    frame = pd.read_csv(pd.io.common.StringIO(out)).set_index("name")
    assert code == 0
    assert frame.loc["digits", "here"] == "yes"
    assert frame.loc["cifar10", "here"] == "no"
    assert "cifar-10-binary.tar.gz" in frame.loc["cifar10", "where"]
    assert "skdim:M7_Roll" in frame.index


@pytest.mark.parametrize(
    ("command", "wing"),
    [("mixers", "mixers"), ("estimators", "dimension"), ("measures", "measures")],
)
def test_registries_are_listed(run, command, wing):
    offered = importlib.import_module(f"zmanifold.{wing}.registry").available()
    code, out, err = run(command)
    assert (code, err) == (0, "")
    frame = pd.read_csv(pd.io.common.StringIO(out), keep_default_na=False)
    assert frame["name"].tolist() == [info.name for info in offered]
    assert frame["what"].tolist() == [info.summary for info in offered]
    for said, info in zip(frame["parameters"], offered, strict=True):
        assert said == ", ".join(f"{p.name}={p.default}" for p in info.parameters)


def test_flags_are_said_with_what_helps(run, tmp_path):
    command = ["sweep-id", "digits", "--n-samples", "300", "--mixer", "mixup", "--seeds", "2"]
    code, out, err = run(*command, "--neighbors", "8,31", "--batch-size", "150")
    assert code == 0
    frame = pd.read_csv(pd.io.common.StringIO(out))
    assert frame["flags"].tolist() == ["saturated;few-batches", "few-batches"] * 2
    saturated, few = err.splitlines()
    assert saturated == (
        "saturated in 2 of 4 cells (the first digits, mixup alpha=1, FO, k = 8, seed 0): more than "
        "a tenth of the points lie within 1 of k - 1, the most that k neighbours span: raise k "
        "(--neighbors)"
    )
    assert few.startswith("few-batches in 4 of 4 cells")
    code, out, err = run(*command, "--neighbors", "31", "--out", tmp_path / "a.csv")
    assert (code, out, err) == (0, f"wrote {tmp_path}/a.csv, {tmp_path}/a.json\n", "")


def test_mixers_may_be_given_apart(run):
    command = ["sweep-id", "helix-r3", "--gamma", "2", *FAST]
    code, apart, _ = run(*command, "--mixer", "none", "--mixer", "zeta,zeta-anchored")
    assert code == 0
    frame = pd.read_csv(pd.io.common.StringIO(apart))
    assert frame["mixer"].tolist() == ["none", "zeta", "zeta-anchored"]
    assert "mixer 'zeta' is given twice" in run(*command, "--mixer", "zeta", "--mixer", "zeta")[2]


@pytest.mark.parametrize("name", ["sweep-id", "train"])
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (cli._Terminated(), 143, "stopped"),
        (OSError("the disk is full."), 1, "failed: the disk is full"),
    ],
)
def test_what_stops_a_run_says_how_it_goes_on(run, monkeypatch, tmp_path, name, error, code, said):
    def stop(*args, **kwargs):
        error.__dict__.clear()
        raise error

    monkeypatch.setattr(Sweep, "run", stop)
    monkeypatch.setattr("zmanifold.training.loop.randomness", stop)
    out = tmp_path / ("a.csv" if name == "sweep-id" else "a.pt")
    found, printed, err = run(name, "digits", "--out", out)
    assert (found, printed) == (code, "")
    kept = {"sweep-id": f"{tmp_path}/a.journal keeps what is finished", "train":
            f"{out} keeps the finished epochs"}[name]  # fmt: skip
    remedy = "the same command with --resume goes on"
    middle = f": {kept}, {remedy}" if said == "stopped" else f"; {remedy}"
    assert err == f"zmanifold: {said}{middle}.\n"


@pytest.mark.parametrize(
    ("text", "gammas"),
    [
        ("0:15:5", [0, 5, 10, 15]),
        ("0:0.3:0.1", [0, 0.1, 0.2, 0.3]),
        ("1:2:0.7", [1, 1.7]),
        ("2.8", [2.8]),
        ("4, 2,4", [4, 2]),
        ("3:3:1", [3]),
    ],
)
def test_gamma_ranges(text, gammas):
    assert parsing.parse_gammas(text) == gammas


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 2**20), ("512MiB", 2**29), ("1.5 GB", 3 * 2**29), ("2g", 2**31)]
)
def test_sizes(text, size):
    assert parsing.parse_bytes(text) == size


def test_a_failure_is_exit_1(run, monkeypatch):
    from zmanifold.sweep import cells

    def fail(*args, **kwargs):
        raise RuntimeError("the solver\ngave up")

    monkeypatch.setattr(cells, "search", fail)
    code, out, err = run("sweep-id", "helix-r3", *FAST)
    assert (code, out) == (1, "")
    assert err == (
        "zmanifold: 18 of 18 cells failed, the first with RuntimeError: the solver gave up: "
        "give --out, and --resume runs just those.\n"
    )


@pytest.fixture
def sets(tmp_path):
    """Write two files that number their classes differently, since the test set lacks 'a'."""
    rng = np.random.default_rng(0)
    train_x, train_y = rng.normal(size=(60, 4)), np.array(["a", "b", "c"])[np.arange(60) % 3]
    test_x, test_y = rng.normal(size=(10, 4)), np.array(["b", "c"])[np.arange(10) % 2]
    np.savez(tmp_path / "train.npz", x=train_x, y=train_y)
    np.savez(tmp_path / "test.npz", x=test_x, y=test_y)
    soft = rng.dirichlet([1, 1, 1], 60)
    np.savez(tmp_path / "soft.npz", x=train_x, y=soft)
    np.savez(tmp_path / "codes.npz", x=test_x, y=np.arange(10) % 2 + 1)
    return tmp_path, (train_x, train_y, soft, test_x, test_y)


def test_vicinity_prints_means_and_writes_samples(run, sets):
    folder, (train_x, train_y, _, test_x, test_y) = sets
    expected = zm.vicinity(train_x, train_y, test_x, test_y, n_neighbors=(4, 9), metric="cosine")
    command = ["vicinity", "--train", folder / "train.npz", "--test", folder / "test.npz"]
    command += ["--k", "4,9", "--metric", "cosine", "--out", folder / "samples.parquet"]
    code, out, err = run(*command)
    *said, wrote = err.splitlines()
    assert (code, wrote) == (0, f"wrote {folder / 'samples.parquet'}, {folder / 'samples.json'}")
    assert said == [
        f"{folder / 'train.npz'}: an archive; features: array x; labels: array y (3 classes: a, b, "
        "c).",
        f"{folder / 'test.npz'}: an archive; features: array x; labels: array y (2 classes: b, c).",
    ]
    read = json.loads((folder / "samples.json").read_text())["read"]
    assert read["train"]["labels"] == "array y"
    assert read["test"]["classes"] == ["b", "c"]
    summary = pd.read_csv(pd.io.common.StringIO(out))
    pd.testing.assert_frame_equal(summary, expected.summary())
    frame = pd.read_parquet(folder / "samples.parquet")
    pd.testing.assert_frame_equal(frame, expected.to_frame(), check_dtype=False)
    settings = json.loads((folder / "samples.json").read_text())
    assert (settings["n_train"], settings["n_test"], settings["metric"]) == (60, 10, "cosine")
    assert settings["summary"][1]["n_same"] == pytest.approx(summary["n_same"][1])
    code, _, err = run(*command)
    assert code == 2
    assert "exists: give --overwrite" in err
    assert run(*command, "--overwrite")[0] == 0


def test_vicinity_of_soft_labels(run, sets):
    folder, (train_x, _, soft, test_x, _) = sets
    expected = zm.vicinity(train_x, soft, test_x, np.arange(10) % 2 + 1).summary()
    code, out, _ = run("vicinity", "--train", folder / "soft.npz", "--test", folder / "codes.npz")
    assert code == 0
    pd.testing.assert_frame_equal(pd.read_csv(pd.io.common.StringIO(out)), expected)


@pytest.mark.parametrize("lines", [[], ["--lines"]])
def test_vicinity_draws_an_embedding(run, tmp_path, lines):
    data = zm.load_dataset("digits", n_samples=220, random_state=0)
    np.savez(tmp_path / "train.npz", x=data.points[:200], y=data.labels[:200])
    np.savez(tmp_path / "test.npz", x=data.points[200:], y=data.labels[200:])
    command = ["vicinity", "--train", tmp_path / "train.npz", "--test", tmp_path / "test.npz"]
    command += ["--metric", "cosine", "--k", 128, "--embed", tmp_path / "tsne.png", *lines]
    code, _, err = run(*command)
    assert (code, err.splitlines()[2:]) == (0, [f"wrote {tmp_path / 'tsne.png'}"])
    assert (tmp_path / "tsne.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run(*command)
    assert code == 2
    assert "exists: give --overwrite" in err


def test_train_prints_the_accuracy_and_writes_all(run, tmp_path):
    out = tmp_path / "model.pt"
    command = ["train", "digits", "--mixer", "zeta", "--gamma", "2.8", "--epochs", "2", "--n-train",
               "300", "--batch-size", "50", "--out", out]  # fmt: skip
    code, printed, err = run(*command)
    assert (code, err) == (0, f"wrote {out}, {tmp_path / 'model.json'}\n")
    assert printed.startswith("accuracy 0.")
    assert " on 1497 test samples after " in printed
    content = json.loads((tmp_path / "model.json").read_text())
    assert f"{content['accuracy']:.4f}" in printed
    assert content["mixer"] == repr(zm.ZetaMixup(2.8))
    assert [row["epoch"] for row in content["history"]] == [1, 2]
    assert run(*command)[0] == 2
    assert run(*command, "--resume")[0] == 0
    assert run(*command, "--resume", "--gamma", "4")[0] == 2
    assert run(*command, "--overwrite", "--gamma", "4")[0] == 0


def test_vicinity_takes_the_splits_of_a_folder(run, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    code, out, _ = run("vicinity", "--train", tmp_path, "--test", tmp_path, "--k", 3)
    assert code == 0
    assert pd.read_csv(pd.io.common.StringIO(out))["n_samples"].tolist() == [4]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *[[command, "--help"] for command in COMMANDS]],
)
def test_help_does_not_wait_for_torch(arguments):
    code = (
        f"import sys; sys.argv = ['zmanifold', *{arguments!r}]\n"
        "from zmanifold.cli.app import _run\n"
        "code = _run(sys.argv[1:])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "zmanifold" in done.stdout
    if arguments == ["--help"]:
        assert all(command in done.stdout for command in COMMANDS)
    else:
        shown = done.stdout[done.stdout.index("For example:") :]
        assert f" zmanifold {arguments[0]}" in shown


def test_the_installed_command_and_its_exit_codes(tmp_path):
    def shell(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "zmanifold", *arguments], capture_output=True, text=True
        )

    assert shell("--version").stdout.startswith("zmanifold 0.")
    wrong = shell("sweep-id", "nothing-here")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("zmanifold: unknown data set")
    right = shell("sweep-id", "spirals", "--neighbors", "8", "--seeds", "1", "--gamma", "2")
    assert right.returncode == 0
    # In a pipe there is no progress bar.
    assert right.stderr == ""
    assert right.stdout.startswith("dataset,mixer,gamma")
