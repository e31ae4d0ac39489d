"""Folders of class folders: their images, classes and splits, and the files that are skipped."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zmanifold._base.errors import InputError
from zmanifold._base.naming import listed, readable
from zmanifold.datasets.formats._streams import check_regular

__all__ = ["ImageFiles", "Splits", "find_images", "split_folders"]

# The endings of images that are decoded.
ENDINGS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp",
    ".pbm", ".pgm", ".ppm", ".pnm",
)  # fmt: skip

# Files and folders that operating systems and tools leave behind.
_REMAINS = {
    "__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information", "thumbs.db",
    "desktop.ini", "ehthumbs.db", "lost+found",
}  # fmt: skip

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class Splits:
    """The folders of the two parts of a data set.

    Attributes
    ----------
    train, test : Path
        Folders of class folders.
    unused : tuple of str
        Names of other files and folders beside them.
    """

    train: Path
    test: Path
    unused: tuple[str, ...]


@dataclass(frozen=True)
class ImageFiles:
    """The images below a folder of class folders.

    Attributes
    ----------
    classes : tuple of str
        The classes' names, in the order of their labels.
    labels : tuple of int
        One label for each file.
    files : tuple of Path
        The images.
    notes, skipped : tuple of str
        Decisions, and files that were left out, for `Reading`.
    """

    classes: tuple[str, ...]
    labels: tuple[int, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    skipped: tuple[str, ...]


def split_folders(root: Path) -> Splits | None:
    """Return the folders of a training and a test part, if there are both.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zmanifold.datasets.formats.folders import split_folders
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("train/cat", "val/cat"):
    ...         Path(folder, name).mkdir(parents=True)
    ...     split_folders(Path(folder)).test.name
    'val'
    """
    if not root.is_dir():
        return None
    entries = [p for p in sorted(root.iterdir()) if not _is_remains(p)]
    folders = {p.name.lower(): p for p in entries if p.is_dir()}
    train = next((folders[name] for name in _TRAIN if name in folders), None)
    tests = [folders[name] for name in _TEST if name in folders]
    if train is None or not tests:
        return None
    # A class may be called "train", beside other classes: its folder holds images, not folders.
    holds_folders = any(p.is_dir() and not _is_remains(p) for p in train.iterdir())
    if not holds_folders and not set(folders) <= {*_TRAIN, *_TEST}:
        return None
    others = [p.name for p in entries if p not in (train, tests[0])]
    unused = (f"{listed(others)} (beside {train.name} and {tests[0].name})",) if others else ()
    return Splits(train, tests[0], unused)


def find_images(root: Path) -> ImageFiles:
    """List the images of each class, in its folder and in folders below.

    Raises
    ------
    InputError
        If there are no images, a class has none, or one is not a regular file.
    """
    entries = sorted(root.iterdir(), key=lambda p: p.name)
    folders = [p for p in entries if p.is_dir() and not _is_remains(p)]
    known = set(folders)
    passed = [p for p in entries if p not in known]
    found: dict[str, list[Path]] = {}
    deep: list[str] = []
    for folder in folders:
        inside = list(_walk(folder, passed))
        found[folder.name] = inside
        if any(file.parent != folder for file in inside):
            deep.append(folder.name)
    if not any(found.values()):
        hint = _loose(passed)
        raise InputError(
            f"{readable(str(root))} holds no class folders with images ({', '.join(ENDINGS)})"
            f"{hint}: make one folder a class."
        )
    _check_classes(root, found, passed)
    _check_depth(root, found)
    notes = [f"images in folders below {listed(deep)}"] if deep else []
    twins = _twins(list(found))
    if twins:
        notes.append(f"classes {listed(twins)} differ in case or accents' form alone")
    pairs = [(label, file) for label, files in enumerate(found.values()) for file in files]
    for _, file in pairs:
        check_regular(file)
    return ImageFiles(
        tuple(map(readable, found)),
        tuple(label for label, _ in pairs),
        tuple(file for _, file in pairs),
        tuple(notes),
        tuple(_skipped(passed)),
    )


def _walk(folder: Path, passed: list[Path]) -> Iterator[Path]:
    """Yield the images in a folder and in folders below; append other files to `passed`."""
    seen = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        here = Path(place)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            # A link to a folder that was visited before.
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        passed += [here / name for name in inner if _is_remains(Path(name))]
        inner[:] = sorted(name for name in inner if not _is_remains(Path(name)))
        for name in sorted(names):
            file = here / name
            if _is_remains(file) or file.suffix.lower() not in ENDINGS:
                passed.append(file)
            else:
                yield file


def _is_remains(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _REMAINS


def _check_classes(root: Path, found: dict[str, list[Path]], passed: list[Path]) -> None:
    empty = [name for name, files in found.items() if not files]
    if not empty:
        return
    inside = [p.suffix.lower() or p.name for p in passed if root / empty[0] in p.parents]
    holds = f"only {listed(sorted(set(inside)))}" if inside else "nothing"
    raise InputError(
        f"{readable(str(root))} has the class folder{'s' * (len(empty) > 1)} {listed(empty)} "
        f"without an image that is read ({holds} in {readable(empty[0])}; images end in "
        f"{', '.join(ENDINGS)}): convert the images, or remove the folder."
    )


def _check_depth(root: Path, found: dict[str, list[Path]]) -> None:
    """Refuse a folder whose only class folder holds folders that look like the classes."""
    if len(found) > 1:
        return
    ((name, files),) = found.items()
    places = {file.relative_to(root / name).parts[0] for file in files}
    if len(places) > 1 and not any(file.parent == root / name for file in files):
        raise InputError(
            f"{readable(str(root))} holds the one folder {readable(name)!r}, with images in "
            f"{listed(sorted(places))}: give {readable(str(root / name))!r} if these are the "
            "classes."
        )


def _loose(passed: list[Path]) -> str:
    images = [p for p in passed if p.suffix.lower() in ENDINGS and not _is_remains(p)]
    return f", but {len(images)} image(s) outside of them" if images else ""


def _twins(names: list[str]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [name for twins in alike.values() if len(twins) > 1 for name in twins]


def _skipped(passed: list[Path]) -> Iterator[str]:
    kinds: dict[str, list[Path]] = {}
    for path in passed:
        image = path.suffix.lower() in ENDINGS
        why = "outside the class folders" if image else "no image that is read"
        kinds.setdefault("hidden or left by a system" if _is_remains(path) else why, []).append(
            path
        )
    for why, paths in kinds.items():
        yield f"{listed([p.name for p in paths], 4)} ({len(paths)} {why})"
