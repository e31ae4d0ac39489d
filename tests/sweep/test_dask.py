"""A Dask cluster on loopback gives the table that this process gives, even if workers are lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.sweep import dask as workers
from zmanifold.sweep import plan as sweep
from zmanifold.sweep.journal import Journal

from processes import call_after, cells_in, go_on, shell

# Dask is an extra, `zmanifold[distributed]`.
distributed = pytest.importorskip("distributed")
pytest.importorskip("cryptography")

pytestmark = [
    # Dask leaves threads and sockets open until the process ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MIXERS = [None, *(zm.ZetaMixup(gamma) for gamma in (0.0, 1.0, 2.8, 6.0))]
SETTINGS = {"mixers": MIXERS, "n_neighbors": (8, 20), "seeds": 2, "progress": False}


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + arguments[0], *map(str, arguments[1:])],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@contextlib.contextmanager
def cluster(folder, n_workers):
    """Start a scheduler and workers as separate processes, so that workers can be killed."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", file]
    host = ["--host", "127.0.0.1"]
    scheduler = started("dask_scheduler", *common, *host, "--port", 0, "--no-dashboard")

    def add():
        given = [*common, *host, "--nthreads", 1, "--no-nanny", "--no-dashboard"]
        return started("dask_worker", *given, "--local-directory", folder)

    processes = [add() for _ in range(n_workers)]
    try:
        with distributed.Client(scheduler_file=str(file), timeout=600) as client:
            client.wait_for_workers(n_workers, timeout=600)
            yield client, processes, add
    finally:
        for process in [*processes, scheduler]:
            process.kill()
            process.wait()


def numbers(result):
    return result.to_frame().drop(columns="seconds")


def killed(process):
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_lost_workers_change_nothing(tmp_path, monkeypatch):
    X = zm.make_helix(20_000, random_state=0)[0]
    serial = zm.sweep_id(X, **SETTINGS)
    # call_after replaces Journal.record; monkeypatch restores it after the test.
    monkeypatch.setattr(Journal, "record", Journal.record)
    with cluster(tmp_path, 2) as (client, processes, add):
        call_after(2, lambda: killed(processes[0]))
        one_left = zm.sweep_id(X, dask=client, journal=tmp_path / "a.journal", **SETTINGS)
        assert processes[0].poll() is not None
        assert len(client.scheduler_info()["workers"]) == 1
        pd.testing.assert_frame_equal(numbers(serial), numbers(one_left))
        # The data is lost with the last worker. The sweep waits for a new worker, which is started
        # then, and sends it the data again.
        call_after(2, lambda: killed(processes[1]))
        wait_for_workers = client.wait_for_workers

        def start_one(*given):
            processes.append(add())
            wait_for_workers(*given)

        monkeypatch.setattr(client, "wait_for_workers", start_one)
        with pytest.warns(UserWarning, match="no Dask worker is there: waiting for one"):
            none_left = zm.sweep_id(X, dask=client, journal=tmp_path / "b.journal", **SETTINGS)
        assert len(processes) == 3
        pd.testing.assert_frame_equal(numbers(serial), numbers(none_left))


def test_a_worker_lost_while_it_gets_the_data(tmp_path, monkeypatch):
    X = zm.make_helix(1000, random_state=0)[0]
    with cluster(tmp_path, 2) as (client, processes, _):
        # A stopped worker receives no data, but the scheduler still counts on it.
        processes[0].send_signal(signal.SIGSTOP)
        scatter = client.scatter

        def lose_it(*given, **options):
            threading.Timer(1, processes[0].kill).start()
            return scatter(*given, **options)

        monkeypatch.setattr(client, "scatter", lose_it)
        found = zm.sweep_id(X, dask=client, **SETTINGS)
        assert processes[0].wait() == -signal.SIGKILL
    pd.testing.assert_frame_equal(numbers(found), numbers(zm.sweep_id(X, **SETTINGS)))


def test_workers_on_this_machine(tmp_path, monkeypatch):
    """A file too large for memory is sent as its path; failures come back with their reasons."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(900, 30)).astype(np.float32))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    with workers.connected("local:2") as client:
        held = zm.sweep_id(X, dask=client, **SETTINGS)
        monkeypatch.setattr(sweep, "holds", lambda *_: False)
        streamed = zm.sweep_id(X, dask=client, **SETTINGS)
        monkeypatch.undo()
        pd.testing.assert_frame_equal(numbers(held), numbers(zm.sweep_id(X, **SETTINGS)))
        pd.testing.assert_frame_equal(numbers(held), numbers(streamed))
        mixers = {"whole": zm.Mixup(), "broken": FailsElsewhere(os.getpid())}
        with pytest.warns(RuntimeWarning, match="2 of 4 cells failed, the first with ValueError"):
            part = zm.sweep_id(X, dask=client, **SETTINGS | {"mixers": mixers, "seeds": 1})
        assert {failure["mixer"] for failure in part.failures} == {"broken"}
        assert part.failures[0]["reason"] == "ValueError: not here"
        assert {row["mixer"] for row in part.rows} == {"whole"}


class FailsElsewhere:
    def __init__(self, pid):
        self.pid = pid

    def __call__(self, x, y):
        if os.getpid() != self.pid:
            raise ValueError("not here")
        return x, y


@pytest.mark.parametrize("where", ["local:0", "local:", "local:-1", "here", "tcp://", "", 3, None])
def test_what_is_no_cluster_is_refused(where):
    with pytest.raises(InputError, match=r"is no cluster: give tcp://HOST:PORT"):
        workers.check_dask(where)


def test_no_answer_is_one_sentence(monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE", 0.3)
    with pytest.raises(InputError, match=r"no scheduler answers there \(.*\): give tcp://"):
        zm.sweep_id(np.eye(40), mixers=[None], n_neighbors=3, dask="tcp://127.0.0.1:1")


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'zmanifold\[distributed\]'"):
        workers.check_dask("local:2")


def test_a_local_cluster_admits_its_owner_alone():
    """Dask runs any function that a client sends: on a port of this machine, for every user."""
    with workers.connected("local:1") as client:
        assert client.submit(os.getpid).result() != os.getpid()
        info = client.scheduler_info()
        addresses = [info["address"], *info["workers"]]
        assert all(address.startswith("tls://") for address in addresses)
        others = [distributed.Security(), distributed.Security.temporary()]
        for security in others:
            for address in addresses[:1]:
                plain = address if security.require_encryption else address.replace("tls", "tcp")
                with pytest.raises((OSError, TimeoutError)):
                    distributed.Client(plain, security=security, timeout=2, set_as_default=False)
        # What it would tell of its work by HTTP.
        port = info["services"]["dashboard"]
        for page in ("json/counts.json", "info/main/workers.html", "metrics", "statics/js/x.js"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}")


def test_a_script_without_the_guard_is_told_in_one_sentence(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import zmanifold as zm\n"
        "zm.sweep_id(zm.make_helix(99)[0], mixers=[None], n_neighbors=8, dask='local:2')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    # A traceback of the one process, whose last line is the sentence.
    assert len(lines) < 30
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == [
        "Traceback (most recent call last)",
        "zmanifold._base.errors.InputError",
    ]
    assert lines[-1].endswith('work under if __name__ == "__main__":.')


def test_without_keys_no_local_cluster_is_started(monkeypatch):
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs cryptography, .* pip install"):
        zm.sweep_id(np.eye(40), mixers=[None], n_neighbors=3, dask="local:2")
    workers.check_dask("tcp://127.0.0.1:8786")


def test_two_clusters_beside_each_other():
    """The two use different ports: distributed would warn, and a warning is an error here."""
    with workers.connected("local:1") as one, workers.connected("local:1") as other:
        ports = {client.scheduler_info()["services"]["dashboard"] for client in (one, other)}
    assert len(ports) == 2
    assert 8787 not in ports


def test_ctrl_c_ends_the_workers(tmp_path):
    ran = shell(
        "sweep-id", "digits", "--gamma", "0:15:0.5", "--dask", "local:2",
        "--out", tmp_path / "a.csv", stop_after=4, start_new_session=True,
    )  # fmt: skip
    # A terminal sends SIGINT to every process of the command.
    os.killpg(ran.pid, signal.SIGINT)
    go_on(ran)
    _, error = ran.communicate()
    assert ran.returncode == 130, error
    assert error.count("\n") == 1
    assert "a.journal keeps what is finished, the same command with --resume goes on" in error
    assert cells_in(tmp_path / "a.journal") >= 4
    # The workers end later. They are no children of this process, which can only poll them.
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(ran.pid, 0)
            time.sleep(0.01)
