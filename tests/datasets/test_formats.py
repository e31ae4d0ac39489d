"""A file format that someone else wrote: found, read, named and refused as ours are."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold._base.registry import load_plugins
from zmanifold.datasets import Contents, Format, available_formats, register_format
from zmanifold.datasets.formats import registry

# Stands in docs/extending.md.
XYZ = '''
import numpy as np

from zmanifold.datasets import Format, register_format


def read(path):
    """Read the atoms of a molecule: their number, a comment, then an element and x, y, z a line."""
    n_atoms, _, *lines = path.read_text().splitlines()
    atoms = [line.split() for line in lines]
    if len(atoms) != int(n_atoms):
        raise ValueError(f"{n_atoms} atoms promised, {len(atoms)} there")
    return np.array([atom[1:] for atom in atoms], dtype=float), [atom[0] for atom in atoms]


register_format(Format("an .xyz molecule", (".xyz",), read))
'''

WATER = "3\nwater\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    """Formats of one test are not there in the next."""
    available_formats()
    ours = {
        ending: known
        for ending, known in registry._by_ending.items()
        if known.read.__module__.startswith("zmanifold.")
    }
    monkeypatch.setattr(registry, "_by_ending", ours)


@pytest.fixture
def molecule(tmp_path):
    exec(XYZ, {})
    return tmp_path / "water.xyz"


def test_a_format_from_outside(molecule):
    assert len(XYZ.strip().splitlines()) < 25
    molecule.write_text(WATER)
    loaded = zm.load_dataset(molecule)
    np.testing.assert_array_equal(loaded.points[:, 2], [0.12, -0.48, -0.48])
    assert loaded.named_labels().tolist() == ["O", "H", "H"]
    assert loaded.name == "water"
    assert len(zm.load_dataset(molecule, n_samples=2, random_state=0).points) == 2


def test_its_files_are_refused_in_a_sentence(molecule):
    molecule.write_text(WATER.replace("3", "4", 1))
    with pytest.raises(InputError, match=r"/water.xyz is not an .xyz molecule \(4 atoms promised"):
        zm.load_dataset(molecule)
    with pytest.raises(InputError, match=r"'missing.xyz' does not exist: give a file"):
        zm.load_dataset("missing.xyz")


def test_it_is_listed(molecule):
    assert "an .xyz molecule" in [known.name for known in available_formats()]
    other = molecule.with_suffix(".abc")
    other.touch()
    with pytest.raises(
        InputError,
        match=r"files end in .npy, .npz, .csv, .csv.gz, .tsv, .tsv.gz, .parquet, .xyz, or give",
    ):
        zm.load_dataset(other)


def test_a_format_that_is_registered_anew(tmp_path):
    for ending in (".raw", ".bin"):
        register_format(Format("a raw file", (ending,), np.loadtxt))
    (tmp_path / "a.raw").touch()
    with pytest.raises(InputError, match=r"ends in '.raw': files end in .*, .bin, or give"):
        zm.load_dataset(tmp_path / "a.raw")


def test_a_format_of_images(tmp_path):
    def read(path):
        pixels = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 12)
        return Contents(pixels, np.arange(len(pixels)) % 2, (3, 2, 2), ("no", "yes", "perhaps"))

    register_format(Format("a raw file", (".raw",), read))
    (tmp_path / "a.raw").write_bytes(bytes(range(60)))
    loaded = zm.load_dataset(tmp_path / "a.raw")
    assert loaded.image_shape == (3, 2, 2)
    assert loaded.class_names == ("no", "yes", "perhaps")
    assert loaded.labels.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (Contents(np.ones((4, 6)), None, (2, 2)), r"image_shape=\(2, 2\) for points of 6 values"),
        (
            Contents(np.ones((4, 6)), [0, 1, 2, 0], None, ("u", "v")),
            "y holds 0 to 2 but there are",
        ),
        (Contents([[1], [2, 3]]), "a: x has"),
        (np.ones(4), r"a: x has 1 dimension\(s\)"),
        ((1, 2, 3, 4, 5), "is not a raw file"),
    ],
)
def test_a_format_that_returns_nonsense(tmp_path, contents, message):
    register_format(Format("a raw file", (".raw",), lambda path: contents))
    (tmp_path / "a.raw").touch()
    with pytest.raises(InputError, match=message):
        zm.load_dataset(tmp_path / "a.raw")


@pytest.mark.parametrize(
    ("endings", "message"),
    [
        ((".csv",), "a raw file cannot have the ending '.csv', which is that of a .csv table"),
        (("raw",), "the ending 'raw' of a raw file must be a dot and lower-case"),
        ((".RAW",), "must be a dot and lower-case"),
        ((".raw.gz",), "must be a dot and lower-case"),
        ((), "a raw file has no endings"),
    ],
)
def test_endings(endings, message):
    with pytest.raises(InputError, match=message):
        register_format(Format("a raw file", endings, np.loadtxt))


def test_plugins(tmp_path, monkeypatch):
    """Modules that $ZMANIFOLD_PLUGINS names are imported where an ending is not one of ours."""
    (tmp_path / "some_words.py").write_text(
        "import numpy as np\n"
        "from zmanifold.datasets import Format, register_format\n"
        "register_format(Format('a table of words', ('.wordy',), np.loadtxt))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ZMANIFOLD_PLUGINS", "some_words")
    load_plugins.cache_clear()
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    zm.load_dataset(tmp_path / "a.npy")
    assert "some_words" not in sys.modules
    (tmp_path / "a.wordy").write_text("1 2\n3 4\n")
    loaded = zm.load_dataset(tmp_path / "a.wordy")
    np.testing.assert_array_equal(loaded.points, [[1, 2], [3, 4]])
    monkeypatch.setenv("ZMANIFOLD_PLUGINS", "no_such_module")
    load_plugins.cache_clear()
    with pytest.raises(InputError, match="the plugin 'no_such_module' cannot be imported"):
        zm.load_dataset(tmp_path / "a.unknown")
    load_plugins.cache_clear()
