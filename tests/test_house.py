"""The layout: imports go one way, public names are what they shall be, documents are in step."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import zmanifold as zm
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "zmanifold"

# A module imports from those before it only.
ORDER = [
    "errors", "chunking", "kernels", "multiplying", "progress", "parameters", "arrays", "mapped",
    "labels", "manifolds", "parquet", "readers", "datasets", "mixers.linear", "mixers.shuffles",
    "mixers.mixup", "mixers.zeta", "mixers", "mixers.by_name", "filtering", "halves", "sketches",
    "trees", "shortlists", "products", "neighbors", "approximate", "balls", "lanes", "inertia",
    "signs", "dimension", "provenance", "journal", "batches", "streams", "cells", "workers",
    "sweep", "vicinity", "metrics", "embedding", "storage", "networks", "classifiers", "plotting",
    "parsing", "cli", "__main__",
]  # fmt: skip

PUBLIC = {
    "make_crescents", "make_spirals", "make_helix", "make_paraboloid", "load_dataset", "Dataset",
    "Mixup", "ZetaMixup", "mix", "gamma_min", "gamma_from_lambda", "kneighbors", "LocalPCA",
    "local_spectra", "sweep_id", "SweepResult", "vicinity", "VicinityResult", "mixed_set",
    "mixed_set_metrics", "MixedSetMetrics",
}  # fmt: skip


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zmanifold"):
            base = node.module.removeprefix("zmanifold").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield inner if inner in ORDER else base


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_imports_go_one_way(path):
    name = module_name(path)
    if name == "":  # the package itself only re-exports
        return
    assert name in ORDER
    for other in imported(path):
        # The package's version may be asked for anywhere.
        assert other == "" or ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"


def test_public_names():
    assert set(zm.__all__) == PUBLIC
    assert set(dir(zm)) == PUBLIC | {"__version__"}
    assert all(getattr(zm, name).__doc__ for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zm.nothing


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, zmanifold; assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_version_everywhere():
    assert version("zmanifold") == zm.__version__
    assert f"version: {zm.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {zm.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_direct_dependency():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    needed = {canonicalize_name(Requirement(text).name) for group in groups for text in group}
    assert needed <= pinned
    assert all(line.startswith("#") or "==" in line for line in lines)


def test_the_readme_shows_figure_8s_table():
    readme = (ROOT / "README.md").read_text()
    assert (ROOT / "figures" / "figure_8.md").read_text() in readme
    table = json.loads((ROOT / "figures" / "figure_8_fashion-mnist.json").read_text())["table"]
    selected, mirrored = (
        row
        for row in table
        if row["seed"] is None and row["model"] == "zeta-2.8" and row["group"] != "all"
    )
    said = f"more in {selected['more']} of {selected['n_samples']} selected samples, "
    assert said + f"{selected['percent']:+.1f}% overall" in readme
    assert f"{mirrored['percent']:+.1f}% turned" in readme


def test_the_readmes_table_is_the_figures():
    sidecar = json.loads((ROOT / "figures" / "figure_6_fashion-mnist.json").read_text())
    readme = (ROOT / "README.md").read_text()
    table = (ROOT / "figures" / "figure_6_fashion-mnist.md").read_text()
    assert table in readme
    for row in sidecar["table"]:
        assert f"{row['original']:.2f} | {row['mixup']:.2f}" in table


def test_the_readme_tells_what_the_long_runs_measured():
    results = ROOT / "experiments" / "results"
    readme = (ROOT / "README.md").read_text()
    large = json.loads((results / "large.json").read_text())
    assert large["same_table"]
    for run in large["runs"].values():
        assert f"| {run['seconds']} | {run['peak_anonymous_mib']} MiB |" in readme
    fuzz = json.loads((results / "fuzz.json").read_text())
    assert sum(kind["cases"] for kind in fuzz["kinds"].values()) == fuzz["cases"]
    assert f"{fuzz['cases']:,} cases" in readme
