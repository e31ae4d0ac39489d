from __future__ import annotations

import json

import pytest
import zmanifold as zm
from zmanifold import storage
from zmanifold._base import files
from zmanifold._base.errors import InputError
from zmanifold.plotting import sweep_figure


@pytest.fixture
def result():
    X, _ = zm.make_helix(100, random_state=0)
    return zm.sweep_id(X, mixers=[None, zm.ZetaMixup()], n_neighbors=8, seeds=1, progress=False)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_results_are_as_readable_as_other_files(tmp_path):
    (tmp_path / "other").write_text("")
    files.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_figure_is_the_same_file_each_time(tmp_path, result, ending):
    for name in "ab":
        figure = sweep_figure(result.to_frame())
        storage.save_figure(figure, tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_bad_outputs(tmp_path):
    (tmp_path / "old.csv").write_text("")
    (tmp_path / "folder.csv").mkdir()
    for path, message in (
        (tmp_path / "a.xlsx", "unknown ending of the output '.xlsx'"),
        (tmp_path / "a", "unknown ending of the output 'a'"),
        (tmp_path / "no" / "a.csv", "does not exist: make it first"),
        (tmp_path / "old.csv" / "a.csv", "does not exist: make it first"),
        (tmp_path / "folder.csv", "is a folder"),
        (tmp_path / "old.csv", "exists: give --overwrite"),
    ):
        with pytest.raises(InputError, match=message):
            files.check_output(path, overwrite=False)
    files.check_output(tmp_path / "old.csv", overwrite=True)


def test_a_name_as_long_as_names_may_be(tmp_path):
    path = tmp_path / f"{'n' * 250}.json"
    files.check_output(path, (".json",), overwrite=False)
    files.write_json(path, {})
    assert path.exists()


def test_a_closed_folder_is_seen_before_the_work(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        files.check_output(tmp_path / "a.csv", overwrite=False)
