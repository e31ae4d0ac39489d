from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer

import gpu
import gpu_parts
import gpu_report
import gpu_tests
import gpu_timing
import table_4

ROOT = Path(__file__).parents[2]


def ran(out, *arguments):
    """Run the command with enough time for a busy machine, and return its output."""
    command = [sys.executable, ROOT / "experiments" / "gpu.py", "--out", out, *arguments]
    done = subprocess.run(
        [*command, "--tiny", "--budget", "9000"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()


def rows_of(found):
    return {name: row for part in found["parts"].values() for name, row in part["rows"].items()}


def test_every_part_runs_where_tensors_lie_apart(tmp_path):
    found, page = ran(tmp_path, "--device", "lazy")
    assert list(found["parts"]) == list(gpu.PARTS)
    assert {part["status"] for part in found["parts"].values()} == {"done"}
    rows = rows_of(found)
    assert not [row for row in rows.values() if "error" in row]
    assert rows["machine"]["name"] == "lazy"
    assert rows["machine"]["versions"]["torch"] == torch.__version__
    assert rows["tests"]["passed"] >= 16
    assert rows["tests"]["failed"] == len(rows["tests"]["failures"]) == 0
    for row in ("dimension", "neighbours", "sweep", "scikit-dimension"):
        assert rows[row]["seconds"] > 0
    for name in ("copy", *gpu_parts.MIXERS):
        assert all(rows[f"{name}-224"][kind] > 0 for kind in ("graph", "eager", "host", "copies"))
    assert {name for name in rows if name.startswith("table 4: ")} == {
        f"table 4: {name}" for name in table_4.MODELS
    }
    profiled = {row["of"] for row in rows.values() if "of" in row}
    assert profiled == {goal.row for goal in gpu_report.GOALS}
    assert all(section in page for section in (
        "# zmanifold on lazy", "## Tests", "## Mixers", "## Table 4", "## What holds the rows",
    ))  # fmt: skip
    assert page == gpu_report.to_markdown(found)


def test_chosen_parts_run_on_a_cpu(tmp_path):
    found, page = ran(tmp_path, "--device", "cpu", "--parts", "mixers,profile")
    assert list(found["parts"]) == ["machine", "mixers", "profile"]
    rows = rows_of(found)
    assert rows["zeta-32"]["copies"] == rows["zeta-32"]["graph"] / rows["copy-32"]["graph"]
    assert sum(rows["profile: mixup-224"]["groups"].values()) == pytest.approx(1)
    assert "aten::mm" in page


# --- a part that ends does not end the run ----------------------------------------------------


MACHINE = {"row": "machine", "name": "a GPU", "cuda": "13.0", "versions": {"torch": "2"}}


@pytest.fixture
def scripted(monkeypatch, tmp_path):
    """Return a run whose parts are scripts, in which `tell` and `job` are defined."""

    def run(*arguments, **scripts):
        start = (
            "import json, os, subprocess, sys, time\njob = json.loads(sys.argv[1])\n"
            "def tell(**row):\n    open(job['lines'], 'a').write(json.dumps(row) + '\\n')\n"
        )
        scripts = {"machine": f"tell(**{MACHINE!r})"} | scripts
        for name, text in scripts.items():
            (tmp_path / f"{name}.py").write_text(start + text)
        monkeypatch.setattr(gpu, "program", lambda part: tmp_path / f"{part}.py")
        out = tmp_path / "out"
        code = gpu.main(["--out", str(out), "--parts", ",".join(scripts), *arguments])
        return code, json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()

    return run


def test_a_part_that_hangs_is_stopped_with_what_it_started(scripted, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "PARTS", gpu.PARTS | {"mixers": 5})
    child = f"subprocess.Popen([sys.executable, '-c', {'import time; time.sleep(1e6)'!r}])"
    code, found, page = scripted(
        mixers=f"p = {child}\ntell(row='a', pid=p.pid)\ntell(row='b')\ntime.sleep(1e6)",
        dimension="tell(row='dimension', work='FO', seconds=0.88)",
    )
    assert code == 1
    assert found["parts"]["mixers"]["status"] == "stopped after 5 s"
    assert list(found["parts"]["mixers"]["rows"]) == ["a", "b"]
    assert found["parts"]["dimension"]["status"] == "done"
    assert "| dimension | at most 1 s | 0.88 s | yes |" in page
    stat = Path(f"/proc/{found['parts']['mixers']['rows']['a']['pid']}/stat")
    # A killed child may remain a zombie until the process that inherited it waits for it.
    with contextlib.suppress(FileNotFoundError):
        assert stat.read_text().split()[2] in "ZX"


def test_a_part_that_crashes_shows_its_log_and_keeps_its_rows(scripted):
    code, found, page = scripted(
        mixers="tell(row='copy-224', work='copy', shape=[2], eager=1e-6)\nraise ValueError('oh')",
        dimension="tell(row='dimension', work='FO', seconds=1.5)\nos._exit(7)",
    )
    assert code == 1
    assert found["parts"]["mixers"]["status"] == "failed with exit code 1"
    assert found["parts"]["dimension"]["status"] == "failed with exit code 7"
    assert "ValueError: oh" in page
    assert "| copy | [2] | – | 1.0 |" in page
    assert "| dimension | at most 1 s | 1.50 s | **no** |" in page


def test_a_later_line_of_a_row_counts_and_half_a_line_waits(scripted):
    lines = "tell(row='dimension', work='FO', seconds=9.0, note='the first call')\n"
    lines += "tell(row='dimension', work='FO', seconds=0.5)\nopen(job['lines'], 'a').write('{')"
    _, found, _ = scripted(dimension=lines)
    assert found["parts"]["dimension"]["rows"] == {"dimension": {"work": "FO", "seconds": 0.5}}


def test_what_misses_its_goal_is_profiled(scripted):
    _, found, page = scripted(
        dimension="tell(row='dimension', work='FO', seconds=0.9)",
        sweep="tell(row='sweep', work='a sweep', seconds=96.0)",
        profile="[tell(row=f'profile: {r}', of=r, holds='It does.') for r in job['rows']]",
    )
    assert list(found["parts"]["profile"]["rows"]) == ["profile: sweep"]
    assert "### sweep\n\nIt does." in page


def test_the_budget_ends_the_run(scripted):
    code, found, _ = scripted("--budget", "4", mixers="1 / 0")
    assert code == 1  # the machine is unknown
    assert found["parts"]["machine"]["status"] == "left out: the budget is spent"


def test_table_4_needs_data(scripted):
    code, found, _ = scripted(**{"table 4": "1 / 0"})
    assert code == 0
    assert found["parts"]["table 4"]["status"] == "left out: it needs --data"


def test_data_is_named_to_the_parts(scripted, tmp_path):
    script = "tell(row='a', data=os.environ['ZMANIFOLD_DATA'])"
    _, found, _ = scripted("--data", str(tmp_path), **{"table 4": script})
    assert found["parts"]["table 4"]["rows"]["a"]["data"] == str(tmp_path)


def test_what_is_missing_is_named(scripted, capsys):
    code, found, _ = scripted(machine="import a_package_that_is_not_here")
    assert code == 1
    assert list(found["parts"]) == ["machine"]
    printed = capsys.readouterr().out
    assert "No module named 'a_package_that_is_not_here'" in printed
    assert "give --wheels FOLDER" in printed


def test_without_a_gpu_a_sentence_says_so(scripted, capsys):
    code, _, _ = scripted(machine=f"tell(**{MACHINE | {'cuda': None}!r})", mixers="1 / 0")
    assert code == 1
    assert "torch finds no GPU here: give --device cpu --tiny" in capsys.readouterr().out


def test_wheels_come_before_what_is_installed(scripted, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "lazy_loader-99-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lazy_loader.py", "number = 99\n")
        info = "lazy_loader-99.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lazy_loader\nVersion: 99")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        wheel.writestr(f"{info}/RECORD", "")
    script = "import lazy_loader; tell(row='a', number=lazy_loader.number)"
    code, found, _ = scripted("--wheels", str(wheels), mixers=script)
    assert (code, found["parts"]["mixers"]["rows"]["a"]["number"]) == (0, 99)


def test_a_broken_wheel_leaves_the_run_to_what_is_installed(scripted, tmp_path, capsys):
    (tmp_path / "some-1-py3-none-any.whl").write_bytes(b"no zip")
    code, _, _ = scripted("--wheels", str(tmp_path), mixers="")
    assert code == 0
    assert "are left out: ERROR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "mixer"], "'mixer' is none of machine, tests"),
        (["--data", "/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_wrong_use(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.parsed(arguments)
    assert message in capsys.readouterr().err


# --- rows and goals --------------------------------------------------------------------------


def goals_of(rows):
    return {(goal.row, goal.asked): found for goal, found in gpu_report.judged(rows)}


def test_goals_compare_like_with_like():
    rows = {
        "dimension": {"seconds": 0.88},
        "scikit-dimension": {"seconds": 880.0},
        "sweep": {"seconds": 96.0},
        "zeta-224": {"copies": 2.39, "eager": 89e-6, "graph": 35e-6},
        "torchvision v2.MixUp-224": {"eager": 119e-6},
        "mixup-224": {"error": "RuntimeError"},
    }
    found = goals_of(rows)
    assert found["dimension", "at most 1 s"] == 0.88
    assert found["dimension", "500x as fast as scikit-dimension on the CPU"] == 1 / 1000
    assert found["zeta-224", "faster than torchvision v2.MixUp"] == pytest.approx(89 / 119)
    assert found["zeta-224", "faster than timm Mixup"] is None
    assert found["mixup-224", "at most 2 copies of the samples"] is None
    assert gpu_report.missed(rows) == ["sweep"]
    table = gpu_report.goals_table(rows)
    assert "| dimension | 500x as fast as scikit-dimension on the CPU | 1,000x | yes |" in table
    assert "| zeta-224 | faster than torchvision v2.MixUp | 1.34x as fast | yes |" in table
    assert "| sweep | at most 60 s | 96.00 s | **no** |" in table
    assert "| zeta-224 | faster than timm Mixup | – | – |" in table


@pytest.fixture
def job(tmp_path):
    """A tiny job on the CPU, and the rows that it has reported."""
    lines = tmp_path / "lines"
    lines.touch()
    given = gpu_parts.Job(
        "", "cpu", tiny=True, epochs=1, ends=time.time() + 60, lines=str(lines),
        scratch=str(tmp_path), out=str(tmp_path), rows=[],
    )  # fmt: skip
    return given, lambda: [json.loads(line) for line in lines.read_text().splitlines()]


def test_a_row_that_fails_says_why_and_the_next_one_is_measured(job, monkeypatch):
    def broken(x, y):
        raise RuntimeError("no kernel image\nis available")

    mixers = {"broken": broken, "mixup": gpu_parts.MIXERS["mixup"]}
    monkeypatch.setattr(gpu_parts, "MIXERS", mixers)
    gpu_parts.mixers(job[0])
    rows = {row["row"]: row for row in job[1]()}
    assert rows["broken-224"]["error"] == "RuntimeError: no kernel image is available"
    assert rows["broken-224"]["shape"] == [4, 3, 8, 8]
    assert rows["mixup-32"]["copies"] > 0


def test_eager_times_stay_where_no_graph_is_captured(job, monkeypatch):
    def graphed(self, call):
        raise RuntimeError("capture")

    monkeypatch.setattr(gpu_timing.Meter, "graphed", graphed)
    gpu_parts.mixers(job[0])
    last = {row["row"]: row for row in job[1]()}["zeta-224"]
    assert last["eager"] > 0
    assert last["error"] == "RuntimeError: capture"


def test_a_sweep_without_time_left_is_extrapolated(job, monkeypatch):
    swept = []
    monkeypatch.setattr(gpu_parts, "swept", lambda job, X, gammas: swept.append(len(gammas)))
    monkeypatch.setattr(gpu_parts, "strengths", lambda job: tuple(range(61)))
    # Three strengths take 3 s.
    monkeypatch.setattr(gpu_timing.Meter, "wall_seconds", lambda self, call: call() or 3.0)
    object.__setattr__(job[0], "ends", time.time() + 60)
    gpu_parts.sweep(job[0])
    assert swept == [1, 3]
    assert job[1]()[-1]["note"] == "extrapolated from 3 γ"
    assert job[1]()[-1]["seconds"] == 61
    object.__setattr__(job[0], "ends", time.time() + 90)
    gpu_parts.sweep(job[0])
    assert swept == [1, 3, 1, 3, 61]
    assert "note" not in job[1]()[-1]


def test_peers_mix_what_ours_do(job, monkeypatch):
    given = []

    def into_it(x, y):
        given.append(tuple(x.shape))
        return x.zero_(), y

    def absent(*_):
        raise ModuleNotFoundError("No module named 'skdim'")

    monkeypatch.setattr(gpu_parts.benchmark, "mixup_peers", lambda: {"timm Mixup": into_it})
    monkeypatch.setattr(gpu_parts.benchmark, "points_of", lambda name: torch.rand(50, 3).numpy())
    monkeypatch.setattr(gpu_parts.benchmark, "peers_seconds", absent)
    gpu_parts.peers(job[0])
    rows = {row["row"]: row for row in job[1]()}
    assert set(given) == set(gpu_parts.TINY_SHAPES.values())
    assert rows["timm Mixup-224"]["eager"] > 0
    assert "error" in rows["scikit-dimension"]


def test_without_files_images_are_drawn(job, monkeypatch):
    drawn = torch.rand(4, 3072).numpy()
    monkeypatch.setenv("ZMANIFOLD_DATA", "/nowhere")
    monkeypatch.setattr("zmanifold.datasets.named._DEBIAN_FOLDER", Path("/nowhere"))
    monkeypatch.setattr(gpu_parts.benchmark, "cifar_sized", lambda n: drawn)
    X, name = gpu_parts.images(job[0])
    assert (X.shape, name) == ((4, 784), "smooth random images")
    assert X[0, 0] == drawn[0, 2 * 32 + 2]


# --- clocks, kernels, tests ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "group"),
    [
        ("sm80_xmma_gemm_f64f64_f64f64_f64_tn_n_tilesize64x64x16", "float64 products"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_d884gemm_64x64>", "float64 products"),
        ("cutlass_80_simt_sgemm_256x128_8x4_nt_align1", "float32 products"),
        ("Memcpy HtoD (Pinned -> Device)", "copies from the host"),
        ("Memcpy DtoD (Device -> Device)", "elementwise work and copies"),
        ("void at::native::sbtopk::gatherTopK<float, unsigned int, 2>", "sorting and selection"),
        ("void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add>",
         "elementwise work and copies"),
        ("void at::native::reduce_kernel<512, 1, ReduceOp<double>>", "reductions"),
        ("_rows", "a kernel of our own"),
        ("_draw_pairs", "a kernel of our own"),
        ("_mix_pairs", "a kernel of our own"),
        ("aten::bmm", "products"),
        ("something else", "the rest"),
    ],
)  # fmt: skip
def test_kernels_are_grouped_by_what_they_do(kernel, group):
    assert gpu_timing.group_of(kernel) == group


def test_a_sentence_says_what_holds():
    rows = [("sgemm", 2, 0.2), ("Memcpy HtoD", 1, 0.2), ("sgemm_other", 1, 0.4)]
    found = gpu_timing.summed(1.0, rows)
    assert [kernel["name"] for kernel in found["kernels"]] == [
        "sgemm_other",
        "sgemm",
        "Memcpy HtoD",
    ]
    assert gpu_timing.what_holds(found) == (
        "Kernels fill 80% of the time: float32 products 75%, copies from the host 25%."
    )
    assert "40% of the time, so the host holds it" in gpu_timing.what_holds(
        gpu_timing.summed(2.0, rows)
    )
    assert "the host does the work" in gpu_timing.what_holds(gpu_timing.summed(1.0, []))


def test_a_gpus_clock_counts(monkeypatch):
    """Record the calls of torch.cuda in their order, on a simulated GPU."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def elapsed_time(self, stop):
            return 2.0

    class Stream:
        def wait_stream(self, other):
            log.append("wait")

    fake = {
        "Event": Event,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: log.append("replay")),
        "graph": lambda graph: contextlib.nullcontext(),
        "synchronize": lambda: log.append("synchronize"),
        "reset_peak_memory_stats": lambda: log.append("reset"),
        "memory_allocated": lambda: 100,
        "max_memory_allocated": lambda: 350,
    }
    for name, function in fake.items():
        monkeypatch.setattr(torch.cuda, name, function)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, device: empty(1))
    meter = gpu_timing.Meter("cuda", 3)

    def call():
        log.append("call")

    assert meter.seconds(call) == 2e-3
    assert log == ["record", "call", "record"] * 3 + ["synchronize"]
    log.clear()
    meter.graphed(call)()
    assert log == ["wait", "call", "call", "call", "wait", "synchronize", "call", "replay"]
    assert meter.peak_bytes(call) == 250
    assert meter.host_seconds(call) > 0
    kind = torch.autograd.DeviceType
    events = [
        SimpleNamespace(key="k", count=20, device_type=kind.CUDA, self_device_time_total=5.0),
        SimpleNamespace(
            key="cudaLaunch", count=20, device_type=kind.CPU, self_device_time_total=9.0
        ),
    ]
    profiler = SimpleNamespace(key_averages=lambda: events)
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: contextlib.nullcontext(profiler))
    assert meter.kernels(call) == 2


def test_outcomes_are_counted_and_failures_kept():
    told = []
    counter = gpu_tests.Counter(lambda **values: told.append(values))

    def report(node, when, outcome, text=""):
        return SimpleNamespace(
            nodeid=node, when=when, outcome=outcome, failed=outcome == "failed", longreprtext=text
        )

    for one in (
        report("a", "setup", "passed"),
        report("a", "call", "passed"),
        report("a", "teardown", "passed"),
        report("b", "setup", "skipped"),
        report("c", "call", "failed", "def test():\nE   AssertionError: 1 | 2\nE   more\nfile:3"),
        report("d", "setup", "failed", "no fixture"),
    ):
        counter.pytest_runtest_logreport(one)
    counter.pytest_collectreport(report("e.py", "collect", "failed", "E   No module named 'f'"))
    counter.write()
    assert told[-1] == {
        "passed": 1, "failed": 2, "skipped": 1,
        "failures": {"c": "AssertionError: 1 | 2", "d": "no fixture"},
        "not_collected": {"e.py": "No module named 'f'"},
    }  # fmt: skip
    page = gpu_report.tests_section(told[-1])
    assert "| 1 | 2 | 1 | 1 |" in page
    assert "- `c`: AssertionError: 1 / 2" in page


def test_the_tests_of_a_gpu_are_chosen_without_what_is_not_there(monkeypatch):
    monkeypatch.setattr(gpu_tests, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16))
    given = gpu_tests.arguments("cuda", tiny=False)
    assert given[given.index("-k") + 1] == "cuda or devices or gpu or triton"
    assert "-n" not in given
    assert str(ROOT / "tests" / "test_devices.py") in given
    monkeypatch.setattr(gpu_tests, "find_spec", lambda name: name)
    given = gpu_tests.arguments("cuda", tiny=False)
    assert given[-2:] == ["-n", "10"]


def test_one_model_alone_needs_a_place_for_its_checkpoint():
    with pytest.raises(typer.BadParameter, match="--checkpoints"):
        table_4.main(only=1)


def test_the_page_names_every_option_and_part(capsys):
    page = (ROOT / "docs" / "gpu.md").read_text()
    with pytest.raises(SystemExit, match="0"):
        gpu.parsed(["--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    assert options <= set(re.findall(r"--[a-z]+", page))
    named = re.findall(r"^\d\. \*\*([^*]+)\*\*", page, re.MULTILINE)
    assert ["machine", *named] == list(gpu.PARTS)


def test_no_file_hides_a_standard_module():
    """torch would import a `profile.py` beside the scripts instead of Python's module."""
    names = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert not names & set(sys.stdlib_module_names)
