"""The layout: imports go one way, public names are those of the design, documents agree."""

from __future__ import annotations

import ast
import json
import re
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

# A wing imports public names and modules of those before it. Plain names are modules at
# the top of the package.
WINGS = [
    "_base", "storage", "datasets", "neighbors", "mixers", "dimension", "measures", "plotting",
    "sweep", "training", "report", "cli", "__main__",
]  # fmt: skip

# Those at the top that have no room of their own in a wing.
MOST_AT_THE_TOP = 8

PUBLIC = {
    "make_crescents", "make_spirals", "make_helix", "make_paraboloid", "load_dataset", "Dataset",
    "Mixup", "ZetaMixup", "mix", "gamma_min", "gamma_from_lambda", "kneighbors", "LocalPCA",
    "local_spectra", "make_mixer", "sweep_id", "SweepResult", "vicinity", "VicinityResult",
    "mixed_set", "mixed_set_metrics", "MixedSetMetrics",
}  # fmt: skip


PUBLIC_MODULES = {
    "datasets", "dimension", "measures", "mixers", "neighbors", "plotting", "sweep", "training",
}  # fmt: skip


def parts_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(path):
    """Return the modules and names that a file imports from this package, as tuples of parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            base = tuple((node.module or "").split("."))
            for alias in node.names if base[0] == "zmanifold" else ():
                yield (*base[1:], alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("zmanifold"):
                    yield tuple(alias.name.split(".")[1:])


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: ".".join(parts_of(p)))
def test_imports_go_one_way(path):
    wing, *_ = parts_of(path) or ("",)
    if wing == "":  # the package itself only re-exports names
        return
    for other in imported(path):
        if not other or other[0].startswith("__version"):
            continue
        name = ".".join(other)
        assert other[0] in WINGS, f"{path.name} imports {name}: import from the name's own wing"
        if other[0] == wing:
            continue
        assert WINGS.index(other[0]) < WINGS.index(wing), f"{wing} comes before {name}"
        private = [part for part in other[1:] if part.startswith("_")]
        assert not private, f"{wing} imports {name}, which is private to its wing"


def test_each_wing_says_what_it_is():
    for wing in PACKAGE.iterdir():
        if wing.is_dir() and wing.name != "__pycache__":
            said = ast.get_docstring(ast.parse((wing / "__init__.py").read_text())) or ""
            assert len(said.split()) > 20, f"{wing.name}/__init__.py: what comes in, what goes out?"
    assert len([*PACKAGE.glob("*.py")]) <= MOST_AT_THE_TOP


def test_public_names():
    assert set(zm.__all__) == PUBLIC | PUBLIC_MODULES
    assert set(dir(zm)) == PUBLIC | PUBLIC_MODULES | {"__version__"}
    assert all(getattr(zm, name).__doc__ for name in PUBLIC | PUBLIC_MODULES)
    with pytest.raises(AttributeError, match="nothing"):
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
    # Some means have a mark.
    plain = re.sub("[†‡]", "", table)
    for row in sidecar["table"]:
        assert f"{row['original']:.2f} | {row['mixup']:.2f}" in plain


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
