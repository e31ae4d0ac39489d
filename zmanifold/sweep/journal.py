"""Journals: SQLite files to which each finished cell of a sweep is written at once."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from zmanifold._base.errors import InputError, shown
from zmanifold._base.files import expanded
from zmanifold._base.provenance import check_same_version

__all__ = ["Journal"]

# The errors of a damaged file. SQLite quotes the file in its messages, which Python may fail to
# decode. A size in the file that exceeds SQLite's limit is reported as a MemoryError without text.
_ERRORS = (sqlite3.Error, UnicodeDecodeError, MemoryError)

# SQLite's error codes of a full disk, and of a quota or a limit on the size of files.
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

# SQLite keeps two numbers for the program that writes a file: the application id, "zmid" in ASCII,
# and the version of the tables.
_APPLICATION = 0x7A6D6964
_VERSION = 3

# The statements that turn a file of each version into one of the next; version 0 is an empty file.
_STEPS = (
    f"""
    CREATE TABLE sweep (name TEXT PRIMARY KEY, settings TEXT NOT NULL);
    CREATE TABLE cell (
        sweep TEXT NOT NULL REFERENCES sweep, key TEXT NOT NULL, row TEXT NOT NULL,
        PRIMARY KEY (sweep, key)
    );
    PRAGMA application_id = {_APPLICATION};
    """,
    """
    CREATE TABLE failure (
        sweep TEXT NOT NULL REFERENCES sweep, key TEXT NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (sweep, key)
    );
    """,
    # The versions of this package that wrote to a sweep; 0.1.0 itself entered none.
    """
    CREATE TABLE writer (
        sweep TEXT NOT NULL REFERENCES sweep, version TEXT NOT NULL, PRIMARY KEY (sweep, version)
    );
    """,
)


def _tables(version: int) -> set[str]:
    """Return the statements that create the tables of a version."""
    statements = (text.split() for step in _STEPS[:version] for text in step.split(";"))
    return {" ".join(words) for words in statements if words[:1] == ["CREATE"]}


def _reason(error: Exception) -> str:
    return shown(getattr(error, "strerror", None) or error) or "SQLite has no memory for it"


class Journal:
    """A file of finished cells, and of the reasons of failed ones, from which a sweep resumes.

    Parameters
    ----------
    path : path
        An SQLite file, created if it does not exist. Several processes may use the same file:
        SQLite locks it, and a cell that two of them record has the same row.

    Raises
    ------
    InputError
        If the file is not a journal, is damaged, or has a later version than this package reads.

    Examples
    --------
    >>> import tempfile
    >>> from zmanifold.sweep.journal import Journal
    >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/run.journal") as journal:
    ...     journal.begin({"digits": {"batch_size": 32}})
    ...     journal.record("digits", "a cell", {"id_mean": 6.8})
    ...     journal.finished("digits")
    {'a cell': {'id_mean': 6.8}}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        with self._readable(), contextlib.ExitStack() as opening:
            # SQLite also writes a file of this name. exists() raises OSError if it is too long.
            Path(f"{self.path}-journal").exists()
            # With isolation_level None, transactions begin and end where this class says. A writer
            # waits up to 60 s for another process's transaction, which takes milliseconds.
            self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            opening.callback(self._database.close)
            self._check()
            opening.pop_all()

    def begin(self, sweeps: Mapping[str, Mapping[str, Any]]) -> None:
        """Begin sweeps, or resume those that were begun with the same settings.

        Parameters
        ----------
        sweeps : mapping of str to mapping
            For the name of each data set, the data and settings that all cells of its sweep
            share, as JSON takes them.

        Raises
        ------
        InputError
            If the journal has one of them with other settings, which the message names, or of a
            version of this package whose numbers may differ. No sweep is entered then. Also if
            the journal is damaged.
        """
        with self._readable(), self._transaction():
            for name, settings in sweeps.items():
                self._begin(name, settings)

    def finished(self, sweep: str) -> dict[str, dict[str, Any]]:
        """Return the finished cells of a sweep, as a mapping of key to row.

        Raises
        ------
        InputError
            If the journal is damaged.
        """
        rows = self._pairs("SELECT key, row FROM cell WHERE sweep = ?", sweep)
        return {key: self._mapping(row) for key, row in rows}

    def failures(self, sweep: str) -> dict[str, str]:
        """Return the cells of a sweep whose last computation failed, as a mapping of key to reason.

        Raises
        ------
        InputError
            If the journal is damaged.
        """
        return dict(self._pairs("SELECT key, reason FROM failure WHERE sweep = ?", sweep))

    def record(self, sweep: str, key: str, row: Mapping[str, Any]) -> None:
        """Store a finished cell; it is on disk when this method returns.

        Raises
        ------
        OSError
            If the journal cannot be written. The cells recorded before remain.
        """
        with self._writable(), self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO cell VALUES (?, ?, ?)", (sweep, key, json.dumps(dict(row)))
            )
            self._database.execute("DELETE FROM failure WHERE (sweep, key) = (?, ?)", (sweep, key))

    def record_failure(self, sweep: str, key: str, reason: str) -> None:
        """Store the reason for which a cell failed.

        Raises
        ------
        OSError
            If the journal cannot be written. The cells recorded before remain.
        """
        with self._writable(), self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", (sweep, key, reason)
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, sweep: str, settings: Mapping[str, Any]) -> None:
        text = json.dumps(dict(settings), sort_keys=True)
        self._database.execute("INSERT OR IGNORE INTO sweep VALUES (?, ?)", (sweep, text))
        query = "SELECT settings FROM sweep WHERE name = ?"
        found = self._database.execute(query, (sweep,)).fetchall()
        before, now = self._mapping(found[0][0] if found else None), json.loads(text)
        changed = [
            f"{shown(name, 40)}={before.get(name)!r:.60}, now {now.get(name)!r:.60}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if changed:
            # A damaged file can differ in any number of long entries: the message is bounded.
            raise InputError(
                f"the journal {str(self.path)!r} holds {sweep!r} with {'; '.join(changed[:9])}: go "
                "on with the same settings and data, or write to another name."
            )
        query = "SELECT version FROM writer WHERE sweep = ?"
        writers = [str(name) for (name,) in self._database.execute(query, (sweep,)).fetchall()]
        check_same_version(f"the journal {str(self.path)!r} holds {sweep!r}", writers)
        self._database.execute(
            "INSERT OR IGNORE INTO writer VALUES (?, ?)", (sweep, version("zmanifold"))
        )

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (*_ERRORS, OSError) as error:
            full = getattr(error, "sqlite_errorcode", 0) & 255 in _FULL
            remedy = "make room" if full else "remove the file if nobody needs it"
            raise InputError(
                f"the journal {str(self.path)!r} cannot be used ({_reason(error)}): give another "
                f"name, or {remedy}."
            ) from None

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise OSError(
                f"the journal {str(self.path)!r} cannot be written ({_reason(error)}): what it "
                "holds is safe, make room and go on."
            ) from None

    def _pairs(self, query: str, sweep: str) -> list[tuple[str, str]]:
        with self._readable():
            pairs = self._database.execute(query, (sweep,)).fetchall()
        # SQLite stores any value in any column.
        if not all(isinstance(value, str) for pair in pairs for value in pair):
            raise self._damaged("a value that is no text")
        return pairs

    def _mapping(self, text: object) -> dict[str, Any]:
        try:
            content = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self._damaged(f"{text!r:.60} instead of settings or a row")
        return content

    def _damaged(self, what: str) -> InputError:
        return InputError(
            f"the journal {str(self.path)!r} is damaged, it holds {what}: remove it, and measure "
            "again."
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit the statements of the context, or undo them all if it raises."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException:
            # SQLite itself rolls back where the disk is full.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _check(self) -> None:
        # EXTRA also syncs the folder, without which a loss of power could undo the last cell.
        self._database.execute("PRAGMA synchronous = EXTRA")
        # One transaction reads all, because another process may be creating the tables.
        self._database.execute("BEGIN")
        application, version = self._marks()
        # Tables, indices, views and triggers. SQLite's own indices have no statement.
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
        found = [" ".join(str(sql).split()) for (sql,) in self._database.execute(query).fetchall()]
        self._database.execute("COMMIT")
        if application != _APPLICATION and (application, version, found) != (0, 0, []):
            raise InputError(
                f"{str(self.path)!r} is a database of another program: give another name."
            )
        if version > _VERSION or version < 0:
            raise InputError(
                f"the journal {str(self.path)!r} has version {version}, this program reads up to "
                f"{_VERSION}: use the zmanifold that wrote it, or another name."
            )
        if sorted(found) != sorted(_tables(version)):
            # A view or a trigger would run SQL from the file when a table is read or written.
            raise self._damaged(f"other tables than those of version {version}")
        if version < _VERSION:
            with self._transaction():
                # Another process may have upgraded the file meanwhile.
                _, version = self._marks()
                for step in _STEPS[version:]:
                    for statement in step.split(";"):
                        self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {_VERSION}")

    def _marks(self) -> tuple[int, int]:
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        return application, version
